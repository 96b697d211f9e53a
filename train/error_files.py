"""The mistakes of a run for people: contact sheets of the surest ones, a CSV file of all, a summary in words."""

import csv
import io
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from tfr import contact_sheet, files, progress
from tfr.errors import UsageError

from . import error_analysis, input_pipeline, records, run_dir
from .error_analysis import Analysis, Mistake
from .prediction import saved_predictions
from .prediction.saved_predictions import Predictions

ERRORS_FILE = "errors.csv"
SHEETS_DIR = "sheets"
BETWEEN = "|"  # of labels in one cell
_TITLES = ("positives", "missed", "given", "given wrongly")
_SHEET_NAME = re.compile(rf"\d{{3,}}-.*-({'|'.join(error_analysis.KINDS)})s\.png")
_COLUMNS = ("label", "kind", "probability", "threshold", "id", "place", "labels", "given")


def write_errors(
    path: str,
    output: str,
    *,
    dataset: str | None = None,
    split: str = "test",
    labels: Sequence[str] = (),
    num_images: int = 20,
    batch_size: int = 32,
) -> Analysis:
    """Finds what a run gets wrong in a split, and writes it to a folder.

    The folder gets `errors.csv`, a row a mistake, and in `sheets/` up to two contact sheets a label. Those of an
    earlier call are replaced.

    Args:
      path: the run directory.
      output: the folder, made if it is not there.
      dataset: dataset directory or TFDS name; default: the one that the run was trained on.
      split: a split, or a slice of one.
      labels: those to look at; default: all.
      num_images: images on a sheet, at most; 0: no sheets.
      batch_size: images per step, where the run has not seen the split yet.

    Raises:
      RunDirError: it is no finished run, or its labels are not those of the dataset.
      DatasetError: no such dataset or split.
      UsageError: the run does not know one of the labels, or `output` is a file.
    """
    run = run_dir.load(path)
    error_analysis.check_labels(run, labels)
    check_output(output)
    found = saved_predictions.of_split(run, dataset=dataset, split=split, batch_size=batch_size)
    analysis = error_analysis.analyse(run, found, labels)
    files.make_dirs(output)
    files.write_text(files.join(output, ERRORS_FILE), to_csv(run, found, analysis))
    builder = input_pipeline.open_dataset(run.locate_dataset(dataset))
    images = records.StoredImages(builder, split)
    draw_sheets(run, found, analysis, images, files.join(output, SHEETS_DIR), num_images)
    return analysis


def check_output(output: str) -> None:
    """Raises UsageError where a file is in the place of the folder to write to."""
    if files.is_local(output) and os.path.isfile(output):
        raise UsageError(f"--output={output} is a file; give a folder.")


def to_csv(run: run_dir.Run, found: Predictions, analysis: Analysis) -> str:
    """A row a mistake: by label, then kind, the surest first; beside it all labels of the image, and all given ones."""
    given, thresholds = (
        error_analysis.given_labels(run, found),
        dict(zip(run.labels, run.thresholds.per_label, strict=True)),
    )
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for one in _all(analysis):
        threshold = f"{thresholds[one.label]:.4f}" if run.multi_label else ""
        cells = (BETWEEN.join(_names(run, flags[one.place])) for flags in (found.targets == 1, given))
        writer.writerow([one.label, one.kind, f"{one.probability:.4f}", threshold, one.id, one.place, *cells])
    return buffer.getvalue()


def _all(analysis: Analysis) -> Iterable[Mistake]:
    for mistakes in analysis.labels.values():
        yield from mistakes.false_positives
        yield from mistakes.false_negatives


def _names(run: run_dir.Run, flags: np.ndarray) -> list[str]:
    return [name for name, flag in zip(run.labels, flags, strict=True) if flag]


def draw_sheets(
    run: run_dir.Run,
    found: Predictions,
    analysis: Analysis,
    images: records.StoredImages,
    folder: str,
    num_images: int,
) -> None:
    """Draws the surest mistakes of each label and kind as `<number>-<label>-<kind>s.png`, instead of earlier ones."""
    for name in files.list_names(folder) if files.is_dir(folder) else ():
        if _SHEET_NAME.fullmatch(name):
            files.remove(files.join(folder, name))
    shown = [
        (f"{run.labels.index(name):03d}-{_file_part(name)}-{kind[0].kind}s.png", kind[:num_images])
        for name, mistakes in analysis.labels.items()
        for kind in (mistakes.false_positives, mistakes.false_negatives)
        if kind[:num_images]
    ]
    if shown:
        files.make_dirs(folder)
    for name, mistakes in progress.count(shown, "drawing sheets", "sheets"):
        data = images.read([one.place for one in mistakes])
        cells = [
            (Image.open(io.BytesIO(encoded)), caption(one, _names(run, found.targets[one.place] == 1)))
            for encoded, one in zip(data, mistakes, strict=True)
        ]
        contact_sheet.write(cells, files.join(folder, name))


def caption(one: Mistake, labels: Sequence[str]) -> str:
    """What stands under an image: probability of the label, id, and the labels that the image really has."""
    return f"{one.probability:.2f} {one.id or f'#{one.place}'} is {', '.join(labels) or '(no labels)'}"


def _file_part(label: str) -> str:
    """A label as part of a file name; the number before it tells apart what comes out the same."""
    return re.sub(r"[^\w.-]+", "_", label)[:60]


def to_json(analysis: Analysis, num_images: int) -> dict[str, Any]:
    """The summary as JSON values, with the surest mistakes of each label."""
    return {
        "num_examples": analysis.num_examples,
        "num_with_mistakes": analysis.num_with_mistakes,
        "labels": {
            name: {
                "positives": mistakes.num_positives,
                "given": mistakes.num_given,
                "missed": len(mistakes.false_negatives),
                "given_wrongly": len(mistakes.false_positives),
                "surest_missed": [one._asdict() for one in mistakes.false_negatives[:num_images]],
                "surest_given_wrongly": [one._asdict() for one in mistakes.false_positives[:num_images]],
            }
            for name, mistakes in analysis.labels.items()
        },
        "confusions": [one._asdict() for one in analysis.confusions],
    }


def text(analysis: Analysis, split: str, *, num_confusions: int = 15) -> str:
    """The mistakes in plain words: a row a label, those with most mistakes first, and the most frequent confusions."""
    width = max([len(name) for name in analysis.labels] + [5]) + 2
    lines = [
        f"{split}: {analysis.num_examples} examples, {analysis.num_with_mistakes} with a mistake",
        "",
        "  " + "label".ljust(width) + "".join(f"{title:>15}" for title in _TITLES),
    ]
    for name, one in sorted(analysis.labels.items(), key=lambda item: -_num_mistakes(item[1])):
        figures = (one.num_positives, len(one.false_negatives), one.num_given, len(one.false_positives))
        lines.append("  " + name.ljust(width) + "".join(f"{figure:>15}" for figure in figures))
    if analysis.confusions:
        lines += ["", "  missed, and what was given wrongly on the same images:"]
    for pair in analysis.confusions[:num_confusions]:
        lines.append(
            f"  {pair.missed.ljust(width)}{pair.given.ljust(width)}{pair.num_images:>4} of {pair.num_missed} missed, "
            f"{pair.lift:.1f} times what chance would give"
        )
    if (rest := len(analysis.confusions) - num_confusions) > 0:
        lines.append(f"  ... and {rest} rarer pairs")
    return "\n".join(lines)


def _num_mistakes(one: error_analysis.LabelMistakes) -> int:
    return len(one.false_positives) + len(one.false_negatives)
