"""Tables with types: pandas DataFrames, for callers from Python, and Parquet files."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pandas as pd

from tfr.annotations.base import Event, Note, ReadOptions, Source
from tfr.annotations.columns import RowOrReject, read_rows
from tfr.errors import AnnotationError

_ROWS_AT_ONCE = 10_000


def read_frame(frame: pd.DataFrame, options: ReadOptions) -> Iterator[Event]:
    """Yields the rows of a DataFrame; its columns are used as those of a CSV file, cells may be lists or arrays.

    Raises:
      AnnotationError: no DataFrame, or a column that is needed is missing.
    """
    if not isinstance(frame, pd.DataFrame):
        raise AnnotationError(f"Annotations are a path or a pandas DataFrame. Received: {type(frame).__name__}")
    names = [str(name) for name in frame.columns]
    used = [name for name in (options.id_column, options.image_column) if name in names]
    for name in used:  # by its place: the frame's own name may be a number
        if pd.api.types.is_float_dtype(frame.dtypes.iloc[names.index(name)]):
            yield Note(
                f"DataFrame: column {name!r} holds floating-point numbers, so that an id such as 00123 or 1e5 is no "
                "longer what it was; read the table with dtype=str"
            )
    yield from read_rows(names, _frame_rows(frame), options, "DataFrame")


def _frame_rows(frame: pd.DataFrame) -> Iterator[RowOrReject]:
    for start in range(0, len(frame), _ROWS_AT_ONCE):
        part = frame.iloc[start : start + _ROWS_AT_ONCE]
        columns = [_plain(part.iloc[:, i]) for i in range(part.shape[1])]
        for number, values in enumerate(zip(*columns, strict=True), start + 1):
            yield Source("DataFrame", number), values


def _plain(column: pd.Series) -> list[Any]:
    """A column's cells as Python values; pandas.NA, which refuses to be compared, as None."""
    return [None if value is pd.NA else value for value in column.tolist()]


def read_parquet(
    path: str, options: ReadOptions, *, image_prefix: str = "", split: str | None = None
) -> Iterator[Event]:
    """Yields the rows of a Parquet file, read batch by batch; columns may hold lists.

    Shape: a column of image paths or ids, and label columns as in CSV or of lists of text; a null is unknown.
    Columns of structs, such as images stored in the table, are left out.

    Args:
      path: the file.
      options: which columns to use.
      image_prefix, split: see `columns.read_rows`.

    Raises:
      AnnotationError: not a Parquet file, or a column that is needed is missing.
    """
    with open_parquet(path) as (names, rows):
        yield from read_rows(names, rows, options, path, image_prefix=image_prefix, split=split)


@contextlib.contextmanager
def open_parquet(path: str) -> Iterator[tuple[list[str], Iterator[RowOrReject]]]:
    """The names of a Parquet file's columns, and its rows while it is open; see `read_parquet`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            # Images that are stored in the table itself are not read: only paths are.
            wanted = [name for name in names if not pa.types.is_struct(file.schema_arrow.field(name).type)]
            yield wanted, _parquet_rows(file, wanted, path)
    except pa.ArrowInvalid as err:
        raise AnnotationError(f"{path}: cannot be read as Parquet: {err}.") from err


def _parquet_rows(file: Any, names: list[str], path: str) -> Iterator[RowOrReject]:
    number = 0
    for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=names):
        for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            number += 1
            yield Source(path, number), values
