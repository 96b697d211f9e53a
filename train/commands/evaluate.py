"""Measures a trained tagger on a split, exactly, label by label.

Usage:
  tfr evaluate runs/posters --split=test
  tfr evaluate runs/posters --dataset=data/other/1.0.0 --split=test --results=all_runs.csv

The figures are printed, saved in <run_dir>/metrics.json, and appended as a row to results.csv.
"""

from tfr.errors import UsageError
from tfr.flag_groups import CommandFlags

FLAGS = CommandFlags()

_data = FLAGS.group("Data")
_DATASET = _data.string("dataset", None, "Dataset directory or TFDS name. Default: the one of the training.")
_SPLIT = _data.string("split", "test", "Split to measure on.")
_BATCH_SIZE = _data.integer("batch_size", 32, "Images per step.", lower=1)

_output = FLAGS.group("Output")
_RESULTS = _output.string("results", None, "CSV file to append a row to. Default: results.csv in the run directory.")
_JSON = _output.bool("json", False, "Print the figures as JSON.")


def main(args: list[str]) -> None:
    """Evaluates and prints."""
    if len(args) != 1:
        raise UsageError(f"tfr evaluate takes one run directory. Received: {args}")
    from .. import quiet, run_dir

    run_dir.load(args[0])  # an error here need not wait for TensorFlow
    quiet.import_tensorflow()
    from .. import evaluation

    measured = evaluation.evaluate(
        args[0], dataset=_DATASET.value, split=_SPLIT.value, batch_size=_BATCH_SIZE.value, results=_RESULTS.value
    )
    print(run_dir.to_json(measured) if _JSON.value else evaluation.report_text(measured, _SPLIT.value))
