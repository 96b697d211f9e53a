"""Trains a tagger on a dataset and writes a run directory.

Usage:
  tfr train --dataset=data/posters/1.0.0 --run_dir=runs/posters
  tfr train --dataset=data/posters --run_dir=runs/deep --finetune_epochs=5 --unfreeze=4
  tfr train --bottlenecks=data/posters_efficientnet_lite0 --run_dir=runs/head      (embeddings from `tfr embed`)

A head is trained on the embeddings of a frozen backbone; --finetune_epochs then trains all layers on images. Batches
are split over all GPUs; --num_virtual_devices=2 tries that on a CPU. A killed run goes on where it was when the
same command is run again. What the flags leave open is chosen by dataset and devices, and said with the reasons.
"""

import json

from tfr.flag_groups import CommandFlags

from .. import backbones
from ..config import (
    AUGMENT_OPS,
    AUGMENT_PRESETS,
    FEATURES,
    KEEPS,
    LOSSES,
    OPTIMIZERS,
    POSITIVE_WEIGHTS,
    PRECISIONS,
    RESIZE_MODES,
    SAMPLES,
    SCHEDULES,
    STRATEGIES,
    DataConfig,
    ModelConfig,
    TrainConfig,
)

FLAGS = CommandFlags()
_DEFAULT = TrainConfig(run_dir="", data=DataConfig(dataset=""))  # the one place of the defaults

_data = FLAGS.group("Data")
_DATASET = _data.string(
    "dataset", None, "Dataset directory, or the name of a TFDS dataset. Default: the one of --bottlenecks."
)
_BOTTLENECKS = _data.string("bottlenecks", None, "Directory that `tfr embed` made, to train the head from.")
_DATA_DIR = _data.string("data_dir", None, "Root of dataset directories, for a TFDS name.")
_TRAIN_SPLIT = _data.string(
    "train_split", _DEFAULT.data.train_split, "Split to train on; slices such as train[:80%] work."
)
_VALIDATION_SPLIT = _data.string(
    "validation_split", _DEFAULT.data.validation_split, "Split that decides which weights are kept."
)
_BATCH_SIZE = _data.integer(
    "batch_size", None, "Global batch size: examples per step over all replicas. Default: by the dataset.", lower=1
)
_RESIZE = _data.enum("resize", _DEFAULT.data.resize, RESIZE_MODES, "How images become square.")
_AUGMENT = _data.string(
    "augment",
    _DEFAULT.data.augment,
    f"Augmentation in the fine-tuning phase: {', '.join(AUGMENT_PRESETS)}, or a list of {', '.join(AUGMENT_OPS)}, "
    "each with a strength if wanted, such as crop:0.5,flip. `tfr preview` shows what it does.",
)
_SAMPLE = _data.enum(
    "sample", _DEFAULT.data.sample, SAMPLES, "balanced: draw labels equally often, then an example of each."
)
_POSITIVE_WEIGHTS = _data.enum(
    "positive_weights",
    _DEFAULT.data.positive_weights,
    POSITIVE_WEIGHTS,
    "Weight of a label's positives in the loss: negatives / positives, or its square root.",
)

_model = FLAGS.group("Model")
_BACKBONE = _model.string(
    "backbone",
    None,
    f"One of {', '.join(backbones.BACKBONES)}. Default: efficientnet_lite0 if its weights are installed, else "
    "mobilenet_v2.",
)
_WEIGHTS = _model.string("weights", _DEFAULT.model.weights, "'imagenet', 'none' for random ones, or a weights file.")
_IMAGE_SIZE = _model.integer(
    "image_size",
    None,
    "Side of the input in pixels. Default: by the dataset, 1 to 2 times the backbone's own.",
    16,
)
_FEATURES = _model.enum(
    "features", None, FEATURES, "What the head is given: the last embedding, or means of all stages. Default: stages."
)
_HIDDEN_UNITS = _model.list(
    "hidden_units",
    [str(n) for n in _DEFAULT.model.hidden_units],
    "Hidden layers of each member; empty for linear.",
)
_ENSEMBLE = _model.integer("ensemble_size", _DEFAULT.model.ensemble_size, "Members of the head, averaged.", lower=1)
_DROPOUT = _model.float(
    "dropout", _DEFAULT.model.dropout, "Share of the inputs of the head's layers dropped in training.", lower=0.0
)

