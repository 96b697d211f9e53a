"""Two pickles: image path to 0/1 vector, and label to column."""

import collections
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfr import files
from tfr.annotations.base import Annotation, Event, LabelSet, ReadOptions, RejectedRow, Source
from tfr.annotations.folder_reader import SPLIT_FOLDERS
from tfr.annotations.pickle_files import find_labels, load_pickle
from tfr.errors import AnnotationError

CLASSES_FILE = "classes_dict.p"


def read_pickles(path: str, options: ReadOptions) -> Iterator[Event]:
    """Yields the images of a pickled dict of label vectors.

    Shape: `all_y_labels.p` holds `{"Drama/tt01.jpg": array([1., 0., ...]), ...}`, `classes_dict.p` beside it (or
    `classes_file`) `{"Drama": 0, ...}`, the label of each place of a vector: 1 is present, 0 absent, NaN unknown.
    `path` is the first file, or a folder with both in it or in its `meta/`. The images are found by their last two
    parts below the image folder, in `images/train/<label>/` and `images/validation/<label>/` for example; a folder
    called train, validation, ... right above gives the split.

    Raises:
      AnnotationError: a pickle that is refused; a class table with gaps or repeats; vectors of another length.
    """
    path = find_labels(path) or path
    vectors = load_pickle(path)
    table = classes_file(path, options)
    names = _class_names(load_pickle(table), table)
    if not isinstance(vectors, dict) or not vectors:
        raise AnnotationError(f"{path}: expected a dict of image path to 0/1 vector, got {type(vectors).__name__}.")
    lengths = collections.Counter(np.size(vector) for vector in vectors.values())
    if len(names) not in lengths:
        raise AnnotationError(
            f"{path}: the vectors have {lengths.most_common(1)[0][0]} places, but {table} has {len(names)} "
            "classes. The two files do not belong together."
        )
    yield LabelSet(tuple(names))
    places = _places(options.images)
    for number, (key, vector) in enumerate(vectors.items(), 1):
        yield _from_vector(str(key), vector, names, places, Source(path, number))


def classes_file(path: str, options: ReadOptions) -> str:
    """The path of the class table: the one that is named, or the one beside the vectors."""
    return options.classes_file or files.join(path.rpartition("/")[0] or ".", CLASSES_FILE)


def _class_names(table: Any, file: str) -> list[str]:
    """Labels in the order of their columns."""
    try:
        columns = {str(name): int(column) for name, column in table.items()}
    except (AttributeError, TypeError, ValueError) as err:
        raise AnnotationError(f"{file}: expected a dict of label to column, got {type(table).__name__}.") from err
    counts = collections.Counter(columns.values())
    repeats = {column: sorted(n for n, c in columns.items() if c == column) for column in counts if counts[column] > 1}
    gaps = sorted(set(range(len(columns))) - set(counts))
    if repeats or gaps:
        raise AnnotationError(
            f"{file}: the columns must be 0 to {len(columns) - 1}, each once. Missing: {gaps[:10]}; several labels on "
            f"one column: {dict(list(repeats.items())[:5])}."
        )
    return sorted(columns, key=columns.__getitem__)


def _places(folder: str | None) -> dict[str, list[str]]:
    """The last two parts of every image's path ('Drama/tt01.jpg') to its paths below the image folder."""
    places: dict[str, list[str]] = collections.defaultdict(list)
    for image in files.list_images(folder) if folder and files.is_dir(folder) else ():
        places["/".join(image.path.split("/")[-2:])].append(image.path)
    return places


def _from_vector(
    key: str, vector: Any, names: list[str], places: dict[str, list[str]], source: Source
) -> Annotation | RejectedRow:
    flags = np.ravel(np.asarray(vector))
    if len(flags) != len(names):
        detail = f"a vector of {len(flags)} places where there are {len(names)} classes"
        return RejectedRow(source, "bad_label", detail, key)
    if flags.dtype.kind not in "biuf" or not np.all((flags == 0) | (flags == 1) | (flags != flags)):
        return RejectedRow(source, "bad_label", "a vector holds something other than 0, 1 and NaN", key)
    paths = places.get(key, [key])
    if len(paths) > 1:
        return RejectedRow(source, "ambiguous_image", f"can be any of {sorted(paths)}", key)
    parents = paths[0].split("/")[:-2]
    split = parents[-1] if parents and parents[-1].lower() in SPLIT_FOLDERS else None
    present = tuple(names[i] for i in np.flatnonzero(flags == 1))
    unknown = tuple(names[i] for i in np.flatnonzero(flags != flags))
    return Annotation(key, paths[0], present, source, unknown, split)
