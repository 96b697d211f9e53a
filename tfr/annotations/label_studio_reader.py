"""Label Studio's JSON export: image classification by `choices`."""

import re
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from tfr import files
from tfr.annotations import agreement, text_files
from tfr.annotations.base import Annotation, Event, Note, ReadOptions, RejectedRow, Source
from tfr.errors import AnnotationError

_UPLOAD = re.compile(r"^/?data/upload/(?:\d+/)?")


def read_label_studio(path: str, options: ReadOptions) -> Iterator[Event]:
    """Yields the tasks of a Label Studio JSON export.

    Shape: `[{"data": {"image": URL}, "annotations": [{"was_cancelled": false, "result": [{"from_name": "choice",
    "type": "choices", "value": {"choices": ["cat"]}}]}]}]`; `completions` is the older name of `annotations`.
    Cancelled annotations are skipped; where one is marked `ground_truth`, it alone counts. A label that only some
    annotators chose is unknown; a task without annotations says nothing (see `empty_labels`). `label_columns` picks
    controls by their `from_name`, `image_column` the key in `data` (default: the first that names an image file).
    Of `/data/local-files/?d=a/b.jpg` the path is `a/b.jpg`, of `/data/upload/1/x.jpg` it is `x.jpg`.

    Raises:
      AnnotationError: not JSON, or no list of tasks.
    """
    tasks = text_files.load_json(path, options)
    if not isinstance(tasks, list):
        raise AnnotationError(
            f"{path}: expected a list of tasks (the export called 'JSON'), got {type(tasks).__name__}."
        )
    num_disputed = 0
    for number, task in enumerate(tasks, 1):
        source = Source(path, number)
        try:
            event = _from_task(task, source, options)
        except (AttributeError, KeyError, TypeError) as err:
            event = RejectedRow(source, "malformed_row", f"not a task: {type(err).__name__}: {err}")
        num_disputed += isinstance(event, Annotation) and bool(event.unknown)
        yield event
    if num_disputed:
        yield Note(agreement.disagreement_note(path, num_disputed))


def _from_task(task: Mapping[str, Any], source: Source, options: ReadOptions) -> Annotation | RejectedRow:
    image = _image(task["data"], options.image_column)
    if not image:
        return RejectedRow(
            source, "no_id", "no image in 'data'; name its key with --image_column", str(task.get("id", ""))
        )
    given = [a for a in task.get("annotations", task.get("completions")) or () if not a.get("was_cancelled")]
    given = [a for a in given if a.get("ground_truth")] or given
    present, unknown = agreement.agree([_choices(a.get("result") or (), options.label_columns) for a in given])
    absent = () if not given and options.empty_labels == "unknown" else None
    return Annotation(image, image, present, source, unknown, absent=absent)


def _choices(results: Any, controls: tuple[str, ...]) -> list[str]:
    wanted = [r for r in results if r.get("type") == "choices" and (not controls or r.get("from_name") in controls)]
    return [str(choice).strip() for result in wanted for choice in result["value"]["choices"] if str(choice).strip()]


def _image(data: Mapping[str, Any], key: str | None) -> str:
    """The image's path, from one key or the first value that names an image file."""
    values = [data.get(key)] if key else [data.get("image"), *data.values()]
    texts = [_path(value) for value in values if isinstance(value, str)]
    named = [text for text in texts if key or files.is_image_name(text.partition("?")[0])]
    return next(iter(named), "")


def _path(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    if parts.path.rstrip("/").endswith("data/local-files"):
        return urllib.parse.parse_qs(parts.query).get("d", [""])[0]
    return _UPLOAD.sub("", url.strip())