_training = FLAGS.group("Training")
_EPOCHS = _training.integer("epochs", None, "Epochs of the head phase, at most. Default: by the dataset.", lower=1)
_LEARNING_RATE = _training.float(
    "learning_rate", _DEFAULT.learning_rate, "Learning rate of the head phase, at its height.", lower=0.0
)
_FINETUNE_EPOCHS = _training.integer(
    "finetune_epochs", None, "Epochs of the fine-tuning phase, at most. Default: 10 on GPUs, else 0.", lower=0
)
_FINETUNE_RATE = _training.float(
    "finetune_learning_rate", _DEFAULT.finetune_learning_rate, "Learning rate of the fine-tuning phase.", lower=0.0
)
_UNFREEZE = _training.string(
    "unfreeze", _DEFAULT.unfreeze, "What fine-tuning trains of the backbone: all, none, or its last N blocks."
)
_LAYER_DECAY = _training.float(
    "layer_decay", _DEFAULT.layer_decay, "Each block's learning rate, as a share of that of the block after it."
)
_PATIENCE = _training.integer(
    "patience", _DEFAULT.patience, "Epochs without a better --monitor before a phase ends.", lower=1
)
_MONITOR = _training.enum(
    "monitor",
    _DEFAULT.monitor,
    ["val_macro_map", "val_micro_map", "val_macro_roc_auc", "val_loss"],
    "What decides which epoch's weights are kept.",
)
_KEEP = _training.enum(
    "keep",
    None,
    KEEPS,
    "Which epoch's weights the head phase keeps. Default: the best by --monitor, unless few examples judge it.",
)
_SEED = _training.integer("seed", _DEFAULT.seed, "Fixes initial weights, order, augmentation and dropout.", lower=0)

_optimization = FLAGS.group("Optimization")
_LOSS = _optimization.enum("loss", _DEFAULT.loss, LOSSES, "Loss of a tag; see the papers on focal and asymmetric loss.")
_LABEL_SMOOTHING = _optimization.float(
    "label_smoothing", _DEFAULT.label_smoothing, "Move targets that far towards uncertainty.", lower=0.0
)
_OPTIMIZER = _optimization.enum("optimizer", _DEFAULT.optimizer, OPTIMIZERS, "sgd has Nesterov momentum 0.9.")
_SCHEDULE = _optimization.enum(
    "schedule",
    _DEFAULT.schedule,
    SCHEDULES,
    "Learning rate by epoch; auto lowers it after 5 epochs without a better --monitor and stops after 5 (head) or 15.",
)
_WARMUP = _optimization.float(
    "warmup_epochs", _DEFAULT.warmup_epochs, "Epochs over which the learning rate rises; may be a fraction.", lower=0.0
)
_WEIGHT_DECAY = _optimization.float("weight_decay", _DEFAULT.weight_decay, "Decoupled weight decay.", lower=0.0)
_CLIP_NORM = _optimization.float("clip_norm", _DEFAULT.clip_norm, "Greatest norm of a gradient; 0: any.", lower=0.0)
_EMA_DECAY = _optimization.float(
    "ema_decay", _DEFAULT.ema_decay, "Keep a moving average of the weights with this decay, e.g. 0.999; 0: none.", 0.0
)

_devices = FLAGS.group("Devices")
_STRATEGY = _devices.enum(
    "strategy",
    _DEFAULT.strategy,
    STRATEGIES,
    "mirrored: all GPUs of this machine; multi_worker: those of all machines in TF_CONFIG; auto: what fits.",
)
_VIRTUAL = _devices.integer("num_virtual_devices", None, "Make that many logical CPU devices, to try replicas.", 1)
_PRECISION = _devices.enum("precision", _DEFAULT.precision, PRECISIONS, "bfloat16: mixed precision, for GPUs and TPUs.")
_JIT_COMPILE = _devices.bool("jit_compile", _DEFAULT.jit_compile, "XLA, for GPUs; many times slower on CPUs.")

