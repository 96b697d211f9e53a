"""Folders with a table beside the images: Hugging Face imagefolder metadata, and Roboflow's _classes.csv."""

import dataclasses
from collections.abc import Iterator

from tfr import files
from tfr.annotations import csv_reader, jsonl_reader, text_files
from tfr.annotations.base import Event, ReadOptions
from tfr.annotations.folder_reader import SPLIT_FOLDERS
from tfr.errors import AnnotationError

METADATA_FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
CLASSES_FILE = "_classes.csv"


def read_imagefolder(path: str, options: ReadOptions) -> Iterator[Event]:
    """Yields the rows of Hugging Face imagefolder metadata.

    Shape: `metadata.csv`, `.jsonl` or `.parquet` with a column `file_name`, the image's path relative to it, in the
    folder `path`, or one in each of its split folders, or `path` is such a file. Other columns are free: labels are
    found as in any table. A folder called train, validation, ... gives the split. List-valued columns may occur in
    JSONL and Parquet.

    Raises:
      AnnotationError: there is no such file, or a column is missing.
    """
    options = dataclasses.replace(options, image_column=options.image_column or "file_name")
    for table, prefix, split in _tables(path, METADATA_FILES):
        if table.endswith(".csv"):
            yield from csv_reader.read_csv(table, options, image_prefix=prefix, split=split)
        elif table.endswith(".jsonl"):
            yield from jsonl_reader.read_jsonl(table, options, image_prefix=prefix, split=split)
        else:
            from tfr.annotations import frame_reader  # imports pandas

            yield from frame_reader.read_parquet(table, options, image_prefix=prefix, split=split)


def read_roboflow(path: str, options: ReadOptions) -> Iterator[Event]:
    """Yields the rows of Roboflow's multi-label export.

    Shape: `<split>/_classes.csv` with the splits train, valid and test, or one such file: the first column is the
    file name beside it, all further ones are 0 or 1 for a label each; headers may carry leading blanks.

    Raises:
      AnnotationError: there is no such file, or it has no label column.
    """
    for table, prefix, split in _tables(path, (CLASSES_FILE,)):
        with text_files.open_text(table, options) as file:
            header, _ = csv_reader.table_rows(file, table, options.delimiter or ",")
        names = [name.strip() for name in header]
        if len(names) < 2:
            raise AnnotationError(f"{table}: expected a file name and label columns, found the columns {names}.")
        chosen = dataclasses.replace(
            options,
            delimiter=options.delimiter or ",",
            image_column=names[0],
            label_columns=options.label_columns or tuple(names[1:]),
            label_encoding="one_hot",
        )
        yield from csv_reader.read_csv(table, chosen, image_prefix=prefix, split=split)


def _tables(path: str, names: tuple[str, ...]) -> list[tuple[str, str, str | None]]:
    """(file, image prefix, split) of each table: the file itself, in the folder, or in its folders."""
    if not files.is_dir(path):
        folder = path.rpartition("/")[0].rpartition("/")[2]
        return [(path, "", folder if folder.lower() in SPLIT_FOLDERS else None)]
    found = find_tables(path, names)
    if not found:
        raise AnnotationError(f"{path}: none of {', '.join(names)} in it or in its split folders.")
    result: list[tuple[str, str, str | None]] = []
    for table in found:
        folder = table.rpartition("/")[0]
        split = next((part for part in folder.split("/") if part.lower() in SPLIT_FOLDERS), None)
        result.append((files.join(path, table), f"{folder}/" if folder else "", split))
    return result


def find_tables(path: str, names: tuple[str, ...]) -> list[str]:
    """The tables in a folder or, where it has none, in its split folders; relative to the folder."""
    if here := [name for name in names if files.exists(files.join(path, name))]:
        return here[:1]
    folders = [name for name in files.list_names(path) if name.endswith("/") and name[:-1].lower() in SPLIT_FOLDERS]
    below = [[folder + name for name in names if files.exists(files.join(path, folder + name))] for folder in folders]
    return [tables[0] for tables in below if tables]
