"""Google Cloud's import files: AutoML Vision CSV, Vertex AI CSV, Vertex AI JSONL."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfr.annotations import text_files
from tfr.annotations.base import Annotation, Event, Note, ReadOptions, RejectedRow, Source
from tfr.annotations.csv_reader import csv_rows
from tfr.annotations.jsonl_reader import json_lines
from tfr.errors import AnnotationError

# What the first cell of a row may be when it names a split; '' and UNASSIGNED leave it to the conversion.
ML_USES = frozenset({"train", "training", "validation", "validate", "valid", "val", "test", "unassigned", ""})
_ML_USE_KEYS = ("aiplatform.googleapis.com/ml_use", "aiplatform.googleapis.com/mlUse")


def read_automl_csv(path: str, options: ReadOptions) -> Iterator[Event]:
    """Yields the rows of an AutoML Vision CSV file.

    Shape: `TRAIN,gs://bucket/a.jpg,daisy,rose`: a split (TRAIN, VALIDATION, TEST, UNASSIGNED, or left out), the
    image, any number of labels; rows may differ in length. A first line such as `split,image_uri,label` is skipped.
    A row without labels says nothing of the image's labels (see `empty_labels`). Of gs:// images the part behind the
    bucket is looked for in the image folder.

    Raises:
      AnnotationError: empty, or undecodable bytes.
    """
    num_empty = 0
    with text_files.open_text(path, options) as file:
        rows = csv_rows(file, path, options.delimiter or ",", first_line=1)
        first = next(rows, None)
        if first is None:
            raise AnnotationError(f"{path}: the file is empty; expected rows such as TRAIN,a.jpg,daisy.")
        for row in rows if _is_header(first) else itertools.chain([first], rows):
            event = row if isinstance(row, RejectedRow) else _from_cells(row[1], row[0], options)
            num_empty += isinstance(event, Annotation) and not event.labels
            yield event
    if num_empty:
        yield Note(f"{path}: {num_empty} rows name no label: {options.empty_labels} (see --empty_labels)")


def read_vertex_csv(path: str, options: ReadOptions) -> Iterator[Event]:
    """Yields the rows of a Vertex AI CSV file, or of any CSV file of paths and labels without a header.

    Shape: `[ML_USE],PATH,[LABEL1,...,LABELn]` without a header, ragged: `training,gs://b/a.jpg,daisy,rose`,
    `gs://b/a.jpg,daisy`, `gs://b/a.jpg`. Read as `read_automl_csv` does.
    """
    return read_automl_csv(path, options)


def _is_header(row: Any) -> bool:
    """Whether the first row names columns: no file, and the usual words."""
    if isinstance(row, RejectedRow):
        return False
    cells = [cell.strip().lower() for cell in row[1]]
    return bool({"image_uri", "image_path", "image", "gcs_path", "image_url", "imageuri"} & set(cells))


def _from_cells(values: Sequence[str], source: Source, options: ReadOptions) -> Annotation | RejectedRow:
    cells = [cell.strip() for cell in values]
    split = cells.pop(0) if len(cells) > 1 and cells[0].lower() in ML_USES else None
    image = cells.pop(0)
    if not image:
        return RejectedRow(source, "no_id", "no image path in the row")
    labels = tuple(dict.fromkeys(filter(None, cells)))
    return Annotation(image, image, labels, source, split=_split(split), absent=_absent(labels, options))


def _split(ml_use: str | None) -> str | None:
    return None if ml_use is None or ml_use.lower() in ("", "unassigned") else ml_use


def _absent(labels: tuple[str, ...], options: ReadOptions) -> tuple[str, ...] | None:
    return () if not labels and options.empty_labels == "unknown" else None


def read_vertex_jsonl(path: str, options: ReadOptions) -> Iterator[Event]:
    """Yields the lines of a Vertex AI JSONL file.

    Shape: `{"imageGcsUri": "gs://b/f.jpg", "classificationAnnotations": [{"displayName": "daisy"}, ...],
    "dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": "training"}}`; for one label
    `classificationAnnotation`, an object. Only `imageGcsUri` is required; a line without annotations says nothing of
    the image's labels, an empty list that no label applies. A line that is none of this is rejected.
    """
    for row in json_lines(path, options):
        yield row if isinstance(row, RejectedRow) else _from_object(row[1], row[0], options)


def _from_object(item: Mapping[str, Any], source: Source, options: ReadOptions) -> Annotation | RejectedRow:
    image = item.get("imageGcsUri")
    if not isinstance(image, str) or not image.strip():
        return RejectedRow(source, "no_id", "no 'imageGcsUri'")
    found = item.get("classificationAnnotations", item.get("classificationAnnotation"))
    found = [found] if isinstance(found, dict) else found
    try:
        names = [str(annotation["displayName"]).strip() for annotation in found or ()]
    except (KeyError, TypeError):
        return RejectedRow(source, "bad_label", "an annotation without 'displayName'", image)
    labels = tuple(dict.fromkeys(filter(None, names)))
    resource_labels = item.get("dataItemResourceLabels")
    uses = resource_labels if isinstance(resource_labels, dict) else {}
    ml_use = next((str(uses[key]) for key in _ML_USE_KEYS if key in uses), None)
    absent = _absent(labels, options) if found is None else None
    return Annotation(image.strip(), image.strip(), labels, source, split=_split(ml_use), absent=absent)
