"""VGG Image Annotator (VIA 1 and 2): file attributes as labels, from CSV or JSON."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tfr.annotations import text_files
from tfr.annotations.base import Annotation, Event, LabelSet, ReadOptions, RejectedRow, Source
from tfr.annotations.cells import text as cell_text
from tfr.annotations.csv_reader import grouped, table_rows
from tfr.errors import AnnotationError

# File attributes that every VIA 2 project starts with; they describe the image and are no labels.
_NOT_LABELS = frozenset({"caption", "public_domain", "image_url", "url"})


def read_via_csv(path: str, options: ReadOptions) -> Iterator[Event]:
    """Yields the images of a VIA CSV export.

    Shape: `filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes` (with
    a '#' in front in VIA 1); a line a region, those of an image together. Labels are in `file_attributes`, a JSON
    object: a checkbox `{"tag": {"sky": true}}`, a radio button, dropdown or text `{"tag": "sky"}`. `label_columns`
    picks attributes; default: all but VIA's own (caption, public_domain, image_url). An image without any says
    nothing (see `empty_labels`). Regions are left out.

    Raises:
      AnnotationError: a column is missing, or undecodable bytes.
    """
    with text_files.open_text(path, options) as file:
        header, rows = table_rows(file, path, options.delimiter or ",")
        header = [name.strip().lstrip("#").strip() for name in header]
        if missing := [name for name in ("filename", "file_attributes") if name not in header]:
            raise AnnotationError(f"{path}: not VIA: no columns {missing}. The columns are: {header}.")
        name_at, attributes_at = header.index("filename"), header.index("file_attributes")
        for group in grouped(rows, name_at):  # further regions of an image repeat its attributes
            if isinstance(group, RejectedRow):
                yield group
            else:
                source, cells = group[0]
                yield _from_text(cells[name_at].strip(), cells[attributes_at], source, options)


def _from_text(name: str, text: str, source: Source, options: ReadOptions) -> Annotation | RejectedRow:
    try:
        attributes = json.loads(text or "{}")
    except ValueError as err:
        return RejectedRow(source, "bad_label", f"file_attributes is not JSON: {err}", name)
    return _from_attributes(name, attributes, source, options)


def read_via_json(path: str, options: ReadOptions) -> Iterator[Event]:
    """Yields the images of a VIA JSON export, or of a VIA 2 project file.

    Shape: `{"a.jpg1234": {"filename": "a.jpg", "size": 1234, "regions": [...], "file_attributes": {"tag": {"sky":
    true}}}}`, in a project below `_via_img_metadata`. Attributes as in `read_via_csv`; the options that a project
    declares for checkboxes, radio buttons and dropdowns are kept even where no image has them.

    Raises:
      AnnotationError: not JSON, or not of this shape.
    """
    data = text_files.load_json(path, options)
    images = data.get("_via_img_metadata", data) if isinstance(data, dict) else None
    if not isinstance(images, dict):
        raise AnnotationError(
            f"{path}: not VIA: expected an object of images, each with 'filename' and 'file_attributes'."
        )
    declared = data.get("_via_attributes")
    if isinstance(declared, dict):
        yield LabelSet(_declared(declared.get("file"), options))
    for number, image in enumerate(images.values(), 1):
        source = Source(path, number)
        if not isinstance(image, dict) or not isinstance(image.get("filename"), str):
            yield RejectedRow(source, "malformed_row", "no 'filename'")
        else:
            yield _from_attributes(image["filename"], image.get("file_attributes"), source, options)


def _declared(attributes: Any, options: ReadOptions) -> tuple[str, ...]:
    chosen = attributes.items() if isinstance(attributes, dict) else ()
    return tuple(
        option
        for name, attribute in chosen
        if _is_wanted(name, options) and isinstance(attribute, dict) and isinstance(attribute.get("options"), dict)
        for option in attribute["options"]
    )


def _is_wanted(name: str, options: ReadOptions) -> bool:
    return name in options.label_columns if options.label_columns else name not in _NOT_LABELS


def _from_attributes(name: str, attributes: Any, source: Source, options: ReadOptions) -> Annotation | RejectedRow:
    if isinstance(attributes, list) and not attributes:  # what PHP-made files have for an empty object
        attributes = {}
    if not isinstance(attributes, Mapping):
        return RejectedRow(source, "bad_label", f"file_attributes is {type(attributes).__name__}, not an object", name)
    values = [value for key, value in attributes.items() if _is_wanted(key, options)]
    labels: dict[str, None] = {}
    for value in values:
        if isinstance(value, Mapping):
            labels.update(
                (str(option).strip(), None) for option, is_set in value.items() if is_set not in (False, "false")
            )
        elif text := cell_text(value):
            labels[text] = None
    answered = any(isinstance(value, Mapping) or cell_text(value) for value in values)
    absent = () if not answered and options.empty_labels == "unknown" else None
    return Annotation(name, name, tuple(labels), source, absent=absent)
