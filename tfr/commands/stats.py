"""Counts what a dataset directory holds, compares its splits, and says what makes it hard to learn from.

Usage:
  tfr stats data/posters/1.0.0
  tfr stats data/posters --html=posters.html       (one self-contained page, with sample images of each label)
  tfr stats data/posters --json

One pass over the records; image sizes come from the headers. Any TFDS dataset directory with a feature that is an image
will do.
"""

import json

from tfr.errors import UsageError
from tfr.flag_groups import CommandFlags

FLAGS = CommandFlags()

_work = FLAGS.group("Work")
_RARE = _work.integer("rare", 20, "Call out labels on fewer training images than this.", lower=1)
_NUM_WORKERS = _work.integer("num_workers", None, "Cores to use. Default: all.", lower=1)

_output = FLAGS.group("Output")
_HTML = _output.string("html", None, "Write the statistics as an HTML page to this file.")
_SAMPLES = _output.integer("samples_per_label", 4, "Sample images of each label on the page.", lower=0)
_JSON = _output.bool("json", False, "Print the statistics as JSON.")


def main(args: list[str]) -> None:
    """Counts, prints, and writes the page."""
    if len(args) != 1:
        raise UsageError(f"tfr stats takes one dataset directory. Received: {args}")
    from tfr import statistics_report

    report = statistics_report.make(
        args[0],
        num_workers=_NUM_WORKERS.value,
        rare=_RARE.value,
        samples_per_label=_SAMPLES.value if _HTML.value else 0,
    )
    if _HTML.value:
        report.write_html(_HTML.value)
    print(json.dumps(report.to_json(), indent=1, ensure_ascii=False) if _JSON.value else report.to_text())
    if _HTML.value and not _JSON.value:
        print(f"\nThe page: {_HTML.value}")
