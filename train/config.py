"""What a training run does, as frozen objects; importing this imports no TensorFlow."""

import dataclasses
import math

from tfr.errors import UsageError

RESIZE_MODES = ("squash", "crop", "pad")
STRATEGIES = ("auto", "mirrored", "none")
SAMPLES = ("shuffled", "balanced")
POSITIVE_WEIGHTS = ("none", "balanced", "sqrt")

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which examples, and how they become batches.

    Attributes:
      dataset: a dataset directory, or a TFDS name such as 'beans' or 'posters:1.0.0'.
      data_dir: root of dataset directories, for a TFDS name.
      train_split, validation_split: splits in TFDS's words; slices such as 'train[:80%]' work.
      batch_size: the global batch size: examples per step over all replicas.
      resize: how an image of another shape becomes square: 'squash' ignores its aspect ratio and keeps all of it,
        'crop' takes the centre, 'pad' adds black borders.
      augment: a key of AUGMENT_PRESETS, or a comma list of AUGMENT_OPS with a strength each if wanted, such as
        'crop:0.5,flip'.
      sample: 'shuffled', or 'balanced' to draw labels equally often, see sampling.Balanced.
      positive_weights: how a label's positives weigh in a binary loss, see sampling.positive_weights.
    """

    dataset: str
    data_dir: str | None = None
    train_split: str = "train"
    validation_split: str = "validation"
    batch_size: int = 64
    resize: str = "squash"
    augment: str = "flip"
    sample: str = "shuffled"
    positive_weights: str = "none"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network.

    Attributes:
      backbone: a key of BACKBONES; None: efficientnet_lite0 if its weights are installed, else mobilenet_v2.
      weights: 'imagenet', 'none' for random ones, or a file.
      image_size: side of the square input in pixels; None: the backbone's own.
      hidden_units: sizes of the hidden layers of each member of the head; empty for a linear head.
      ensemble_size: members of the head, small networks side by side whose mean predicts.
      dropout: share of the head's inputs (and hidden units) dropped in training.
    """

    backbone: str | None = None
    weights: str = "imagenet"
    image_size: int | None = None
    hidden_units: tuple[int, ...] = (256,)
    ensemble_size: int = 4
    dropout: float = 0.7


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run: a head on a frozen backbone, then optionally all of it.

    Attributes:
      run_dir: the directory that the run writes.
      data, model: see there.
      epochs: epochs of the head phase, at most; it stops when `monitor` has not improved for `patience` epochs.
      learning_rate: of the head phase, at its start.
      weight_decay: of AdamW, on the head's kernels.
      finetune_epochs: epochs of the fine-tuning phase; 0 for none.
      finetune_learning_rate: its learning rate.
      patience: epochs without a better `monitor` before a phase ends.
      monitor: validation metric that decides which epoch's weights are kept. Small validation splits make mAP a
        noisy guide, hence the loss.
      seed: fixes initial weights, shuffling and dropout.
      strategy: 'auto' (all GPUs if there are several, else one device), 'mirrored', or 'none'.
      num_virtual_devices: logical CPU devices to make, to try several replicas without GPUs.
      overwrite: whether to replace a finished run in `run_dir`.
    """

    run_dir: str
    data: DataConfig
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    epochs: int = 40
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    finetune_epochs: int = 0
    finetune_learning_rate: float = 1e-4
    patience: int = 20
    monitor: str = "val_loss"
    seed: int = 0
    strategy: str = "auto"
    num_virtual_devices: int | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Checks values and combinations before anything is read."""
        _one_of("--resize", self.data.resize, RESIZE_MODES)
        _one_of("--sample", self.data.sample, SAMPLES)
        _one_of("--positive_weights", self.data.positive_weights, POSITIVE_WEIGHTS)
        parse_augment(self.data.augment)
        _one_of("--strategy", self.strategy, STRATEGIES)
        for flag, value in (("batch_size", self.data.batch_size), ("epochs", self.epochs)):
            if value < 1:
                raise UsageError(f"--{flag} must be at least 1. Received: --{flag}={value}")
        if not 0 <= self.model.dropout < 1:
            raise UsageError(f"--dropout must be at least 0 and below 1. Received: --dropout={self.model.dropout}")


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
