"""Pascal VOC: the class lists of ImageSets/Main."""

import collections
import re
from collections.abc import Iterator

from tfr import files
from tfr.annotations import text_files
from tfr.annotations.base import Annotation, Event, LabelSet, ReadOptions, RejectedRow, Source
from tfr.annotations.voc_reader import image_prefix
from tfr.errors import AnnotationError

_LIST_NAME = re.compile(r"(.+)_(train|val|trainval|test)\.txt")


def read_voc_sets(path: str, options: ReadOptions) -> Iterator[Event]:
    """Yields the images of VOC's class lists.

    Shape: `ImageSets/Main/<class>_<split>.txt` below `path` (or `path` is that folder), lines `2008_000008 -1`: 1 is
    present, -1 absent, 0 unknown (only difficult objects); an image that a class's list leaves out is unknown for it.
    Lists of `trainval` are used only for classes without `train` and `val`; lists without a class are ignored.

    Raises:
      AnnotationError: no such lists, or an image in two splits.
    """
    lists = find_class_lists(path)
    if not lists:
        raise AnnotationError(f"{path}: no ImageSets/Main/<class>_<split>.txt in it.")
    classes = sorted({name for name, _ in lists})
    yield LabelSet(tuple(classes))
    flags: dict[str, dict[str, str]] = collections.defaultdict(dict)
    split_of: dict[str, str] = {}
    first: dict[str, Source] = {}
    for (name, split), file in sorted(lists.items()):
        for source, id_, flag in _read_list(file, options):
            if flag not in ("1", "-1", "0"):
                yield RejectedRow(source, "bad_label", f"the flag is {flag!r}; expected 1, -1 or 0", id_)
                continue
            if split_of.setdefault(id_, split) != split:
                raise AnnotationError(f"{source}: image {id_!r} is in split {split_of[id_]!r} already.")
            first.setdefault(id_, source)
            flags[id_][name] = flag
    prefix = image_prefix(options)
    for id_, found in flags.items():
        labels = tuple(name for name in classes if found.get(name) == "1")
        unknown = tuple(name for name in classes if found.get(name, "0") == "0")
        yield Annotation(id_, prefix + id_, labels, first[id_], unknown, split_of[id_])


def find_class_lists(path: str) -> dict[tuple[str, str], str]:
    """(class, split) to the path of its list, for the lists in a folder or in its ImageSets/Main."""
    folder = files.join(path, "ImageSets/Main") if files.is_dir(files.join(path, "ImageSets/Main")) else path
    matches = [match for name in files.list_names(folder) if (match := _LIST_NAME.fullmatch(name))]
    found = {(match[1], match[2]): files.join(folder, match[0]) for match in matches}
    finer = {name for name, split in found if split in ("train", "val")}
    return {key: file for key, file in found.items() if key[1] != "trainval" or key[0] not in finer}


def _read_list(file: str, options: ReadOptions) -> Iterator[tuple[Source, str, str]]:
    with text_files.open_text(file, options) as opened:
        for number, line in enumerate(opened, 1):
            id_, _, flag = line.strip().partition(" ")
            if id_:
                yield Source(file, number), id_, flag.strip()
