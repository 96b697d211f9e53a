"""Labels that are probably wrong as a table and contact sheets, for a person to review."""

import csv
import io
import os
from collections.abc import Sequence
from typing import Any

import tensorflow_datasets as tfds
from PIL import Image

from tfr import contact_sheet, files, progress
from tfr.errors import UsageError

from . import error_files, input_pipeline, label_issues, records, run_dir
from .label_issues import ABSENT, PRESENT, LabelIssue

ISSUES_FILE = "label_issues.csv"
_SHEETS = {PRESENT: "label_issues-present.png", ABSENT: "label_issues-absent.png"}  # by what is suggested
_DECISION = "decision"  # corrections.py reads it
_COLUMNS = (
    "id", "split", "place", "label", "replaces", "given", "suggested", "probability", "score", "labels", _DECISION,
)  # fmt: skip
_NEXT = (
    "  next: look at them, write 'yes' into `decision` where the suggestion is right, and convert again with",
    "        --corrections=FILE and another --version",
)


def check(path: str, output: str, splits: Sequence[str], dataset: str | None) -> None:
    """Raises what `write_issues` would raise of its arguments, before any work."""
    _check_output(output)
    builder = input_pipeline.open_dataset(run_dir.load(path).locate_dataset(dataset))
    for split in splits:
        input_pipeline.num_examples(builder, split)


def _check_output(output: str) -> None:
    """Raises UsageError where a table that a person has written decisions into would be overwritten."""
    path = files.join(output, ISSUES_FILE)
    if not files.exists(path):
        return
    with files.open_text(path, "utf-8-sig") as file:
        decided = sum(bool((row.get(_DECISION) or "").strip()) for row in csv.DictReader(file))
    if decided:
        raise UsageError(f"{path} holds {decided} decisions of a person. Give another --output, or move it away.")


def write_issues(
    path: str,
    output: str,
    splits: Sequence[str],
    *,
    dataset: str | None = None,
    num_images: int = 20,
    batch_size: int = 32,
) -> list[LabelIssue]:
    """Finds labels that are probably wrong, and writes them to a folder, for a person to review.

    The folder gets `label_issues.csv`, a row a label with an empty column `decision`, and two contact sheets of the
    most doubtful ones: of labels that seem to be present, and that seem to be absent.

    Args:
      path: the run directory.
      output: the folder, made if it is not there.
      splits: see label_issues.find_issues.
      dataset: dataset directory or TFDS name; default: the one that the run was trained on.
      num_images: images on a sheet, at most; 0: no sheets.
      batch_size: images per step.

    Returns:
      The issues, the most doubtful first.

    Raises:
      UsageError: the folder holds a table with decisions.
      TfrError: others of its children, see label_issues.find_issues.
    """
    check(path, output, splits, dataset)
    run = run_dir.load(path)
    issues = label_issues.find_issues(run, splits, dataset=dataset, batch_size=batch_size)
    files.make_dirs(output)
    builder = input_pipeline.open_dataset(run.locate_dataset(dataset))
    _draw_sheets(issues, builder, output, num_images)
    files.write_text(files.join(output, ISSUES_FILE), _to_csv(issues))
    return issues


def _draw_sheets(issues: Sequence[LabelIssue], builder: tfds.core.DatasetBuilder, output: str, num_images: int) -> None:
    images: dict[str, records.StoredImages] = {}
    for suggested, name in _SHEETS.items():
        files.remove(path := files.join(output, name))
        shown = [(row, one) for row, one in enumerate(issues, 2) if one.suggested == suggested][:num_images]
        cells = []
        for row, one in progress.count(shown, "drawing label issues", "images"):
            if one.split not in images:
                images[one.split] = records.StoredImages(builder, one.split)
            (encoded,) = images[one.split].read([one.place])
            cells.append((Image.open(io.BytesIO(encoded)), _caption(row, one)))
        if cells:
            contact_sheet.write(cells, path)


def _caption(row: int, one: LabelIssue) -> str:
    """The row in the table, what is suggested, and the labels that the image has."""
    labels = ", ".join(one.labels) or "(no labels)"
    return f"{row}: {one.label} {one.suggested}? {one.probability:.2f} {one.id} is {labels}"


def _to_csv(issues: Sequence[LabelIssue]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for one in issues:
        figures = (f"{one.probability:.4f}", f"{one.score:.4f}")
        labels = error_files.BETWEEN.join(one.labels)
        what = (one.id, one.split, one.place, one.label, one.replaces, one.given, one.suggested)
        writer.writerow([*what, *figures, labels, ""])
    return buffer.getvalue()


def _some_of_each(issues: Sequence[LabelIssue], num_shown: int) -> list[LabelIssue]:
    """The most doubtful: half of them labels that seem to be absent, where there are as many, half present."""
    halves = [[one for one in issues if one.suggested == suggested] for suggested in (ABSENT, PRESENT)]
    return [one for half in halves for one in half[: max(num_shown // 2, num_shown - len(issues) + len(half))]]


def to_json(issues: Sequence[LabelIssue], num_shown: int) -> dict[str, Any]:
    """The number of issues and the most doubtful, as JSON values."""
    shown = [{**one._asdict(), "suggested": one.suggested} for one in issues[:num_shown]]
    return {"num_issues": len(issues), "most_doubtful": shown}


def text(issues: Sequence[LabelIssue], splits: Sequence[str], output: str, *, num_shown: int = 10) -> str:
    """The most doubtful labels in plain words, and what to do with the table."""
    lines = [f"labels that are probably wrong in {', '.join(splits)}: {len(issues)}"]
    for one in _some_of_each(issues, num_shown):
        instead = f" instead of {one.replaces}" if one.replaces else ""
        lines.append(
            f"  {one.id or f'{one.split} #{one.place}'}: {one.label} is {one.given}; {one.suggested}{instead}? "
            f"(probability {one.probability:.3f})"
        )
    if not issues:
        return lines[0]
    path = os.path.join(output, ISSUES_FILE)
    return "\n".join([*lines, f"  all of them, the most doubtful first: {path}", *_NEXT])
