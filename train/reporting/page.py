"""The report's page: what its template is filled with."""

import json
import math
import os
import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np

import tfr
from tfr import dataset_dir, files, html_page

from .. import metrics, run_dir
from . import charts, examples, figures, findings, words
from .material import Material, base_split

_MAX_REJECTS = 4  # rows shown
# Figure: what a specialist calls it, and what it says; those of the kind of run that are measured are shown.
_FIGURES = {
    "accuracy": ("accuracy", "share of images whose likeliest label is right"),
    "balanced_accuracy": ("balanced accuracy", "the same for each label, averaged: rare ones count as much"),
    "top_3_accuracy": ("top-3 accuracy", "share of images whose label is among the three likeliest"),
    "top_5_accuracy": ("top-5 accuracy", "the same with five"),
    "micro_precision": ("precision (micro)", "share of all tags shown that are right"),
    "micro_recall": ("recall (micro)", "share of all tags there that are shown"),
    "micro_f1": ("F1 (micro)", "balance of both: 1 only if nothing is wrong and nothing missed"),
    "macro_f1": ("F1 (macro)", "F1 of each label, averaged: rare labels count as much as frequent ones"),
    "micro_map": ("average precision (micro)", "precision over all thresholds, all tags in one list; 1 is perfect"),
    "macro_map": ("mAP (macro)", "average precision of each label, averaged"),
    "weighted_map": ("mAP (weighted)", "the same, frequent labels counting more"),
    "samples_map": ("mAP (by image)", "how far up the right tags stand in each image's own list"),
    "macro_roc_auc": ("ROC-AUC (macro)", "of an image with a label and one without, how often the first gets more; "
                                         "a coin toss has 0.5"),
    "precision_at_1": ("precision at 1", "share of images whose likeliest tag is right"),
    "precision_at_3": ("precision at 3", "of the three likeliest tags, the share that is right"),
    "recall_at_3": ("recall at 3", "of the tags there, the share among the three likeliest"),
    "recall_at_5": ("recall at 5", "the same with five"),
    "coverage": ("coverage", "how far down the list one must go to meet all tags of an image"),
    "ranking_loss": ("ranking loss", "share of pairs of a right and a wrong tag in the wrong order; 0 is perfect"),
    "subset_accuracy": ("subset accuracy", "share of images with every tag as it should be"),
    "hamming_loss": ("Hamming loss", "share of all yes-or-no answers that are wrong"),
    "log_loss": ("log loss", "how wrong the probabilities are; lower is better"),
    "calibration_error": ("calibration error (ECE)", "how far probabilities are from what happens, on average"),
}  # fmt: skip
_OF_SHOWN = ("micro_precision", "micro_recall", "micro_f1", "macro_f1", "subset_accuracy", "hamming_loss")
_ONLY_MULTI = (*_OF_SHOWN, "precision_at_1", "precision_at_3", "recall_at_3", "recall_at_5", "coverage", "ranking_loss",
               "samples_map", "weighted_map", "micro_map")  # fmt: skip
# The shares that are figures too.
_SHARES = {
    "micro_precision": "right", "micro_recall": "found", "micro_f1": "f1", "precision_at_1": "first",
    "top_3_accuracy": "first_three",
}  # fmt: skip
# Why rows became no record; other reasons are shown as they are.
_REASONS = {
    "no_image": "the image was not found",
    "missing": "the image was not found",
    "duplicate_id": "the same image once more, folded into its first row",
    "unreadable": "the file could not be read",
    "empty": "the file was empty",
    "not_an_image": "the file was no image",
    "unsupported": "a kind of image that is not read",
    "truncated": "the image breaks off",
    "too_large": "the image was too large",
    "too_small": "the image was too small",
    "decode_error": "the image was damaged",
    "malformed_row": "the row was not as the format wants it",
    "no_id": "the row did not say which image",
    "bad_label": "the label could not be understood",
    "no_label": "the row had no label",
}


def render(material: Material, num_examples: int, explain: bool = False) -> str:
    """The page of a report.

    Args:
      material: see there.
      num_examples: images of each kind.
      explain: whether to draw heat maps beside them.
    """
    return html_page.render(
        "report.html",
        package="tfr.train.reporting",
        title=f"Report: {run_dir.name_of(material.run.path)}",
        material=material,
        run=material.run,
        resolved=material.run.config["resolved"],
        measured=material.measured,
        word=material.word,
        version=tfr.__version__,
        statements=words.statements(material),
        guess_sentence=words.guess_sentence(material),
        sure_sentence=words.sure_sentence(material),
        groups=_groups(material),
        warnings=findings.find(material),
        splits=_splits(material),
        phases=_phases(material),
        examples=_examples(material, num_examples, explain),
        is_explained=explain,
        labels=_label_table(material),
        settings=figures.stricter_settings(material),
        figures=_figure_table(material),
        history=charts.history_charts(material),
        curves=charts.curve_charts(material),
        bins=figures.reliability_bins(material),
        calibration=charts.calibration_chart(material),
        thresholds=charts.threshold_chart(material),
        confusion=charts.confusion(material),
        data=_data(material),
        settings_of_run=_settings(material.run.config),
        few=metrics.FEW_POSITIVES,
        path_arg=shlex.quote(material.run.path),
        split_arg=shlex.quote(material.split),
        plural=words.plural,
        duration=words.duration,
        number_text=number_text,
    )


