"""Shows which part of an image speaks for a label.

Usage:
  tfr explain runs/posters --image=poster.jpg --output=explained
  tfr explain runs/posters --image=folder/ --label=Horror --label=Comedy --method=both --output=explained
  tfr explain runs/posters --split=test --id=54390.jpg --output=explained
  tfr explain runs/posters --sanity_check

Writes a sheet for each image: beside it its likeliest labels, or those of --label, each with a heat map over the image;
single maps are in OUTPUT/maps. Grad-CAM shows coarse regions in no time, integrated gradients single pixels in seconds.
Files that cannot be read are named and skipped; the exit code is 1 if none could be read.
"""

import dataclasses
import json
import sys
from typing import TYPE_CHECKING

from tfr.errors import TfrError, UsageError
from tfr.flag_groups import CommandFlags

from ..explaining.config import BASELINES, METHODS, STEPS, ExplainConfig, label_ids

if TYPE_CHECKING:
    from .. import run_dir

FLAGS = CommandFlags()

_input = FLAGS.group("Input")
_IMAGE = _input.multi("image", "Image file, folder, pattern, or - for paths on standard input; may be repeated.")
_ID = _input.multi("id", "Id of an example of --dataset; may be given several times.")
_DATASET = _input.string("dataset", None, "Dataset directory or TFDS name. Default: the one of the training.")
_SPLIT = _input.string("split", "test", "Its split that --id is looked for in.")

_what = FLAGS.group("Explanation")
_LABEL = _what.multi("label", "Label to explain; may be given several times. Default: the likeliest of each image.")
_TOP_K = _what.integer("top_k", 3, "How many of the likeliest.", lower=1)
_METHOD = _what.enum("method", METHODS[0], [*METHODS, "both"], "How.")
_BASELINE = _what.enum(
    "baseline", "black", BASELINES, "Integrated gradients: the image that says nothing. Its colour gets no attribution."
)
_STEPS = _what.integer("steps", STEPS, "Integrated gradients: points between baseline and image.", lower=1)

_check = FLAGS.group("Sanity check")
_SANITY_CHECK = _check.bool(
    "sanity_check",
    False,
    "Instead of pictures, say how far maps change when the head, then block after block of the backbone are random.",
)
_CASCADE = _check.bool("cascade", True, "Whether to go on from the head to the backbone.")
_NUM_EXAMPLES = _check.integer("num_examples", 8, "Examples of the training's validation split to do it on.", lower=1)

_output = FLAGS.group("Output")
_OUTPUT = _output.string("output", None, "Folder for the pictures.")
_JSON = _output.bool("json", False, "Print one JSON object an image, or one with the stages of the sanity check.")


def main(args: list[str]) -> None:
    """Explains and prints where the pictures are."""
    if len(args) != 1:
        raise UsageError(f"tfr explain takes one run directory. Received: {args}")
    from .. import quiet, run_dir

    run = run_dir.load(args[0])
    methods = METHODS if _METHOD.value == "both" else (_METHOD.value,)
    if _SANITY_CHECK.value:
        _check_sanity(run, methods)
        return
    if not (_IMAGE.value or _ID.value):
        raise UsageError("tfr explain takes at least one --image or --id, or --sanity_check.")
    if not _OUTPUT.value:
        raise UsageError("--output is required: the folder for the pictures.")
    label_ids(_LABEL.value, run.labels)  # an error here need not wait for TensorFlow
    quiet.import_tensorflow()
    from ..explaining import explain

    config = ExplainConfig(
        output=_OUTPUT.value,
        images=_IMAGE.value,
        dataset=_DATASET.value,
        split=_SPLIT.value,
        ids=_ID.value,
        labels=_LABEL.value,
        methods=methods,
        top_k=_TOP_K.value,
        baseline=_BASELINE.value,
        steps=_STEPS.value,
    )
    failed = total = 0
    for explained in explain.explain(run, config):
        total, failed = total + 1, failed + (explained.error is not None)
        if _JSON.value:
            print(json.dumps(dataclasses.asdict(explained), ensure_ascii=False))
        elif explained.error is not None:
            print(f"tfr: {explained.image}: {explained.error}; skipped", file=sys.stderr)
        else:
            print(explain.text(explained))
    if failed == total:
        raise TfrError(f"None of the {failed} images could be read.")


def _check_sanity(run: "run_dir.Run", methods: tuple[str, ...]) -> None:
    """Prints the sanity check of each method."""
    from .. import quiet

    quiet.import_tensorflow()
    from ..explaining import check, explain

    split = run.config["resolved"]["validation_split"]
    pixels = explain.first_pixels(run, split, _NUM_EXAMPLES.value, _DATASET.value)
    cascade = _CASCADE.value
    found = {m: check.sanity_check(run, pixels, method=m, cascade=cascade) for m in methods}
    if _JSON.value:
        stages = {method: [dataclasses.asdict(stage) for stage in listed] for method, listed in found.items()}
        print(json.dumps(stages, indent=1))
    else:
        print("\n\n".join(check.text(stages, method) for method, stages in found.items()))
