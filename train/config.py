"""What a training run does, as frozen objects; importing this imports no TensorFlow.

A field that is None is chosen when the run starts, by what the data and the machine are like: see automatic.choose.
"""

import dataclasses
import math
from typing import Any

from tfr import recorded
from tfr.errors import UsageError

RESIZE_MODES = ("squash", "crop", "pad")
STRATEGIES = ("auto", "mirrored", "multi_worker", "tpu", "none")
LOSSES = ("cross_entropy", "focal", "asymmetric")
OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "constant", "auto")
KEEPS = ("best", "last")
PRECISIONS = ("float32", "bfloat16")
SAMPLES = ("shuffled", "balanced")
POSITIVE_WEIGHTS = ("none", "balanced", "sqrt")
FEATURES = ("last", "stages")

# Op of --augment: its strength by default, the least and the greatest, and what the strength is.
AUGMENT_OPS: dict[str, tuple[float, float, float, str]] = {
    "crop": (0.35, 0.01, 1.0, "the least share of the image's area that is kept"),
    "flip": (0.5, 0.0, 1.0, "the share of images that are mirrored"),
    "color_jitter": (0.3, 0.0, 1.0, "how far brightness, contrast and saturation move from 1"),
    "randaugment": (9.0, 0.0, 10.0, "magnitude"),
    "erase": (0.25, 0.0, 1.0, "the share of images with a rectangle erased"),
    "mixup": (0.2, 0.01, 10.0, "alpha"),
    "cutmix": (1.0, 0.01, 10.0, "alpha"),
}
AUGMENT_PRESETS = {
    "none": "",
    "light": "crop:0.5,flip",
    "medium": "crop:0.35,flip,color_jitter:0.3,erase:0.1",
    "strong": "crop:0.2,flip,randaugment:9,erase:0.25,mixup:0.2,cutmix:1",
}