def number_text(value: float | None) -> str:
    """A figure to three digits behind the point; a dash where it is not defined."""
    return "\u2013" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _examples(material: Material, number: int, explain: bool) -> list[examples.Examples]:
    maps = examples.heat_maps(material.run) if explain and number else None
    return examples.choose(material, number, maps)


def _groups(material: Material) -> dict[str, list[figures.LabelRow]]:
    groups: dict[str, list[figures.LabelRow]] = {"reliable": [], "mixed": [], "weak": [], "unsure": []}
    for row in sorted(figures.label_rows(material), key=lambda row: -row.f1):
        groups[row.group].append(row)
    return groups


def _chosen_by_validation(material: Material) -> str:
    return "best epoch and thresholds" if material.run.epoch_was_chosen else "thresholds"


def _splits(material: Material) -> list[dict[str, Any]]:
    """The splits with what each served for."""
    resolved = material.run.config["resolved"]
    uses = {
        resolved["train_split"]: "learnt from",
        resolved["validation_split"]: f"{_chosen_by_validation(material)} chosen by",
    }
    uses[material.split] = " and ".join(filter(None, [uses.get(material.split), "measured on, in this report"]))
    counts = {
        **material.splits,
        resolved["train_split"]: resolved["num_train"],
        resolved["validation_split"]: resolved["num_validation"],
        material.split: material.measured["num_examples"],
    }
    used = {base_split(name) for name in uses}
    names = [*uses, *(name for name in material.splits if name not in used)]
    return [{"name": name, "count": counts[name], "use": uses.get(name, "not used here")} for name in names]


def _phases(material: Material) -> list[dict[str, Any]]:
    found = []
    for phase, rows in findings.phases(material).items():
        kept = findings.kept_epoch(material, rows)
        found.append({"name": phase, "epochs": len(rows), "kept": None if kept is None else kept + 1})
    return found


def _label_table(material: Material) -> list[dict[str, Any]]:
    per_label = material.measured["per_label"]
    most = max((one["support"] for one in per_label.values()), default=0) or 1
    return [
        {
            "row": row,
            "figures": per_label[row.name],
            "trained_on": material.train_counts.get(row.name),
            "share_of_most": per_label[row.name]["support"] / most,
            "is_defined": row.name not in material.measured["undefined_labels"],
        }
        for row in figures.label_rows(material)
    ]


def _figure_table(material: Material) -> list[dict[str, Any]]:
    validation = material.validation_measured
    guess = figures.guess_metrics(material)
    return [
        {
            "name": name,
            "meaning": meaning,
            "value": material.measured[key],
            "interval": _interval(material, key),
            "validation": validation.get(key),
            "guess": guess.get(key),
        }
        for key, (name, meaning) in _FIGURES.items()
        if key in material.measured and (material.run.multi_label or key not in _ONLY_MULTI)
    ]


def _interval(material: Material, key: str) -> tuple[float, float] | None:
    """The 95 % interval of a figure, where one was drawn."""
    if found := material.measured["intervals"].get(key):
        return found["low"], found["high"]
    if key in _SHARES:
        share = material.shares[_SHARES[key]]
        return share.low, share.high
    return None


def _data(material: Material) -> dict[str, Any]:
    """What is known of the dataset's problems."""
    result = dataset_dir.read_conversion(material.dataset_dir).get("result", {})
    reasons = result.get("rejects_by_reason", {})
    return {
        "rows_read": result.get("rows_read", 0),
        "num_rejected": sum(reasons.values()),
        "reasons": [(reason, _REASONS.get(reason, ""), count) for reason, count in sorted(reasons.items())],
        "rejected": _rejected(material.dataset_dir) if reasons else [],
        "without_row": result.get("images_without_row", 0),
        "findings": material.data.findings if material.data else [],
        "is_counted": material.data is not None,
        "duplicates": _duplicates(material),
    }


def _rejected(folder: str) -> list[dict[str, Any]]:
    """The first rows that became no record, other than duplicates."""
    path = f"{folder}/{dataset_dir.REJECTED_FILE}"
    if not files.exists(path):
        return []
    found = []
    with files.open_text(path) as file:
        for line in file:
            reject = json.loads(line)
            if reject["reason"] != "duplicate_id":
                found.append({**reject, "file": os.path.basename(str(reject["file"]))})
            if len(found) == _MAX_REJECTS:
                break
    return found


def _duplicates(material: Material) -> dict[str, int] | None:
    if material.duplicates is None:
        return None
    groups = material.duplicates.groups
    return {
        "groups": len(groups),
        "images": sum(len(group.members) for group in groups),
        "leaks": sum(group.is_leak for group in groups),
    }


def _settings(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The settings of the run, by the names of their flags."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= value if isinstance(value, dict) else {key: value}
    return [(key, _setting_text(value)) for key, value in flat.items() if value is not None]


def _setting_text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:g}"
    return str(np.bool_(value)).lower() if isinstance(value, bool) else str(value)
