"""Tags images with a trained tagger.

Usage:
  tfr predict runs/posters --image=poster.jpg
  tfr predict runs/posters --image=a.jpg --image=folder/ --top_k=3 --json

Prints the likeliest tags of each image with their probabilities; a star marks those from the run's thresholds on. Files
that cannot be read are named and skipped; the exit code is 1 if none could be read.
"""

import json
import sys

from tfr.errors import TfrError, UsageError
from tfr.flag_groups import CommandFlags

FLAGS = CommandFlags()

_input = FLAGS.group("Input")
_IMAGE = _input.multi("image", "Image file or folder; may be given several times.")
_BATCH_SIZE = _input.integer("batch_size", 32, "Images per step.", lower=1)

_output = FLAGS.group("Output")
_TOP_K = _output.integer("top_k", 10, "How many tags to show for an image.", lower=1)
_JSON = _output.bool("json", False, "Print one JSON object a line.")


def main(args: list[str]) -> None:
    """Predicts and prints."""
    if len(args) < 1 or not (args[1:] or _IMAGE.value):
        raise UsageError(f"tfr predict takes a run directory and at least one --image. Received: {args}")
    from .. import quiet, run_dir

    run = run_dir.load(args[0])
    quiet.import_tensorflow()
    from .. import prediction

    paths = prediction.expand([*_IMAGE.value, *args[1:]])
    if not paths:
        raise TfrError(f"No image files below {', '.join([*_IMAGE.value, *args[1:]])}.")
    failed = 0
    for result in prediction.predict_files(args[0], paths, top_k=_TOP_K.value, batch_size=_BATCH_SIZE.value):
        failed += result.error is not None
        if _JSON.value:
            print(json.dumps({"image": result.path, "tags": dict(result.tags), "error": result.error}))
        elif result.error is not None:
            print(f"tfr: {result.path}: {result.error}; skipped", file=sys.stderr)
        else:
            print(prediction.text(result, run))
    if failed == len(paths):
        raise TfrError(f"None of the {failed} images could be read.")
