"""Calibration of a finished run on its validation split: temperature scaling and thresholds."""

import dataclasses

import keras
import numpy as np
from scipy import optimize, special

from . import metrics, models, run_dir, threshold_tuning
from .prediction import saved_predictions
from .thresholds import Thresholds

_LOGIT_LIMIT = 1e-7  # probabilities are kept this far from 0 and 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """What a calibration did.

    Attributes:
      split: what it was done on.
      temperature: what the logits are divided by in all, 1 for none.
      thresholds: those that were tuned.
      before, after: log_loss, calibration_error, micro_f1 and macro_f1 on that split.
    """

    split: str
    temperature: float
    thresholds: Thresholds
    before: dict[str, float]
    after: dict[str, float]


def calibrate(
    path: str,
    *,
    dataset: str | None = None,
    split: str | None = None,
    scale: bool = False,
    method: str = "auto",
    objective: str = "micro_f1",
) -> Calibration:
    """Tunes a run's thresholds anew and, if wanted, the temperature of its probabilities.

    The temperature becomes part of model.keras: whoever loads the model has calibrated probabilities.

    Args:
      path: the run directory.
      dataset: dataset directory or TFDS name; default: the one of the training.
      split: a split that the model was not trained on; default: the validation split of the training.
      scale: whether to fit a temperature.
      method, objective: see threshold_tuning.tune.

    Raises:
      RunDirError: it is no finished run, or its labels are not those of the dataset.
      DatasetError: no such dataset or split.
    """
    run = run_dir.load(path)
    split = split or run.config["resolved"]["validation_split"]
    found = saved_predictions.of_split(run, dataset=dataset, split=split)
    factor = fit_temperature(found.targets, found.probabilities, run.multi_label) if scale else 1.0
    probabilities = apply_temperature(found.probabilities, factor, run.multi_label)
    tuned = threshold_tuning.tune(found.targets, probabilities, method=method, objective=objective, tuned_on=split)
    temperature = run.config["resolved"].get("temperature", 1.0) * factor
    before = _measure(run, found.targets, found.probabilities, run.thresholds)
    after = _measure(run, found.targets, probabilities, tuned)
    if scale:
        _save_scaled(run, temperature)
    run_dir.write_json(path, run_dir.THRESHOLDS_FILE, tuned.to_json(run.labels))
    return Calibration(split=split, temperature=temperature, thresholds=tuned, before=before, after=after)


def fit_temperature(targets: np.ndarray, probabilities: np.ndarray, multi_label: bool) -> float:
    """The temperature with the least log loss on these examples.

    One number that all logits are divided by: it changes how sure the model says it is, not the order of anything.
    Source: Guo et al., "On Calibration of Modern Neural Networks", 2017.

    Args:
      targets: (num_examples, num_labels) of 1, 0 and -1 for unknown.
      probabilities: same shape.
      multi_label: whether the probabilities are one a label, or over all of them.
    """
    known = targets != metrics.UNKNOWN

    def loss(log_temperature: float) -> float:
        scaled = apply_temperature(probabilities, np.exp(log_temperature), multi_label)
        clipped = np.clip(scaled, _LOGIT_LIMIT, 1 - _LOGIT_LIMIT)
        if not multi_label:
            return float(-np.mean(np.log(clipped[targets == 1])))
        return float(-np.mean(np.where(targets == 1, np.log(clipped), np.log1p(-clipped))[known]))

    return float(np.exp(optimize.minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded").x))


def apply_temperature(probabilities: np.ndarray, temperature: float, multi_label: bool) -> np.ndarray:
    """The probabilities, same shape, that the logits divided by the temperature would have given."""
    clipped = np.clip(probabilities.astype(np.float64), _LOGIT_LIMIT, 1 - _LOGIT_LIMIT)
    if multi_label:
        return special.expit(special.logit(clipped) / temperature)
    return special.softmax(np.log(clipped) / temperature, axis=1)


def _measure(
    run: run_dir.Run, targets: np.ndarray, probabilities: np.ndarray, thresholds: Thresholds
) -> dict[str, float]:
    measured = metrics.compute_metrics(
        targets, probabilities, run.labels, threshold=thresholds.per_label, multi_label=run.multi_label
    )
    return {key: measured[key] for key in ("log_loss", "calibration_error", "micro_f1", "macro_f1")}


def _save_scaled(run: run_dir.Run, temperature: float) -> None:
    """Writes the model with its logits divided by the temperature."""
    model = run.load_model()
    logits = keras.Model(model.input, model.get_layer(models.LOGITS).output)
    run_dir.save_model(run.path, models.with_probabilities(logits, run.multi_label, temperature))
    config = {**run.config, "resolved": {**run.config["resolved"], "temperature": temperature}}
    run_dir.write_json(run.path, run_dir.CONFIG_FILE, config)


def summary(calibration: Calibration, path: str) -> str:
    """What was done, in plain words."""
    tuned = calibration.thresholds
    kind = "one threshold for all labels" if np.isinf(tuned.strength) else "a threshold for each label"
    lines = [f"{path}: calibrated on {calibration.split}", f"  temperature {calibration.temperature:.3f}; {kind}"]
    for key, value in calibration.before.items():
        lines.append(f"  {key:<20}{value:.4f} -> {calibration.after[key]:.4f}")
    return "\n".join([*lines, "  (on the very examples it was tuned on: `tfr evaluate` measures on others)"])
