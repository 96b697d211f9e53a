"""Compares trained taggers on the same examples, and says how sure a difference is.

Usage:
  tfr compare runs/a runs/b runs/c --split=test --output=comparison.png

Prints the headline figures of each run with 95 % intervals, and how every other run differs from the first (paired
bootstrap over the examples).
"""

import dataclasses

from tfr.errors import UsageError
from tfr.flag_groups import CommandFlags

FLAGS = CommandFlags()

_data = FLAGS.group("Data")
_DATASET = _data.string("dataset", None, "Dataset directory or TFDS name for all runs. Default: each run's own.")
_SPLIT = _data.string("split", "test", "Split to compare on.")
_SEED = _data.integer("seed", 0, "Fixes the resamples.", lower=0)

_output = FLAGS.group("Output")
_OUTPUT = _output.string("output", None, "PNG or SVG file to draw to.")
_JSON = _output.bool("json", False, "Print the result as JSON.")


def main(args: list[str]) -> None:
    """Compares and prints."""
    if len(args) < 2:
        raise UsageError(f"tfr compare takes two or more run directories. Received: {args}")
    from .. import quiet, run_dir

    for path in args:
        run_dir.load(path)  # an error here need not wait for TensorFlow
    quiet.import_tensorflow()
    from .. import comparison

    result = comparison.compare(args, dataset=_DATASET.value, split=_SPLIT.value, seed=_SEED.value)
    print(run_dir.to_json(dataclasses.asdict(result)) if _JSON.value else comparison.text(result))
    if _OUTPUT.value:
        comparison.draw(result, _OUTPUT.value)
