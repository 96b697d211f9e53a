"""Caches the embeddings of a dataset, from which `tfr train --bottlenecks` trains in seconds, as often as you like.

Usage:
  tfr embed data/posters/1.0.0
  tfr embed data/posters/1.0.0 --backbone=efficientnet_lite0 --views=4 --augment=medium --output=data/cache/1.0.0
  tfr embed gs://bucket/posters/1.0.0 --output=gs://bucket/cache/1.0.0 --runner=DataflowRunner -- --project=p --region=r

The result is a dataset directory that TFDS opens: `embedding` instead of `image`, all else as it was. The same command
does what is missing: the rest of a killed run, the new shards of a dataset that has grown. Where backbone, weights,
image size, preprocessing or the examples changed it says so, and replaces the embeddings with --overwrite.
"""

import dataclasses
import json

from tfr.beam_flags import BeamFlags
from tfr.errors import UsageError
from tfr.flag_groups import CommandFlags

from .. import backbones
from ..config import AUGMENT_OPS, AUGMENT_PRESETS, FEATURES, RESIZE_MODES
from ..embedding.config import DTYPES, EmbedConfig

FLAGS = CommandFlags()
_DEFAULT = EmbedConfig(dataset="")  # the one place of the defaults

_input = FLAGS.group("Input")
_DATA_DIR = _input.string("data_dir", None, "Root of dataset directories, for a TFDS name.")

_model = FLAGS.group("Model")
_BACKBONE = _model.string(
    "backbone",
    None,
    f"One of {', '.join(backbones.BACKBONES)}. Default: efficientnet_lite0 if its weights are installed, else "
    "mobilenet_v2.",
)
_WEIGHTS = _model.string("weights", _DEFAULT.weights, "'imagenet', 'none' for random ones, or a weights file.")
_IMAGE_SIZE = _model.integer("image_size", None, "Side of the input in pixels. Default: the backbone's own.", lower=16)
_FEATURES = _model.enum(
    "features", _DEFAULT.features, FEATURES, "The last embedding, or with the means of all stages before it."
)
_RESIZE = _model.enum("resize", _DEFAULT.resize, RESIZE_MODES, "How images become square.")
_BATCH_SIZE = _model.integer("batch_size", _DEFAULT.batch_size, "Images per step.", lower=1)

_views = FLAGS.group("Views")
_VIEWS = _views.integer("views", _DEFAULT.num_views, "Augmented views of each example, to train on.", lower=0)
_AUGMENT = _views.string(
    "augment",
    _DEFAULT.augment,
    f"What makes the views: {', '.join(AUGMENT_PRESETS)}, or a list of {', '.join(AUGMENT_OPS)}, each with a strength "
    "if wanted, such as crop:0.5,flip.",
)
_SEED = _views.integer("seed", _DEFAULT.seed, "Fixes the views, and random weights.", lower=0)

_output = FLAGS.group("Output")
_OUTPUT = _output.string(
    "output", None, "Directory to write. Default: <data_dir>/<dataset>_<backbone>/<version>, beside the dataset."
)
_DTYPE = _output.enum("dtype", _DEFAULT.dtype, DTYPES, "Type of the numbers.")
_OVERWRITE = _output.bool("overwrite", False, "Replace embeddings that were made otherwise, or of other examples.")
_JSON = _output.bool("json", False, "Print the result as JSON.")

_BEAM = BeamFlags(FLAGS, "embed DATASET", without="this process, without Beam.")


def main(args: list[str]) -> None:
    """Builds the config, embeds, and says what was done."""
    if not args or args[0].startswith("--"):
        raise UsageError(f"tfr embed takes a dataset directory or a TFDS name. Received: {args}")
    config = EmbedConfig(
        dataset=args[0],
        data_dir=_DATA_DIR.value,
        output=_OUTPUT.value,
        backbone=_BACKBONE.value,
        weights=_WEIGHTS.value,
        image_size=_IMAGE_SIZE.value,
        features=_FEATURES.value,
        resize=_RESIZE.value,
        dtype=_DTYPE.value,
        num_views=_VIEWS.value,
        augment=_AUGMENT.value,
        seed=_SEED.value,
        batch_size=_BATCH_SIZE.value,
        overwrite=_OVERWRITE.value,
        runner=_BEAM.runner,
        num_workers=_BEAM.num_workers,
        beam_args=_BEAM.beam_args(args[1:]),
    )
    backbones.get_backbone(config.backbone or backbones.default_backbone())  # before TensorFlow is imported
    from .. import quiet

    quiet.import_tensorflow()
    from ..embedding import embed

    result = embed.embed(config)
    print(json.dumps(dataclasses.asdict(result), indent=1) if _JSON.value else embed.summary(result))
