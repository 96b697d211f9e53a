"""Verifies a dataset directory: reads every shard, checks every checksum, decodes every image, compares the counts.

Usage:
  tfr verify data/posters/1.0.0
  tfr verify data/posters --json

Names file, record and byte of what is wrong, and goes on. Exit code 1 if anything is. Any TFDS dataset directory with
a feature that is an image will do; what only `tfr convert` writes is not compared where it is not there.
"""

import json

from tfr.errors import DatasetError, UsageError
from tfr.flag_groups import CommandFlags

FLAGS = CommandFlags()

_job = FLAGS.group("Work")
_NUM_WORKERS = _job.integer("num_workers", None, "Cores to use. Default: all.", lower=1)

_output = FLAGS.group("Output")
_MAX_PROBLEMS = _output.integer("max_problems", 100, "How many problems to describe; all are counted.", lower=1)
_JSON = _output.bool("json", False, "Print the result as JSON.")


def main(args: list[str]) -> None:
    """Verifies the dataset directory and says what was found."""
    if len(args) != 1:
        raise UsageError(f"tfr verify takes one dataset directory. Received: {args}")
    from tfr import verification

    result = verification.verify(args[0], num_workers=_NUM_WORKERS.value, max_problems=_MAX_PROBLEMS.value)
    print(json.dumps(result.to_json(), indent=1) if _JSON.value else verification.text(result))
    if result.num_problems:
        raise DatasetError(
            f"{result.dataset_dir} is not sound. Fetch the files named above again, or make it anew with "
            "`tfr convert --overwrite`."
        )
