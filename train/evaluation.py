"""Evaluation: a run measured on a split of a dataset, exactly, label by label."""

import dataclasses
import datetime
import math
import os
from typing import Any

from . import bootstrap, metrics, run_dir
from .prediction import saved_predictions


def evaluate(
    path: str, *, dataset: str | None = None, split: str = "test", batch_size: int = 32, results: str | None = None
) -> dict[str, Any]:
    """Measures a run on a split.

    Args:
      path: the run directory.
      dataset: dataset directory or TFDS name; default: the one that the run was trained on.
      split: a split, or a slice of one.
      batch_size: images per step.
      results: CSV file to append a row to; default: results.csv in the run directory.

    Returns:
      See metrics.compute_metrics, and `intervals`: for the headline figures the 95 % intervals of bootstrap.intervals.
      Also saved in metrics.json.

    Raises:
      RunDirError: it is no finished run, or its labels are not those of the dataset.
      DatasetError: no such dataset or split.
    """
    run = run_dir.load(path)
    found = saved_predictions.of_split(run, dataset=dataset, split=split, batch_size=batch_size)
    measured = measure(run, found)
    run_dir.update_metrics(path, split, measured)
    row = _result_row(run, dataset or run.config["resolved"]["dataset"], split, measured)
    run_dir.append_results(results or os.path.join(path, run_dir.RESULTS_FILE), row)
    return measured


def measure(run: run_dir.Run, found: saved_predictions.Predictions) -> dict[str, Any]:
    """What `evaluate` returns, of predictions, without saving it."""
    measured = metrics.compute_metrics(
        found.targets,
        found.probabilities,
        run.labels,
        threshold=run.thresholds.per_label,
        multi_label=run.multi_label,
    )
    intervals = bootstrap.intervals(found.targets, found.probabilities, multi_label=run.multi_label)
    return {**measured, "intervals": {key: dataclasses.asdict(interval) for key, interval in intervals.items()}}


def _result_row(run: run_dir.Run, dataset: str, split: str, measured: dict[str, Any]) -> dict[str, Any]:
    """One row: when, what, the headline figures, then average precision and ROC-AUC of each label."""
    scalars = {key: _rounded(value) for key, value in measured.items() if isinstance(value, (int, float))}
    per_label = measured["per_label"]
    return {
        "run": run.path,
        "time": datetime.datetime.now().isoformat(timespec="seconds"),
        "dataset": dataset,
        "split": split,
        "backbone": run.config["resolved"]["backbone"],
        **scalars,
        **{f"average_precision/{name}": _rounded(m["average_precision"]) for name, m in per_label.items()},
        **{f"roc_auc/{name}": _rounded(m["roc_auc"]) for name, m in per_label.items()},
    }


def _rounded(value: float) -> float | str:
    return "" if isinstance(value, float) and math.isnan(value) else round(value, 5)


def report_text(measured: dict[str, Any], split: str) -> str:
    """The figures in plain words: headline first, then a row a label."""
    lines = [f"{split}: {measured['num_examples']} examples", ""]
    for key, value in measured.items():
        if isinstance(value, float):
            lines.append(f"  {key:<22}{_shown(value)}{_interval_text(measured, key)}")
    width = max([len(name) for name in measured["per_label"]] + [5]) + 2
    lines += ["", "  " + "label".ljust(width) + "".join(f"{title:>11}" for title in _COLUMNS.values())]
    ranked = sorted(measured["per_label"].items(), key=lambda item: -item[1]["support"])
    for name, values in ranked:
        mark = " *" if name in measured["rare_labels"] else ""
        lines.append("  " + name.ljust(width) + "".join(f"{_shown(values[key]):>11}" for key in _COLUMNS) + mark)
    if measured["rare_labels"]:
        lines.append(f"\n  * fewer than {metrics.FEW_POSITIVES} positives: these figures are mostly chance")
    if measured["undefined_labels"]:
        listed = ", ".join(measured["undefined_labels"])
        lines.append(f"\n  without a positive or a negative here, so in no macro average: {listed}")
    return "\n".join(lines)


def _interval_text(measured: dict[str, Any], key: str) -> str:
    found = measured.get("intervals", {}).get(key)
    return f"  95 % interval {_shown(found['low'])} to {_shown(found['high'])}" if found else ""


_COLUMNS = {
    "support": "positives",
    "average_precision": "AP",
    "roc_auc": "ROC-AUC",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "threshold": "from",
    "calibration_error": "ECE",
}


def _shown(value: float) -> str:
    return str(value) if isinstance(value, int) else "-" if math.isnan(value) else f"{value:.4f}"
