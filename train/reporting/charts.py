"""The charts of a report, as SVG."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from sklearn import metrics as sk

from tfr import charts
from tfr.charts import Line

from .. import error_analysis
from . import findings
from .figures import given_instead, reliability_bins
from .material import Material

MAX_HEAT_LABELS = 24  # what fits on a page
_CURVE_POINTS = 160
_NUM_CONFUSIONS = 6
_NUM_CURVES = 4  # labels with a curve of their own
_METRICS = {
    "val_micro_map": "micro mAP",
    "val_macro_map": "macro mAP",
    "val_accuracy": "share of right answers",
}


@dataclasses.dataclass(frozen=True)
class Chart:
    """A drawing with what a person needs to read it: a title, the names of its colours, a sentence."""

    title: str
    drawing: Markup
    names: tuple[str, ...]
    caption: str


def history_charts(material: Material) -> list[Chart]:
    """Loss, figures and learning rate by epoch; phases and kept epochs marked. None where there is no history."""
    rows, marks = material.history, _phase_marks(material)
    if not rows:
        return []
    figures = {key: name for key, name in _METRICS.items() if any(key in row for row in rows)}
    if not material.run.multi_label:
        figures = {key: name for key, name in figures.items() if key in ("val_accuracy", "val_macro_map")}
    return [
        _by_epoch(
            rows,
            "Loss",
            {"loss": "training images", "val_loss": "validation images"},
            marks,
            "How wrong the network is: lower is better. Where the second curve rises while the first still falls, it "
            "learns by heart. The two are not measured alike (in training parts of the network are switched off), so "
            "compare their directions, not their heights.",
        ),
        _by_epoch(rows, "Quality on validation images", figures, marks, "Higher is better."),
        _by_epoch(
            rows,
            "Learning rate",
            {"learning_rate": "learning rate"},
            marks,
            "How large the steps are that training takes; small ones at the end settle it.",
        ),
    ]


def _by_epoch(
    rows: Sequence[dict[str, Any]], title: str, columns: dict[str, str], marks: list[tuple[float, str]], caption: str
) -> Chart:
    epochs = range(1, len(rows) + 1)
    lines = [
        Line(name, epochs, [row.get(key, math.nan) for row in rows], dots=len(rows) < 4)
        for key, name in columns.items()
    ]
    drawing = charts.line_chart(
        lines, x_axis="epoch", x_range=(1, max(len(rows), 2)), marks=marks, width=330, height=150
    )
    return Chart(title, drawing, tuple(columns.values()) if len(columns) > 1 else (), caption)


def _phase_marks(material: Material) -> list[tuple[float, str]]:
    marks, start = [], 0
    for phase, rows in findings.phases(material).items():
        if start:
            marks.append((start + 0.5, "fine-tuning" if phase == "finetune" else phase))
        kept = findings.kept_epoch(material, rows)
        if kept is not None:
            marks.append((start + kept + 1, "kept"))
        start += len(rows)
    return marks


def curve_charts(material: Material) -> list[Chart]:
    """Precision over recall, and the ROC curve: of all labels in one list, and of a few; none where nothing differs."""
    chosen = _telling_labels(material)
    pairs = {"all tags" if material.run.multi_label else "all labels": _pairs(material, slice(None))}
    pairs |= {name: _pairs(material, material.run.labels.index(name)) for name in chosen}
    pairs = {name: pair for name, pair in pairs.items() if 0 < pair[0].sum() < len(pair[0])}
    if not pairs:
        return []
    names = tuple(pairs)
    recall_lines, roc_lines = [], []
    for name, (targets, probabilities) in pairs.items():
        precision, recall, _ = sk.precision_recall_curve(targets, probabilities)
        recall_lines.append(_thinned(name, recall[::-1], precision[::-1]))
        wrong, right, _ = sk.roc_curve(targets, probabilities)
        roc_lines.append(_thinned(name, wrong, right))
    roc_lines.append(Line("by chance", (0, 1), (0, 1), dashed=True))
    return [
        Chart(
            "Right against found (precision and recall)",
            _square(recall_lines, "found: share of the tags that are there", "right: share of those shown"),
            names,
            "Every point is a threshold. From left to right more is shown, so more is found and less of it is right. "
            "The further up and to the right, the better.",
        ),
        Chart(
            "Found against false alarms (ROC)",
            _square(roc_lines, "false alarms: share of images without the tag", "found"),
            (*names, "by chance"),
            "How many images are wrongly tagged to find how many of those that carry the tag. The closer to the upper "
            "left corner, the better; the dashed diagonal is a coin toss.",
        ),
    ]


def _telling_labels(material: Material) -> list[str]:
    """The best, the median and the worst label by average precision, then the most frequent; those with enough."""
    per_label, doubtful = material.measured["per_label"], {
        *material.measured["rare_labels"], *material.measured["undefined_labels"],
    }  # fmt: skip
    ranked = sorted(
        (name for name in material.run.labels if name not in doubtful),
        key=lambda name: -per_label[name]["average_precision"],
    )
    if not ranked:
        return []
    frequent = [name for name in material.labels_by_support() if name in ranked]
    wanted = [ranked[0], ranked[len(ranked) // 2], ranked[-1], *frequent]
    return list(dict.fromkeys(wanted))[:_NUM_CURVES]


def _pairs(material: Material, label: int | slice) -> tuple[np.ndarray, np.ndarray]:
    at = material.known[:, label]
    return (material.found.targets[:, label][at] == 1), material.found.probabilities[:, label][at]


def _thinned(name: str, x: np.ndarray, y: np.ndarray) -> Line:
    """A curve with few enough points for a page."""
    keep = np.unique(np.linspace(0, len(x) - 1, min(len(x), _CURVE_POINTS)).round().astype(int))
    return Line(name, x[keep].tolist(), y[keep].tolist())


def _square(lines: Sequence[Line], x_axis: str, y_axis: str) -> Markup:
    return charts.line_chart(
        lines, x_axis=x_axis, y_axis=y_axis, x_range=(0, 1), y_range=(0, 1), percent=True, height=250
    )


def calibration_chart(material: Material) -> Chart:
    """What the tagger says against what happens."""
    bins = reliability_bins(material)
    measured = Line(
        "as measured",
        [one.said for one in bins],
        [one.right for one in bins],
        bounds=[(one.low, one.high) for one in bins],
        dots=True,
    )
    return Chart(
        "What it says, and what happens",
        _square(
            [measured, Line("if probabilities were exact", (0, 1), (0, 1), dashed=True)],
            "probability that it gives",
            "share that is really there",
        ),
        ("as measured", "if probabilities were exact"),
        "Each point stands for all tags with nearly the same probability; the upright stroke is how far chance alone "
        "could have moved it. Below the dashed line the tagger is too sure of itself, above it too modest.",
    )


def threshold_chart(material: Material) -> Chart:
    """What is right and what is found, by one threshold over all labels; single-label: by when one is accepted."""
    return _by_threshold(material) if material.run.multi_label else _by_acceptance(material)


def _by_acceptance(material: Material) -> Chart:
    surest = material.found.probabilities.max(axis=1)
    is_right = material.present[np.arange(len(surest)), material.found.probabilities.argmax(axis=1)]
    at = np.linspace(0, 0.98, 50)
    accepted, x = surest >= at[:, None], at.tolist()
    with np.errstate(invalid="ignore", divide="ignore"):
        lines = [
            Line("right: share of the accepted answers", x, (accepted & is_right).sum(axis=1) / accepted.sum(axis=1)),
            Line("share of images with an accepted answer", x, accepted.mean(axis=1)),
        ]
    drawing = charts.line_chart(
        lines,
        x_axis="answers accepted from this probability on",
        x_range=(0, 1),
        y_range=(0, 1),
        percent=True,
        height=230,
    )
    return Chart(
        "If only sure answers are accepted",
        drawing,
        tuple(line.name for line in lines),
        "Further right fewer answers are accepted, and more of those are right.",
    )


def _by_threshold(material: Material) -> Chart:
    known = material.known
    targets, probabilities = material.found.targets[known] == 1, material.found.probabilities[known]
    at = np.linspace(0.02, 0.98, 49)
    x = at.tolist()
    ranked = np.sort(probabilities)
    shown = len(ranked) - np.searchsorted(ranked, at)
    hits = targets.sum() - np.searchsorted(np.sort(probabilities[targets]), at)
    with np.errstate(invalid="ignore", divide="ignore"):
        lines = [
            Line("right: share of the tags shown", x, hits / shown),
            Line("found: share of the tags that are there", x, hits / targets.sum()),
            Line("F1, the balance of both", x, 2 * hits / (shown + targets.sum())),
        ]
    overall = material.run.thresholds.overall
    drawing = charts.line_chart(
        lines,
        x_axis="shown from this probability on",
        x_range=(0, 1),
        y_range=(0, 1),
        percent=True,
        marks=[(overall, f"chosen: {overall:.0%}")],
        height=230,
    )
    return Chart(
        "What another threshold would do",
        drawing,
        tuple(line.name for line in lines),
        "One threshold over all tags. Further right less is shown: more of it is right, and less is found.",
    )


def confusion(material: Material) -> dict[str, Any]:
    """The matrix of what is shown on images with each label, the most frequent labels; and the largest confusions."""
    names = [n for n in material.labels_by_support() if material.measured["per_label"][n]["support"]]
    chosen = [material.run.labels.index(name) for name in names]
    shares, counts = given_instead(material, chosen)
    few = names[:MAX_HEAT_LABELS]
    verb = "shown" if material.run.multi_label else "given"
    titles = [
        [
            f"{row}: {verb} on {counts[i, k]} of its images"
            if i == k
            else f"{col}, which is not there, {verb} on {counts[i, k]} images with {row}"
            for k, col in enumerate(few)
        ]
        for i, row in enumerate(few)
    ]
    return {
        "map": charts.heat_map(few, shares[: len(few), : len(few)].tolist(), titles),
        "num_left_out": len(names) - len(few),
        "largest": error_analysis.analyse(material.run, material.found).confusions[:_NUM_CONFUSIONS],
    }
