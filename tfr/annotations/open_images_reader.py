"""Open Images: image-level labels as CSV, with a confidence."""

import csv
from collections.abc import Iterator

from tfr import files
from tfr.annotations import text_files
from tfr.annotations.base import Annotation, Event, Note, ReadOptions, RejectedRow, Source
from tfr.annotations.csv_reader import grouped, table_rows
from tfr.errors import AnnotationError

_COLUMNS = ("ImageID", "LabelName", "Confidence")


def read_open_images(path: str, options: ReadOptions) -> Iterator[Event]:
    """Yields the images of an Open Images CSV file of image-level labels.

    Shape: `ImageID,Source,LabelName,Confidence`, one line a label, the lines of an image together, as in the
    published files; lines of it further down become a row of their own, with the same id. Confidence 1 is present,
    0 verified absent, a fraction is machine-made: present from `min_confidence` on, else unknown. A label that is not
    listed is unknown. Labels such as `/m/06ht1` are named by `classes_file` (`/m/06ht1,Room`, no header), or by a file
    `*class-descriptions*.csv` beside. The image is the file whose name without extension is the ImageID.

    Raises:
      AnnotationError: a column is missing, or the class descriptions are unusable.
    """
    names = _read_names(path, options)
    with text_files.open_text(path, options) as file:
        header, rows = table_rows(file, path, options.delimiter)
        header = [name.strip() for name in header]
        missing = [name for name in _COLUMNS if name not in header]
        if missing:
            raise AnnotationError(f"{path}: not Open Images: no columns {missing}. The columns are: {header}.")
        id_at, name_at, confidence_at = map(header.index, _COLUMNS)
        nameless: set[str] = set()
        for group in grouped(rows, id_at):
            if isinstance(group, RejectedRow):
                yield group
                continue
            labels = [(cells[name_at].strip(), cells[confidence_at]) for _, cells in group]
            nameless.update(code for code, _ in labels if names and code not in names)
            source, cells = group[0]
            yield _from_lines(cells[id_at].strip(), source, [(names.get(m, m), c) for m, c in labels], options)
    if nameless:
        yield Note(
            f"{path}: {len(nameless)} classes have no description, e.g. {min(nameless)!r}; they keep their codes"
        )


def _from_lines(
    id_: str, source: Source, labels: list[tuple[str, str]], options: ReadOptions
) -> Annotation | RejectedRow:
    present: dict[str, None] = {}
    unknown: dict[str, None] = {}
    absent: dict[str, None] = {}
    for name, text in labels:
        try:
            confidence = float(text)
        except ValueError:
            confidence = -1.0
        if not 0 <= confidence <= 1:
            return RejectedRow(source, "bad_label", f"confidence {text!r} of {name!r} is no number from 0 to 1", id_)
        chosen = present if confidence >= options.min_confidence else unknown if confidence else absent
        chosen[name] = None
    return Annotation(
        id_,
        id_,
        tuple(present),
        source,
        unknown=tuple(name for name in unknown if name not in present),
        absent=tuple(name for name in absent if name not in present and name not in unknown),
    )


def _read_names(path: str, options: ReadOptions) -> dict[str, str]:
    """Codes to names; empty where there is no class file."""
    found = classes_file(path, options)
    if found is None:
        return {}
    if not files.exists(found):
        raise AnnotationError(f"No classes file at {found}.")
    names: dict[str, str] = {}
    with text_files.open_text(found, options) as file:
        for number, row in enumerate(csv.reader(file), 1):
            if len(row) < 2:
                raise AnnotationError(f"{found}:{number}: expected a code and a name, e.g. /m/06ht1,Room.")
            names[row[0].strip()] = row[1].strip()
    return names


def classes_file(path: str, options: ReadOptions) -> str | None:
    """The path of the class descriptions: those that are named, or the only ones beside the file."""
    if options.classes_file:
        return options.classes_file
    folder, slash, _ = path.rpartition("/")
    folder = folder or ("/" if slash else ".")
    found = [name for name in files.list_names(folder) if "class-descriptions" in name and name.endswith(".csv")]
    return files.join(folder, found[0]) if len(found) == 1 else None
