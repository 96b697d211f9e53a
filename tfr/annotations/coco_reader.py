"""COCO JSON: the tags of an image are the categories of its annotations."""

import collections
from collections.abc import Iterator
from typing import Any

from tfr.annotations import cells, text_files
from tfr.annotations.base import Annotation, Event, LabelSet, Note, ReadOptions, RejectedRow, Source
from tfr.errors import AnnotationError


def read_coco(path: str, options: ReadOptions) -> Iterator[Event]:
    """Yields the images of a COCO JSON file, each with the set of its annotations' categories.

    Shape: `{"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 3, "name": "car"}], "annotations":
    [{"image_id": 1, "category_id": 3, ...}]}`. Crowd annotations count. An image without annotations has no label:
    COCO annotates every instance of its categories. Where images carry LVIS's `neg_category_ids`, those are verified
    absent and every category that is in neither list is unknown. Without `file_name` the end of `coco_url` is taken.

    Raises:
      AnnotationError: not JSON, one of the three lists is missing, or an id is none or stands twice.
    """
    data = text_files.load_json(path, options)
    images, categories, annotations = (_list(data, key, path) for key in ("images", "categories", "annotations"))
    _check_ids(images, "images", path)
    _check_ids(categories, "categories", path)
    names = {entry["id"]: cells.text(entry.get("name")) for entry in categories if "id" in entry}
    names = {id_: name for id_, name in names.items() if name}
    yield LabelSet(tuple(names.values()))
    found: dict[Any, dict[str, None]] = collections.defaultdict(dict)
    num_lost = 0
    for annotation in annotations:
        category, image_id = (_id(annotation.get(key)) for key in ("category_id", "image_id"))
        num_lost += category not in names
        if category in names:
            found[image_id][names[category]] = None
    for number, image in enumerate(images, 1):
        yield _from_image(image, tuple(found.pop(image.get("id"), ())), names, Source(path, number))
    if num_lost:
        yield Note(f"{path}: {num_lost} annotations name a category that is not in 'categories'; they are left out")
    if found:
        yield Note(f"{path}: annotations of {len(found)} images that are not in 'images' are left out")


def _id(value: Any) -> Any:
    """An id as it is; None where it is neither a number nor text."""
    return value if isinstance(value, (int, float, str)) else None


def _check_ids(entries: list[dict[str, Any]], key: str, path: str) -> None:
    """Raises where an id cannot be one, or stands twice: of two images with one, the second would have no labels."""
    places: dict[Any, int] = {}
    for number, entry in enumerate(entries, 1):
        if "id" not in entry:
            continue
        if (id_ := _id(entry["id"])) is None:
            raise AnnotationError(
                f"{path}: entry {number} of {key!r} has the id {str(entry['id'])[:80]}; ids are numbers or text."
            )
        if places.setdefault(id_, number) != number:
            raise AnnotationError(
                f"{path}: entries {places[id_]} and {number} of {key!r} have the same id {id_!r}, so that annotations "
                "can mean either. Give each an id of its own; files that were put together need new ones."
            )


def _list(data: Any, key: str, path: str) -> list[dict[str, Any]]:
    value = data.get(key) if isinstance(data, dict) else None
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise AnnotationError(
            f"{path}: not COCO: it needs 'images', 'categories' and 'annotations'; {key!r} is no list."
        )
    return value


def _from_image(
    image: dict[str, Any], labels: tuple[str, ...], names: dict[Any, str], source: Source
) -> Annotation | RejectedRow:
    file = image.get("file_name") or text_files.name_in_url(str(image.get("coco_url") or ""))
    if not isinstance(file, str) or not file.strip():
        return RejectedRow(source, "no_id", "no 'file_name'", str(image.get("id", "")))
    negatives = image.get("neg_category_ids")
    if negatives is not None and not isinstance(negatives, list):
        return RejectedRow(source, "bad_label", f"neg_category_ids is {type(negatives).__name__}, not a list", file)
    absent = None if negatives is None else tuple(names[i] for i in map(_id, negatives) if i in names)
    return Annotation(file.strip(), file.strip(), labels, source, absent=absent)