# Fields of TrainConfig that change where and how a run runs, but not what it comes to.
_NOT_CONTENT = ("run_dir", "overwrite", "checkpoint_secs")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which examples, and how they become batches.

    Attributes:
      dataset: a dataset directory, or a TFDS name such as 'beans' or 'posters:1.0.0'; '' with `bottlenecks` for the
        one that they were made of.
      data_dir: root of dataset directories, for a TFDS name.
      bottlenecks: a directory that `tfr embed` made, to take embeddings from in the head phase; None: they are
        computed.
      train_split, validation_split: splits in TFDS's words; slices such as 'train[:80%]' work.
      batch_size: the global batch size: examples per step over all replicas; None: chosen.
      resize: how an image of another shape becomes square: 'squash' ignores its aspect ratio and keeps all of it,
        'crop' takes the centre, 'pad' adds black borders.
      augment: a key of AUGMENT_PRESETS, or a comma list of AUGMENT_OPS with a strength each if wanted, such as
        'crop:0.5,flip'.
      sample: 'shuffled', or 'balanced' to draw labels equally often, see sampling.Balanced.
      positive_weights: how a label's positives weigh in a binary loss, see sampling.positive_weights.
    """

    dataset: str
    data_dir: str | None = None
    bottlenecks: str | None = None
    train_split: str = "train"
    validation_split: str = "validation"
    batch_size: int | None = None
    resize: str = "squash"
    augment: str = "light"
    sample: str = "shuffled"
    positive_weights: str = "none"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network.

    Attributes:
      backbone: a key of BACKBONES; None: efficientnet_lite0 if its weights are installed, else mobilenet_v2.
      weights: 'imagenet', 'none' for random ones, or a file.
      image_size: side of the square input in pixels; None: chosen.
      features: what the head is given: 'last', the backbone's own embedding, or 'stages', the mean feature map of
        each of its stages beside it, see stage_means.with_stages; None: chosen.
      hidden_units: sizes of the hidden layers of each member of the head; empty for a linear head.
      ensemble_size: members of the head, small networks side by side whose mean predicts.
      dropout: share of the head's inputs (and hidden units) dropped in training.
    """

    backbone: str | None = None
    weights: str = "imagenet"
    image_size: int | None = None
    features: str | None = None
    hidden_units: tuple[int, ...] = (256,)
    ensemble_size: int = 4
    dropout: float = 0.7


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run: a head on a frozen backbone, then optionally all of it.

    Attributes:
      run_dir: the directory that the run writes.
      data, model: see there.
      epochs: epochs of the head phase, at most; it stops when `monitor` has not improved for `patience` epochs. None:
        chosen.
      learning_rate: of the head phase, at its height.
      finetune_epochs: epochs of the fine-tuning phase; 0 for none; None: chosen.
      finetune_learning_rate: its learning rate, at its height.
      unfreeze: what fine-tuning trains of the backbone: 'all', 'none', or the number of its last blocks.
      layer_decay: in fine-tuning each block of the backbone has the learning rate of the block after it times this;
        1 for one rate.
      optimizer: 'adamw', or 'sgd' (Nesterov momentum 0.9).
      schedule: of the learning rate: 'cosine' down to zero, 'constant', or 'auto': divided by the square root of ten
        after 5 epochs without a better `monitor`, to a tenth at least, and `patience` is 5 epochs in the head phase
        and 15 in fine-tuning (the rule of Image ATM).
      warmup_epochs: epochs over which the learning rate rises from zero, in each phase; may be a fraction.
      weight_decay: decoupled, on kernels.
      clip_norm: gradients are scaled to at most this norm; 0 for no limit.
      ema_decay: decay of an exponential moving average of the weights, which is then what is validated and kept; 0
        for none.
      loss: see losses.TaggerLoss; softmax cross-entropy where every image has exactly one label.
      label_smoothing: moves targets that far towards uncertainty.
      patience: epochs without a better `monitor` before a phase ends.
      monitor: validation metric that decides which epoch's weights are kept. Small validation splits make mAP a
        noisy guide, hence the loss.
      keep: which epoch's weights the head phase keeps: 'best' by `monitor`, or 'last', which then ends no phase early.
        Fine-tuning keeps the best. None: chosen.
      seed: fixes initial weights, shuffling and dropout.
      strategy: 'mirrored': all GPUs of this machine; 'multi_worker': those of several, which TF_CONFIG names; 'tpu';
        'none': one device; 'auto': multi_worker where TF_CONFIG names several, else mirrored.
      num_virtual_devices: logical CPU devices to make, to try several replicas without GPUs.
      precision: 'bfloat16' computes in mixed precision, for GPUs and TPUs that have it.
      jit_compile: XLA; for GPUs and TPUs, many times slower on CPUs.
      checkpoint_secs: seconds between two states saved to go on from after a crash.
      overwrite: whether to replace a run in `run_dir`.
    """

    run_dir: str
    data: DataConfig
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    epochs: int | None = None
    learning_rate: float = 2e-3
    finetune_epochs: int | None = None
    finetune_learning_rate: float = 1e-4
    unfreeze: str = "all"
    layer_decay: float = 0.8
    optimizer: str = "adamw"
    schedule: str = "cosine"
    warmup_epochs: float = 0.0
    weight_decay: float = 0.1
    clip_norm: float = 0.0
    ema_decay: float = 0.0
    loss: str = "cross_entropy"
    label_smoothing: float = 0.0
    patience: int = 20
    monitor: str = "val_loss"
    keep: str | None = None
    seed: int = 0
    strategy: str = "auto"
    num_virtual_devices: int | None = None
    precision: str = "float32"
    jit_compile: bool = False
    checkpoint_secs: float = 60.0
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Checks values and combinations before anything is read."""
        _one_of("--resize", self.data.resize, RESIZE_MODES)
        if self.model.features is not None:
            _one_of("--features", self.model.features, FEATURES)
        _one_of("--sample", self.data.sample, SAMPLES)
        _one_of("--positive_weights", self.data.positive_weights, POSITIVE_WEIGHTS)
        parse_augment(self.data.augment)
        _one_of("--strategy", self.strategy, STRATEGIES)
        _one_of("--loss", self.loss, LOSSES)
        _one_of("--optimizer", self.optimizer, OPTIMIZERS)
        _one_of("--schedule", self.schedule, SCHEDULES)
        if self.keep is not None:
            _one_of("--keep", self.keep, KEEPS)
        _one_of("--precision", self.precision, PRECISIONS)
        if self.unfreeze not in ("all", "none") and not self.unfreeze.isdigit():
            raise UsageError(
                f"--unfreeze must be all, none or a number of blocks. Received: --unfreeze={self.unfreeze}"
            )
        for flag, value in (("batch_size", self.data.batch_size), ("epochs", self.epochs)):
            if value is not None and value < 1:
                raise UsageError(f"--{flag} must be at least 1. Received: --{flag}={value}")
        shares = {"dropout": self.model.dropout, "label_smoothing": self.label_smoothing, "ema_decay": self.ema_decay}
        for flag, share in shares.items():
            if not 0 <= share < 1:
                raise UsageError(f"--{flag} must be at least 0 and below 1. Received: --{flag}={share}")
        if not 0 < self.layer_decay <= 1:
            raise UsageError(f"--layer_decay must be above 0 and at most 1. Received: --layer_decay={self.layer_decay}")

    def content(self) -> dict[str, Any]:
        """What decides the weights that a run comes to, as JSON values; a run is only ever continued with the same."""
        fields = recorded.values(self, without=_NOT_CONTENT)
        nested = {f"{part}.{key}": value for part in ("data", "model") for key, value in fields.pop(part).items()}
        return {**fields, **nested}


def _one_of(flag: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{flag} must be one of {', '.join(allowed)}. Received: {flag}={value}")


def parse_augment(value: str) -> list[tuple[str, float]]:
    """The ops of --augment with their strengths.

    Args:
      value: a key of AUGMENT_PRESETS, or a comma list such as 'crop:0.5,flip,mixup'.

    Raises:
      UsageError: an op is unknown or given twice, or its strength is not allowed.
    """
    items = [item.strip() for item in AUGMENT_PRESETS.get(value, value).split(",") if item.strip()]
    ops = [_parse_op(item, value) for item in items]
    names = [name for name, _ in ops]
    if len(set(names)) < len(names):
        raise UsageError(f"--augment={value} names an op twice. Name each once.")
    return ops


def _parse_op(item: str, value: str) -> tuple[str, float]:
    name, _, number = item.partition(":")
    if name not in AUGMENT_OPS:
        raise UsageError(
            f"--augment={value}: unknown op {name!r}. Allowed: {', '.join(AUGMENT_PRESETS)}, or a comma list of "
            f"{', '.join(AUGMENT_OPS)}, each with a strength if wanted, as in crop:0.5,flip."
        )
    default, least, greatest, meaning = AUGMENT_OPS[name]
    try:
        strength = float(number) if number else default
    except ValueError:
        strength = math.nan
    if not least <= strength <= greatest:
        raise UsageError(
            f"--augment={value}: the strength of {name} ({meaning}) must be a number from {least:g} to {greatest:g}. "
            f"Received: {item}"
        )
    return name, strength
