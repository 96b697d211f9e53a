"""Searches for good settings of a training run within a budget, and trains the best.

Usage:
  tfr tune --dataset=data/posters --output=runs/tuned --max_minutes=20
  tfr tune --dataset=data/posters --output=runs/tuned --backbones=efficientnet_lite0,mobilenet_v2
  tfr tune --dataset=data/posters --output=runs/tuned --finetune_epochs=5 --max_minutes=600

Varies the head, its dropout, weight decay and learning rate, the backbone if several are named, and with
--finetune_epochs augmentation, what is unfrozen and the rates of fine-tuning. Heads are trained on embeddings that are
computed once, in seconds each. Trials are judged on the validation split; the first one is `tfr train` as it is. The
same command again goes on where it was, also after a kill. Needs pip install "tfr[tune]".
"""

import dataclasses

from tfr.errors import UsageError
from tfr.flag_groups import CommandFlags

from .. import backbones
from ..config import RESIZE_MODES, DataConfig, ModelConfig, TrainConfig
from ..tuning.config import METRICS, TuneConfig

FLAGS = CommandFlags()
_DEFAULT = TrainConfig(run_dir="", data=DataConfig(dataset=""))  # the one place of the defaults
_DEFAULT_TUNE = TuneConfig(output="", base=_DEFAULT, backbones=("any",))

_data = FLAGS.group("Data")
_DATASET = _data.string("dataset", None, "Dataset directory, or the name of a TFDS dataset.", required=True)
_DATA_DIR = _data.string("data_dir", None, "Root of dataset directories, for a TFDS name.")
_TRAIN_SPLIT = _data.string("train_split", _DEFAULT.data.train_split, "Split to train on.")
_VALIDATION_SPLIT = _data.string(
    "validation_split", _DEFAULT.data.validation_split, "Split that decides which settings are best."
)
_RESIZE = _data.enum("resize", _DEFAULT.data.resize, RESIZE_MODES, "How images become square.")

_search = FLAGS.group("Search")
_MAX_MINUTES = _search.float("max_minutes", _DEFAULT_TUNE.max_minutes, "Minutes for trials, over all calls.")
_MAX_TRIALS = _search.integer("max_trials", _DEFAULT_TUNE.max_trials, "Trials in all, over all calls.", lower=1)
_METRIC = _search.enum("metric", _DEFAULT_TUNE.metric, METRICS, "What decides; accuracy is for one label an image.")
_BACKBONES = _search.list("backbones", [], "Backbones to choose from, the first for the first trial. Default: one.")
_FINETUNE_EPOCHS = _search.integer(
    "finetune_epochs", 0, "Search fine-tuning too, with so many epochs; every trial is then a whole run.", lower=0
)

_training = FLAGS.group("The same in all trials")
_WEIGHTS = _training.string("weights", _DEFAULT.model.weights, "'imagenet', 'none' for random ones, or a weights file.")
_IMAGE_SIZE = _training.integer("image_size", None, "Side of the input in pixels. Default: as in train.", 16)
_BATCH_SIZE = _training.integer(
    "batch_size", _DEFAULT.data.batch_size, "Global batch size. Default: as in train.", lower=1
)
_EPOCHS = _training.integer(
    "epochs", _DEFAULT.epochs, "Epochs of the head phase, at most. Default: as in train.", lower=1
)
_SEED = _training.integer("seed", _DEFAULT.seed, "Fixes trials and training.", lower=0)

_output = FLAGS.group("Output")
_OUTPUT = _output.string("output", None, "Directory of the search.", required=True)
_OVERWRITE = _output.bool("overwrite", False, "Forget an earlier search in --output.")
_JSON = _output.bool("json", False, "Print the result as JSON.")


def main(args: list[str]) -> None:
    """Builds the config, searches, and says what was found."""
    if args:
        raise UsageError(f"tfr tune takes flags only. Received: {args}")
    names = tuple(_BACKBONES.value) or (backbones.default_backbone(),)
    for name in names:
        backbones.get_backbone(name)
    base = TrainConfig(
        run_dir="",
        data=DataConfig(
            dataset=_DATASET.value,
            data_dir=_DATA_DIR.value,
            train_split=_TRAIN_SPLIT.value,
            validation_split=_VALIDATION_SPLIT.value,
            batch_size=_BATCH_SIZE.value,
            resize=_RESIZE.value,
        ),
        model=ModelConfig(weights=_WEIGHTS.value, image_size=_IMAGE_SIZE.value),
        epochs=_EPOCHS.value,
        finetune_epochs=_FINETUNE_EPOCHS.value,
        seed=_SEED.value,
    )
    config = TuneConfig(
        output=_OUTPUT.value,
        base=base,
        backbones=names,
        max_trials=_MAX_TRIALS.value,
        max_minutes=_MAX_MINUTES.value,
        metric=_METRIC.value,
        overwrite=_OVERWRITE.value,
    )
    from .. import quiet

    quiet.import_tensorflow()
    from .. import run_dir
    from ..tuning import report, tune

    result = tune.tune(config)
    print(run_dir.to_json(dataclasses.asdict(result)) if _JSON.value else report.text(result))
