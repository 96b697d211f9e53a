"""A run file to start from, written by a look at the annotations."""

import os
from collections.abc import Iterator

import yaml

from tfr import files
from tfr.annotations import first_rows, formats
from tfr.annotations.first_rows import Table
from tfr.errors import UsageError

_FILES_TO_LOOK_AT = 20_000


def make(annotations: str, images: str | None = None, folder: str | None = None) -> str:
    """The text of a run file for annotations: what is sure as settings, what is a guess with a comment.

    Args:
      annotations: the annotation file or folder.
      images: the image folder; default: one beside the annotations that holds an image of the first rows.
      folder: where the run is to write.

    Raises:
      AnnotationError: there is no such file, or its format cannot be told.
    """
    format_, reason = formats.detect_format(annotations)
    table = None if files.is_dir(annotations) else first_rows.look(annotations, format_)
    images = images or (_find_images(annotations, table) if table else None)
    folder = folder or os.path.splitext(os.path.basename(annotations.rstrip("/")))[0] + "_tagger"
    lines = [
        "# From annotations and images to a measured image tagger:  tfr run THIS_FILE",
        "# Keys below a command are its flags; `tfr convert --help` and so on list them. Paths are relative to the",
        "# folder in which tfr is called. What stands behind # is not in effect.",
        "",
        f"dir: {_plain(folder)}  # everything that is made goes here",
        "",
        "convert:",
        f"  annotations: {_plain(annotations)}",
        f"  format: {format_}  # {reason}",
        *_image_lines(images, annotations),
        *(_column_lines(table) if table else ()),
        "  # min_label_count: 20  # leave out labels on fewer images",
        "  # splits: train=0.8,validation=0.1,test=0.1  # of rows whose split the annotations do not name",
        "",
        "train:",
        "  # epochs: 40  # at most; it ends when it stops becoming better",
        "  # finetune_epochs: 5  # trains the whole network afterwards: mostly better, and much longer",
        "",
        "evaluate:",
        "  # split: test",
        "",
        "report:",
        "",
    ]
    return "\n".join(lines)


def write(path: str, text: str) -> None:
    """Writes a run file where there is none yet.

    Raises:
      UsageError: there is a file.
    """
    if files.exists(path):
        raise UsageError(f"{path} is there already. Remove it, or give another --init.")
    files.write_text(path, text)


def _plain(*values: str) -> str:
    """A value as YAML, or a list of several."""
    value = values[0] if len(values) == 1 else list(values)
    return (
        yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000).removesuffix("...\n").strip()
    )


def _image_lines(images: str | None, annotations: str) -> Iterator[str]:
    if images is not None:
        yield f"  images: {_plain(images)}"
    else:
        folder = annotations if files.is_dir(annotations) else os.path.dirname(annotations) or "."
        yield f"  # images: FOLDER  # default: {folder}"


def _column_lines(table: Table) -> Iterator[str]:
    yield f"  # The columns: {', '.join(table.names[:40])}{', ...' if len(table.names) > 40 else ''}"
    if table.image:
        yield f"  image_column: {_plain(table.image)}{_example(table, table.image)}"
    elif table.id:
        yield f"  id_column: {_plain(table.id)}{_example(table, table.id)}"
    else:
        yield "  image_column: COLUMN  # which one names the image?"
    if table.labels is None:
        yield "  label_columns: [COLUMN]  # which ones hold the labels?"
    else:
        yield f"  label_columns: [{_plain(table.labels)}]{_example(table, table.labels)}"
    for other in table.other_labels:
        yield f"  # label_columns: [{_plain(other)}]{_example(table, other)}"
    if table.label_delimiter:
        yield f"  label_delimiter: {_plain(table.label_delimiter)}"
    if table.split:
        yield f"  split_column: {_plain(table.split)}{_example(table, table.split)}"
    yield "  # where: \"type == 'product' and year > 1990\"  # keep rows that meet a condition on their columns"


def _example(table: Table, column: str) -> str:
    if column not in table.names:
        return "  # columns of 0 and 1"
    sample = " ".join(table.sample(column).split())
    return f"  # such as {sample[:60]}" if sample else ""


def _find_images(annotations: str, table: Table) -> str | None:
    """The folder beside the annotations with an image of the first rows; None where it is their own, or none is."""
    column = table.image or table.id
    if column is None:
        return None
    index = table.names.index(column)
    wanted = {os.path.splitext(os.path.basename(str(row[index])))[0] for row in table.rows}
    here = os.path.dirname(annotations)
    folders = [files.join(here, name) for name in files.list_names(here or ".") if name.endswith("/")]
    for folder in folders:
        for number, image in enumerate(files.list_images(folder)):
            if os.path.splitext(os.path.basename(image.path))[0] in wanted:
                return folder.rstrip("/")
            if number == _FILES_TO_LOOK_AT:
                break
    return None
