"""Writes the report of a trained tagger: one HTML page that a person who is no specialist can read.

Usage:
  tfr report runs/posters
  tfr report runs/posters --split=test --pdf --output=posters.html

The page says what was trained on what, how good it is in words and in figures, what to look out for, which images it
gets right and wrong, what is wrong with the data, and how to use the tagger. It needs no network and no other file.
"""

import json

from tfr.errors import UsageError
from tfr.flag_groups import CommandFlags

FLAGS = CommandFlags()

_data = FLAGS.group("Data")
_DATASET = _data.string("dataset", None, "Dataset directory or TFDS name. Default: the one of the training.")
_SPLIT = _data.string("split", "test", "Split to measure on. Where there is no test split: the validation split.")

_output = FLAGS.group("Output")
_OUTPUT = _output.string("output", None, "HTML file to write. Default: report.html in the run directory.")
_PDF = _output.bool("pdf", False, "Write the same as PDF beside it (pip install 'tfr[pdf]').")
_NUM_EXAMPLES = _output.integer("num_examples", 8, "Example images of each kind: right, wrong, missed.", lower=0)
_EXPLAIN = _output.bool("explain", True, "Show on each example which part of it speaks for the label.")
_JSON = _output.bool("json", False, "Print the paths as JSON.")


def main(args: list[str]) -> None:
    """Writes the report and prints where it is."""
    if len(args) != 1:
        raise UsageError(f"tfr report takes one run directory. Received: {args}")
    from .. import quiet, run_dir

    run_dir.load(args[0])  # an error here need not wait for TensorFlow
    quiet.import_tensorflow()
    from ..reporting import report

    path = report.write_report(
        args[0],
        dataset=_DATASET.value,
        split=_SPLIT.value,
        output=_OUTPUT.value,
        pdf=_PDF.value,
        num_examples=_NUM_EXAMPLES.value,
        explain=_EXPLAIN.value,
    )
    written = {"html": path} | ({"pdf": report.pdf_path(path)} if _PDF.value else {})
    print(json.dumps(written) if _JSON.value else "\n".join(f"The report: {one}" for one in written.values()))
