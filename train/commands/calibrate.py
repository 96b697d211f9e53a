"""Tunes a run's thresholds anew and, if wanted, the temperature of its probabilities.

Usage:
  tfr calibrate runs/posters --temperature
  tfr calibrate runs/posters --thresholds=per_label --objective=macro_f1

Training already tunes thresholds. This is for another objective, another validation split, or probabilities that are
to be taken at their word. What it changes (thresholds.json, and with --temperature the model) evaluate, predict, export
and serve use.
"""

from tfr.errors import UsageError
from tfr.flag_groups import CommandFlags

from ..thresholds import METHODS, OBJECTIVES

FLAGS = CommandFlags()

_data = FLAGS.group("Data")
_DATASET = _data.string("dataset", None, "Dataset directory or TFDS name. Default: the one of the training.")
_SPLIT = _data.string("split", None, "Split to tune on, not trained on. Default: the training's validation split.")

_what = FLAGS.group("Calibration")
_TEMPERATURE = _what.bool("temperature", False, "Fit a temperature, so that probabilities are frequencies.")
_THRESHOLDS = _what.enum("thresholds", "auto", METHODS, "One for all labels, one a label, or what proves better.")
_OBJECTIVE = _what.enum(
    "objective", "micro_f1", OBJECTIVES, "micro_f1: few wrong tags in all; macro_f1: rare tags count as much."
)

_output = FLAGS.group("Output")
_JSON = _output.bool("json", False, "Print the result as JSON.")


def main(args: list[str]) -> None:
    """Calibrates and says what changed."""
    if len(args) != 1:
        raise UsageError(f"tfr calibrate takes one run directory. Received: {args}")
    from .. import quiet, run_dir

    run = run_dir.load(args[0])  # an error here need not wait for TensorFlow
    quiet.import_tensorflow()
    from .. import calibration

    result = calibration.calibrate(
        args[0],
        dataset=_DATASET.value,
        split=_SPLIT.value,
        scale=_TEMPERATURE.value,
        method=_THRESHOLDS.value,
        objective=_OBJECTIVE.value,
    )
    if _JSON.value:
        shown = {"split": result.split, "temperature": result.temperature, "before": result.before}
        thresholds = result.thresholds.to_json(run.labels)
        print(run_dir.to_json({**shown, "after": result.after, "thresholds": thresholds}))
    else:
        print(calibration.summary(result, args[0]))
