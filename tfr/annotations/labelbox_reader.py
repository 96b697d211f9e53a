"""Labelbox's export (NDJSON): image-level classifications."""

from collections.abc import Iterator, Mapping
from typing import Any

from tfr.annotations import agreement, text_files
from tfr.annotations.base import Annotation, Event, Note, ReadOptions, RejectedRow, Source
from tfr.annotations.jsonl_reader import json_lines


def read_labelbox(path: str, options: ReadOptions) -> Iterator[Event]:
    """Yields the data rows of a Labelbox export, streamed.

    Shape: a line `{"data_row": {"external_id": "a.jpg"}, "projects": {"<id>": {"labels": [{"annotations":
    {"classifications": [{"name": "kind", "checklist_answers": [{"value": "cat"}]}, {"radio_answer": {"value":
    "day"}}]}}]}}}`. An answer's `value` is the label (its `name` where there is none). Skipped labels are left out;
    what only some of several labels say is unknown; a row without labels says nothing (see `empty_labels`).
    `label_columns` picks classifications by name. The image is `external_id`, else `global_key`, else the end of
    `row_data`. Classifications of objects and nested ones are left out.
    """
    num_disputed = 0
    for row in json_lines(path, options):
        if isinstance(row, RejectedRow):
            yield row
            continue
        source, item = row
        try:
            event = _from_row(item, source, options)
        except (AttributeError, KeyError, TypeError) as err:
            event = RejectedRow(source, "malformed_row", f"not a data row: {type(err).__name__}: {err}")
        num_disputed += isinstance(event, Annotation) and bool(event.unknown)
        yield event
    if num_disputed:
        yield Note(agreement.disagreement_note(path, num_disputed))


def _from_row(item: Mapping[str, Any], source: Source, options: ReadOptions) -> Annotation | RejectedRow:
    data = item["data_row"]
    image = data.get("external_id") or data.get("global_key") or text_files.name_in_url(data.get("row_data") or "")
    if not image:
        return RejectedRow(source, "no_id", "no external_id, global_key or row_data", str(data.get("id", "")))
    labels = [label for project in item.get("projects", {}).values() for label in project.get("labels") or ()]
    given = [label for label in labels if not (label.get("performance_details") or {}).get("skipped")]
    present, unknown = agreement.agree([_answers(label, options.label_columns) for label in given])
    absent = () if not given and options.empty_labels == "unknown" else None
    return Annotation(image.strip(), image.strip(), present, source, unknown, absent=absent)


def _answers(label: Mapping[str, Any], wanted: tuple[str, ...]) -> list[str]:
    found: list[Mapping[str, Any]] = []
    for classification in label["annotations"].get("classifications") or ():
        if not wanted or classification.get("name") in wanted:
            found += classification.get("checklist_answers") or ()
            found += [classification["radio_answer"]] if classification.get("radio_answer") else []
    return [str(answer.get("value") or answer["name"]).strip() for answer in found]
