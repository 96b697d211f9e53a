"""Evaluation: a run measured on a split of a dataset, exactly, label by label."""

import dataclasses
import datetime
import math
import os
from typing import Any

import numpy as np

from tfr import dataset_dir
from tfr.errors import RunDirError

from . import forward, input_pipeline, metrics, run_dir


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Of a split, in stored order: targets and probabilities, (num_examples, num_labels), and ids if there are any."""

    targets: np.ndarray
    probabilities: np.ndarray
    ids: list[str]


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
      See metrics.compute_metrics. Also saved in metrics.json.

    Raises:
      RunDirError: it is no finished run, or its labels are not those of the dataset.
      DatasetError: no such dataset or split.
    """
    run = run_dir.load(path)
    predictions = predict_split(run, dataset=dataset, split=split, batch_size=batch_size)
    measured = metrics.compute_metrics(
        predictions.targets,
        predictions.probabilities,
        run.labels,
        threshold=run.threshold,
        multi_label=run.multi_label,
    )
    run_dir.update_metrics(path, split, measured)
    row = _result_row(run, dataset or run.config["resolved"]["dataset"], split, measured)
    run_dir.append_results(results or os.path.join(path, run_dir.RESULTS_FILE), row)
    return measured


def predict_split(run: run_dir.Run, *, dataset: str | None, split: str, batch_size: int) -> Predictions:
    """Probabilities and targets of every example of a split."""
    builder = input_pipeline.open_dataset(dataset or run.config["resolved"]["dataset_dir"])
    _check_labels(run, dataset_dir.label_names(builder), builder.info.full_name)
    shape = input_pipeline.BatchShape(run.image_size, batch_size, run.resize)
    batches = input_pipeline.for_evaluation(builder, split, shape)
    total = input_pipeline.num_examples(builder, split)
    found = forward.collect(forward.run(run.load_model(), batches, total=total, description=f"predicting {split}"))
    ids = [value.decode("utf-8") for value in found.get("id", [])]
    return Predictions(found["target"], found["output"], ids)


def _check_labels(run: run_dir.Run, names: list[str], dataset: str) -> None:
    """Raises where the run's labels are not the dataset's, in the same order."""
    if run.labels == names:
        return
    only_run, only_data = sorted(set(run.labels) - set(names)), sorted(set(names) - set(run.labels))
    difference = f"only in the run: {only_run}; only in the dataset: {only_data}"
    if not only_run and not only_data:
        difference = "the same labels in another order"
    raise RunDirError(
        f"The labels of {run.path} are not those of {dataset}: {difference}. Convert the dataset with "
        f"--labels_file={os.path.join(run.path, run_dir.LABELS_FILE)}, or evaluate on the dataset of the training."
    )


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
    lines += [f"  {key:<22}{_shown(value)}" for key, value in measured.items() if isinstance(value, float)]
    width = max([len(name) for name in measured["per_label"]] + [5]) + 2
    lines += ["", "  " + "label".ljust(width) + "".join(f"{title:>11}" for title in _COLUMNS.values())]
    ranked = sorted(measured["per_label"].items(), key=lambda item: -item[1]["support"])
    for name, values in ranked:
        lines.append("  " + name.ljust(width) + "".join(f"{_shown(values[key]):>11}" for key in _COLUMNS))
    if measured["undefined_labels"]:
        listed = ", ".join(measured["undefined_labels"])
        lines.append(f"\n  without a positive or a negative here, so in no macro average: {listed}")
    return "\n".join(lines)


_COLUMNS = {
    "support": "positives",
    "average_precision": "AP",
    "roc_auc": "ROC-AUC",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
}


def _shown(value: float) -> str:
    return str(value) if isinstance(value, int) else "-" if math.isnan(value) else f"{value:.4f}"
