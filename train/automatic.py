"""What a run does where its config leaves it open, and why: by the data, the network and the devices.

The choices are a function of the arguments alone, so that the same command, run again after a crash, goes on with
the same run. The figures behind them were measured with EfficientNet-Lite0, see "How good, how fast" in the README.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from .config import TrainConfig

_LARGEST_SCALE = 2  # image sizes go up to this many times the one that the weights were trained for
_SIZE_STEP = 32  # pixels: what most networks halve five times
_CPU_BUDGET = 1e14  # multiplications for the embeddings, about half an hour on two cores
_CPU_RATE = 25e9  # multiplications a second and core, about
_LEAST_BATCH, _BATCH = 8, 64
_STEPS_PER_EPOCH = 8  # of a small dataset, at least
_HEAD_BATCH, _HEAD_STEPS = 512, 32  # of a large one whose images are embedded once: its matrix products are cheaper
_EPOCHS, _MOST_EPOCHS = 40, 200
_STEPS = 1500  # of the head phase, at least, where _MOST_EPOCHS allows
_FEW_TO_DECIDE_BY = 100  # validation examples
_MEMORY_SHARE = 0.25  # of the machine's, for embeddings
_FINETUNE_EPOCHS = 10
_FINETUNE_COST = 5  # times that of an embedding: forwards with nothing folded, backwards


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """What the choices depend on.

    Attributes:
      num_train, num_validation: examples of the two splits.
      image_side: the longer side of the median image in pixels.
      backbone_size: side of the images that the backbone's weights were trained for.
      multiplications: what one such image costs.
      last_width, stages_width: numbers in an embedding by 'last' and by 'stages'.
      replicas: of the strategy.
      has_accelerator: whether they are GPUs or TPUs.
      cores, memory: of this machine, memory in bytes; for estimates, and to see that embeddings fit.
    """

    num_train: int
    num_validation: int
    image_side: int
    backbone_size: int
    multiplications: float
    last_width: int
    stages_width: int
    replicas: int
    has_accelerator: bool
    cores: int
    memory: int


@dataclasses.dataclass(frozen=True)
class Choice:
    """A flag that was not given: its name, the value it has now, and the reason."""

    flag: str
    value: Any
    reason: str


def is_open(config: TrainConfig) -> bool:
    """Whether a config leaves anything to choose."""
    chosen = (config.data.batch_size, config.model.image_size, config.model.features)
    return None in (*chosen, config.epochs, config.finetune_epochs)


def fill(config: TrainConfig, chosen: TrainConfig) -> TrainConfig:
    """Sets what a config leaves open to what it is in another, for which it was chosen; but fine-tuning to none."""
    return dataclasses.replace(
        config,
        data=_filled(config.data, chosen.data),
        model=_filled(config.model, chosen.model),
        epochs=config.epochs or chosen.epochs,
        keep=config.keep or chosen.keep,
        finetune_epochs=config.finetune_epochs or 0,
    )


def _filled(part: Any, chosen: Any) -> Any:
    open_ = [name for name in ("batch_size", "image_size", "features") if getattr(part, name, 0) is None]
    return dataclasses.replace(part, **{name: getattr(chosen, name) for name in open_})


def choose(config: TrainConfig, facts: Facts) -> tuple[TrainConfig, list[Choice]]:
    """Sets what a config leaves open.

    Args:
      config: its fields that are None are chosen; all others stay.
      facts: about dataset, network and devices.

    Returns:
      The config without open fields, and the choices.
    """
    image_size, size_reason = _image_size(facts)
    features, features_reason = _features(facts)
    choices = []

    def decide(flag: str, given: Any, value: Any, reason: str) -> Any:
        if given is not None:
            return given
        choices.append(Choice(flag, value, reason))
        return value

    model = dataclasses.replace(
        config.model,
        image_size=decide("image_size", config.model.image_size, image_size, size_reason),
        features=decide("features", config.model.features, features, features_reason),
    )
    finetune_epochs, finetune_reason = _finetune_epochs(facts, config, model.image_size or facts.backbone_size)
    head_alone = not (finetune_epochs if config.finetune_epochs is None else config.finetune_epochs)
    batch_size, batch_reason = _batch_size(facts, head_alone)
    data = dataclasses.replace(
        config.data, batch_size=decide("batch_size", config.data.batch_size, batch_size, batch_reason)
    )
    epochs, epochs_reason = _epochs(facts, data.batch_size or 1)
    config = dataclasses.replace(
        config,
        data=data,
        model=model,
        epochs=decide("epochs", config.epochs, epochs, epochs_reason),
        finetune_epochs=decide("finetune_epochs", config.finetune_epochs, finetune_epochs, finetune_reason),
    )
    return config, choices


def choose_keep(config: TrainConfig, num_validation: int) -> tuple[TrainConfig, list[Choice]]:
    """Sets which epoch's weights the head phase keeps, if that is open.

    Among a hundred epochs that are judged by few examples, the best one was lucky. Where the learning rate falls to
    zero, the last epochs hardly differ, and need no judge.
    """
    if config.keep is not None:
        return config, []
    if num_validation < _FEW_TO_DECIDE_BY and config.schedule == "cosine":
        choice = Choice("keep", "last", f"{num_validation} validation examples are too few to tell epochs apart by")
    else:
        choice = Choice("keep", "best", f"by {config.monitor} on {num_validation} validation examples")
    return dataclasses.replace(config, keep=choice.value), [choice]


def _image_size(facts: Facts) -> tuple[int, str]:
    """As many pixels as the images have, within what the weights can use and a CPU can pay for."""
    own, most = facts.backbone_size, facts.backbone_size * _LARGEST_SCALE
    if facts.image_side <= own:
        return own, f"what the backbone was trained for; the median image is {facts.image_side} pixels long"
    wanted = min(math.ceil(facts.image_side / _SIZE_STEP) * _SIZE_STEP, most)
    limit = "" if wanted < most else "; twice what the backbone was trained for is the limit"
    if facts.has_accelerator or _embedding_cost(facts, wanted) <= _CPU_BUDGET:
        return wanted, f"the median image is {facts.image_side} pixels long{limit}"
    affordable = own * math.sqrt(_CPU_BUDGET / _embedding_cost(facts, own))
    chosen = max(int(affordable) // _SIZE_STEP * _SIZE_STEP, own)
    return chosen, f"{facts.num_train} images on a CPU; {wanted} would show more of them and take longer"


def _embedding_cost(facts: Facts, image_size: int) -> float:
    """Multiplications to embed the examples of both splits once."""
    return _cost_of_one(facts, image_size) * (facts.num_train + facts.num_validation)


def _cost_of_one(facts: Facts, image_size: int) -> float:
    """Multiplications to embed an image of this size."""
    return facts.multiplications * (image_size / facts.backbone_size) ** 2


def _features(facts: Facts) -> tuple[str, str]:
    size = facts.stages_width * 4 * facts.num_train
    if size > _MEMORY_SHARE * facts.memory:
        return "last", f"embeddings of all stages, {size / 2**30:.1f} GiB, are too much for this machine's memory"
    return "stages", f"texture and detail beside the last embedding; {size / 2**20:.0f} MiB of embeddings in memory"


def _batch_size(facts: Facts, head_alone: bool) -> tuple[int, str]:
    """A power of two that gives small datasets some steps an epoch, times what it takes to divide by the replicas."""
    size = min(max(_power_of_two(facts.num_train / _STEPS_PER_EPOCH), _LEAST_BATCH), _BATCH)
    if head_alone:
        size = max(size, min(_power_of_two(facts.num_train / _HEAD_STEPS), _HEAD_BATCH))
    size = math.ceil(size / facts.replicas) * facts.replicas
    if size > facts.num_train:
        size = max(facts.num_train // facts.replicas, 1) * facts.replicas
    if size < _BATCH:
        return size, f"at least {_STEPS_PER_EPOCH} steps in an epoch of {facts.num_train} examples"
    cheaper = "; large batches are cheaper, and hold embeddings alone" if size >= 2 * _BATCH else ""
    return size, f"enough steps in an epoch of {facts.num_train} examples{cheaper}"


def _power_of_two(most: float) -> int:
    """The greatest power of two that is at most `most`, and at least 1."""
    return 2 ** int(math.log2(max(most, 1)))


def _epochs(facts: Facts, batch_size: int) -> tuple[int, str]:
    steps = max(facts.num_train // batch_size, 1)
    epochs = min(max(math.ceil(_STEPS / steps), _EPOCHS), _MOST_EPOCHS)
    return epochs, f"{epochs * steps} steps at most"


def _finetune_epochs(facts: Facts, config: TrainConfig, image_size: int) -> tuple[int, str]:
    if config.data.bottlenecks:
        return 0, "--bottlenecks is there to train the head alone"
    if facts.has_accelerator:
        return _FINETUNE_EPOCHS, "the whole network learns your images; the best epoch is kept, the head's own included"
    epoch = _FINETUNE_COST * facts.num_train * _cost_of_one(facts, image_size)
    minutes = math.ceil(epoch / (_CPU_RATE * facts.cores) / 60)
    return 0, f"an epoch would take about {minutes} min on this CPU; --finetune_epochs=5 tries it"


def seconds_to_embed(facts: Facts, image_size: int) -> float | None:
    """About how long the embeddings take on this machine's CPU; None on an accelerator."""
    return None if facts.has_accelerator else _embedding_cost(facts, image_size) / (_CPU_RATE * facts.cores)


def text(choices: Sequence[Choice]) -> str:
    """The choices as a table of flag, value and reason."""
    flags = [f"--{choice.flag}={choice.value}" for choice in choices]
    width = max(map(len, flags), default=0)
    return "\n".join(f"  {flag:<{width}}  {choice.reason}" for flag, choice in zip(flags, choices, strict=True))
