"""MIRFLICKR-25k: text files of image numbers, one a label."""

import re
from collections.abc import Iterator

from tfr import files
from tfr.annotations import text_files
from tfr.annotations.base import Annotation, Event, LabelSet, ReadOptions, RejectedRow, Source
from tfr.errors import AnnotationError

_IMAGE = re.compile(r"im(\d+)\.jpg")
_SALIENT = "_r1"
_FOLDERS = ("", "annotations", "mirflickr25k_annotations_v080")


def read_mirflickr(path: str, options: ReadOptions) -> Iterator[Event]:
    """Yields the images of MIRFLICKR-25k in the order of their numbers.

    Shape: `path` (or `annotations/` in it) has `<label>.txt`, each line the number N of an image `im<N>.jpg` that the
    label may fit ("potential"), and `<label>_r1.txt`, the images of them in which it is salient; README.txt is
    ignored. The images lie in the image folder or in `mirflickr/` below it; those that no file lists have no label.
    By `mirflickr_labels`: 'potential', the 24 labels; 'all', these and the 14 salient ones as labels of their own;
    'salient', the 14, of which one that is only potential is unknown; 'tags', the lines of `meta/tags/tags<N>.txt`
    beside the images. `keep_columns` may name folders of `meta/`, e.g. tags, license: the text of the image's file
    in it is kept.

    Raises:
      AnnotationError: there are no such files.
    """
    prefix, images = _list_images(options.images)
    lists, rejects = _read_lists(path, options)
    yield from rejects
    use_tags = options.mirflickr_labels == "tags"
    if not lists and not use_tags:
        raise AnnotationError(f"{path}: no <label>.txt with image numbers in it.")
    labels = {} if use_tags else _chosen(lists, options.mirflickr_labels)
    yield LabelSet(tuple(labels))
    potential = {name: lists.get(name, set()) for name in labels} if options.mirflickr_labels == "salient" else {}
    for number in sorted(images.union(*lists.values())):
        present = tuple(name for name, numbers in labels.items() if number in numbers)
        unknown = tuple(name for name, numbers in potential.items() if number in numbers and name not in present)
        if use_tags:
            present = tuple(
                dict.fromkeys(filter(None, map(str.strip, _meta("tags", number, prefix, options).splitlines())))
            )
        columns = {name: " ".join(_meta(name, number, prefix, options).split()) for name in options.keep_columns}
        image = f"im{number}.jpg"
        yield Annotation(image, prefix + image, present, Source(path, number), unknown, columns=columns)


def _list_images(folder: str | None) -> tuple[str, set[int]]:
    """What stands before 'im1.jpg' below the image folder, and the numbers of the images there."""
    if not folder or not files.is_dir(folder):
        return "", set()
    prefix = "mirflickr/" if files.is_dir(files.join(folder, "mirflickr")) else ""
    names = files.list_names(files.join(folder, prefix))
    return prefix, {int(match[1]) for name in names if (match := _IMAGE.fullmatch(name))}


def find_lists(path: str) -> str | None:
    """The folder of the label files: `path` or a folder in it."""
    candidates = [files.join(path, folder) if folder else path for folder in _FOLDERS]
    return next((found for found in candidates if files.is_dir(found) and _salient_files(found)), None)


def _salient_files(folder: str) -> list[str]:
    return [name for name in files.list_names(folder) if name.endswith(f"{_SALIENT}.txt")]


def _read_lists(path: str, options: ReadOptions) -> tuple[dict[str, set[int]], list[RejectedRow]]:
    """The numbers in each label's file, in the order of the names, and lines that are no number."""
    folder = find_lists(path) or path
    found = [name for name in files.list_names(folder) if name.endswith(".txt")]
    lists: dict[str, set[int]] = {}
    rejects = []
    for name in found:
        if name.lower().startswith("readme"):
            continue
        file = files.join(folder, name)
        numbers = lists.setdefault(name.removesuffix(".txt"), set())
        with text_files.open_text(file, options) as opened:
            for row, line in enumerate(opened, 1):
                if line.strip().isdecimal() and len(line) < 20:
                    numbers.add(int(line))
                elif line.strip():
                    rejects.append(
                        RejectedRow(Source(file, row), "malformed_row", f"{line.strip()[:60]!r} is no number")
                    )
    return lists, rejects


def _chosen(lists: dict[str, set[int]], mode: str) -> dict[str, set[int]]:
    if mode == "all":
        return lists
    if mode == "potential":
        return {name: numbers for name, numbers in lists.items() if not name.endswith(_SALIENT)}
    return {name.removesuffix(_SALIENT): numbers for name, numbers in lists.items() if name.endswith(_SALIENT)}


def _meta(name: str, number: int, prefix: str, options: ReadOptions) -> str:
    """The text of an image's file in a folder of `meta/`; empty where there is none."""
    file = files.join(options.images or "", f"{prefix}meta/{name}/{name}{number}.txt")
    if not files.exists(file):
        return ""
    return files.read_bytes(file).decode("utf-8", errors="replace")
