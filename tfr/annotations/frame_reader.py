"""A pandas DataFrame as an annotation table, for callers from Python."""

from collections.abc import Iterator

import pandas as pd

from tfr.annotations.base import Event, LabelSet, ReadOptions, Source
from tfr.annotations.columns import RowParser


def read_frame(frame: pd.DataFrame, options: ReadOptions) -> Iterator[Event]:
    """Yields the rows of a DataFrame; its columns are used as those of a CSV file, cells may be lists.

    Raises:
      AnnotationError: a column that is needed is missing, or a label cell cannot be read.
    """
    parser = RowParser([str(name) for name in frame.columns], options, "DataFrame")
    for number, values in enumerate(frame.itertuples(index=False, name=None), 1):
        yield parser.parse(values, Source("DataFrame", number))
    if parser.declared:
        yield LabelSet(parser.declared)