_output = FLAGS.group("Output")
_RUN_DIR = _output.string("run_dir", None, "Directory that the run writes.", required=True)
_OVERWRITE = _output.bool("overwrite", False, "Replace a run that is there already, finished or not.")
_CHECKPOINT_SECS = _output.float(
    "checkpoint_secs", _DEFAULT.checkpoint_secs, "Seconds between two states saved to go on from after a crash.", 0.0
)
_JSON = _output.bool("json", False, "Print the result as JSON.")


def build_config(args: list[str]) -> TrainConfig:
    """The training run that the flags say; `args`, what else was on the command line, must be empty."""
    from tfr.errors import UsageError

    if args:
        raise UsageError(f"tfr train takes flags only. Received: {args}")
    if not (_DATASET.value or _BOTTLENECKS.value):
        raise UsageError("--dataset is required, or --bottlenecks, which knows its dataset.")
    return TrainConfig(
        run_dir=_RUN_DIR.value,
        data=DataConfig(
            dataset=_DATASET.value or "",
            bottlenecks=_BOTTLENECKS.value,
            data_dir=_DATA_DIR.value,
            train_split=_TRAIN_SPLIT.value,
            validation_split=_VALIDATION_SPLIT.value,
            batch_size=_BATCH_SIZE.value,
            resize=_RESIZE.value,
            augment=_AUGMENT.value,
            sample=_SAMPLE.value,
            positive_weights=_POSITIVE_WEIGHTS.value,
        ),
        model=ModelConfig(
            backbone=_BACKBONE.value,
            weights=_WEIGHTS.value,
            image_size=_IMAGE_SIZE.value,
            features=_FEATURES.value,
            hidden_units=_units(_HIDDEN_UNITS.value),
            ensemble_size=_ENSEMBLE.value,
            dropout=_DROPOUT.value,
        ),
        epochs=_EPOCHS.value,
        learning_rate=_LEARNING_RATE.value,
        finetune_epochs=_FINETUNE_EPOCHS.value,
        finetune_learning_rate=_FINETUNE_RATE.value,
        unfreeze=_UNFREEZE.value,
        layer_decay=_LAYER_DECAY.value,
        optimizer=_OPTIMIZER.value,
        schedule=_SCHEDULE.value,
        warmup_epochs=_WARMUP.value,
        weight_decay=_WEIGHT_DECAY.value,
        clip_norm=_CLIP_NORM.value,
        ema_decay=_EMA_DECAY.value,
        loss=_LOSS.value,
        label_smoothing=_LABEL_SMOOTHING.value,
        patience=_PATIENCE.value,
        monitor=_MONITOR.value,
        keep=_KEEP.value,
        seed=_SEED.value,
        strategy=_STRATEGY.value,
        num_virtual_devices=_VIRTUAL.value,
        precision=_PRECISION.value,
        jit_compile=_JIT_COMPILE.value,
        checkpoint_secs=_CHECKPOINT_SECS.value,
        overwrite=_OVERWRITE.value,
    )


def main(args: list[str]) -> None:
    """Builds the config, trains, and says how good it became."""
    config = build_config(args)
    backbones.get_backbone(config.model.backbone or backbones.default_backbone())  # before TensorFlow is imported
    import dataclasses

    from .. import quiet

    quiet.import_tensorflow()
    from .. import training

    result = training.train(config)
    if _JSON.value:
        print(json.dumps(dataclasses.asdict(result), indent=1))
        return
    print(training.summary(result))


def _units(values: list[str]) -> tuple[int, ...]:
    from tfr.errors import UsageError

    if not all(value.isdigit() and int(value) for value in values if value):
        raise UsageError(f"--hidden_units must be positive integers such as 512,256. Received: {','.join(values)}")
    return tuple(int(value) for value in values if value)
