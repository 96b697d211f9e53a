"""Draws the first training batches of a dataset, augmented and sampled as `tfr train` would, with their labels.

Usage:
  tfr preview data/posters/1.0.0 --augment=medium
  tfr preview data/posters --augment=crop:0.5,flip,cutmix --sample=balanced --output=sheet.png

Under each image stand its labels: with their share where images are mixed, with a question mark where nothing is known.
"""

import json

from tfr.errors import UsageError
from tfr.flag_groups import CommandFlags

from ..config import AUGMENT_OPS, AUGMENT_PRESETS, RESIZE_MODES, SAMPLES, DataConfig

FLAGS = CommandFlags()
_DEFAULT = DataConfig(dataset="")

_data = FLAGS.group("Data")
_DATA_DIR = _data.string("data_dir", None, "Root of dataset directories, for a TFDS name.")
_SPLIT = _data.string("split", _DEFAULT.train_split, "Split to draw from; slices such as train[:80%] work.")
_IMAGE_SIZE = _data.integer("image_size", 224, "Side of the images in pixels.", lower=16)
_RESIZE = _data.enum("resize", _DEFAULT.resize, RESIZE_MODES, "How images become square.")
_AUGMENT = _data.string(
    "augment",
    "medium",
    f"{', '.join(AUGMENT_PRESETS)}, or a list of {', '.join(AUGMENT_OPS)}, each with a strength if wanted, such as "
    "crop:0.5,flip.",
)
_SAMPLE = _data.enum("sample", _DEFAULT.sample, SAMPLES, "balanced: draw labels equally often.")
_SEED = _data.integer("seed", 0, "Fixes order and augmentation; as in tfr train.", lower=0)

_output = FLAGS.group("Output")
_NUM_IMAGES = _output.integer("num_images", 24, "How many images to draw.", lower=1)
_OUTPUT = _output.string("output", None, "PNG file. Default: <name>-<split>-augmented.png in the working directory.")
_JSON = _output.bool("json", False, "Print file and labels as JSON.")


def main(args: list[str]) -> None:
    """Draws the contact sheet."""
    if len(args) != 1:
        raise UsageError(f"tfr preview takes one dataset: a directory or a TFDS name. Received: {args}")
    from .. import config, quiet

    config.parse_augment(_AUGMENT.value)  # an error here need not wait for TensorFlow
    quiet.import_tensorflow()
    from .. import previewing

    drawn = previewing.draw_batches(
        DataConfig(
            dataset=args[0],
            data_dir=_DATA_DIR.value,
            train_split=_SPLIT.value,
            batch_size=_NUM_IMAGES.value,
            resize=_RESIZE.value,
            augment=_AUGMENT.value,
            sample=_SAMPLE.value,
        ),
        image_size=_IMAGE_SIZE.value,
        seed=_SEED.value,
        output=_OUTPUT.value,
    )
    if _JSON.value:
        print(json.dumps({"output": drawn.output, "captions": drawn.captions}, indent=1, ensure_ascii=False))
    else:
        print(f"{len(drawn.captions)} images of {_SPLIT.value}, --augment={_AUGMENT.value}: {drawn.output}")
