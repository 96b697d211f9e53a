"""COCO JSON: the tags of an image are the categories of its annotations."""

import collections
from collections.abc import Iterator
from typing import Any

from tfr.annotations import text_files
from tfr.annotations.base import Annotation, Event, LabelSet, Note, ReadOptions, RejectedRow, Source
from tfr.errors import AnnotationError


def read_coco(path: str, options: ReadOptions) -> Iterator[Event]:
    """Yields the images of a COCO JSON file, each with the set of its annotations' categories.

    Shape: `{"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 3, "name": "car"}], "annotations":
    [{"image_id": 1, "category_id": 3, ...}]}`. Crowd annotations count. An image without annotations has no label:
    COCO annotates every instance of its categories. Where images carry LVIS's `neg_category_ids`, those are verified
    absent and every category that is in neither list is unknown. Without `file_name` the end of `coco_url` is taken.

    Raises:
      AnnotationError: not JSON, or one of the three lists is missing.
    """
    data = text_files.load_json(path, options)
    images, categories, annotations = (_list(data, key, path) for key in ("images", "categories", "annotations"))
    names = {entry["id"]: str(entry["name"]) for entry in categories if "id" in entry and "name" in entry}
    yield LabelSet(tuple(names.values()))
    found: dict[Any, dict[str, None]] = collections.defaultdict(dict)
    num_lost = 0
    for annotation in annotations:
        name = names.get(annotation.get("category_id"))
        num_lost += name is None
        if name is not None:
            found[annotation.get("image_id")][name] = None
    for number, image in enumerate(images, 1):
        yield _from_image(image, tuple(found.pop(image.get("id"), ())), names, Source(path, number))
    if num_lost:
        yield Note(f"{path}: {num_lost} annotations name a category that is not in 'categories'; they are left out")
    if found:
        yield Note(f"{path}: annotations of {len(found)} images that are not in 'images' are left out")


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
    absent = None if negatives is None else tuple(names[i] for i in negatives if i in names)
    return Annotation(file.strip(), file.strip(), labels, source, absent=absent)
