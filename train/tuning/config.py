"""What `tfr tune` searches, as frozen objects; importing this imports no TensorFlow."""

import dataclasses
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfr.errors import UsageError

from ..config import DataConfig, TrainConfig

METRICS = ("macro_map", "micro_map", "macro_roc_auc", "accuracy")  # of the validation split
_NO_FLAGS = ("data", "model", "run_dir", "overwrite")  # of command_line, which has them in their own places
_DIGITS = 3  # of numbers that are tried: more would be noise, and unreadable on the command line


@dataclasses.dataclass(frozen=True)
class Choice:
    """A setting with a few values.

    Attributes:
      field: of TrainConfig, with the part that it is in, such as 'model.dropout'.
      values: as texts or numbers; those of hidden_units as on the command line.
    """

    field: str
    values: tuple[str | int | float, ...]

    def has(self, value: Any) -> bool:
        """Whether a value is among them."""
        return value in self.values


@dataclasses.dataclass(frozen=True)
class Range:
    """A setting between two numbers, searched evenly in its logarithm with `log`."""

    field: str
    low: float
    high: float
    log: bool = False

    def has(self, value: Any) -> bool:
        """Whether a value is between them."""
        return isinstance(value, (int, float)) and self.low <= value <= self.high


Setting = Choice | Range

HEAD: tuple[Setting, ...] = (
    Choice("model.hidden_units", ("", "64", "128", "256", "512", "1024", "256,256")),
    Choice("model.ensemble_size", (1, 2, 4, 8)),
    Range("model.dropout", 0.0, 0.9),
    Range("learning_rate", 2e-4, 2e-2, log=True),
    Range("weight_decay", 1e-3, 1.0, log=True),
    Range("label_smoothing", 0.0, 0.1),
)
MULTI_LABEL: tuple[Setting, ...] = (Choice("data.positive_weights", ("none", "sqrt")),)
FINETUNE: tuple[Setting, ...] = (
    Choice("data.augment", ("none", "flip", "light", "medium", "strong")),
    Choice("unfreeze", ("all", "6", "3")),
    Range("finetune_learning_rate", 1e-5, 1e-3, log=True),
    Range("layer_decay", 0.6, 1.0),
)
_FIELDS = {
    setting.field.rpartition(".")[2]: setting.field
    for setting in (Choice("model.backbone", ()), *HEAD, *MULTI_LABEL, *FINETUNE)
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """A search for good settings of a training run.

    Attributes:
      output: the directory of the search; the same search again goes on where it was.
      base: the run whose settings are varied; its run_dir has no meaning. The first trial is this run as it is.
      backbones: those to choose from; the first is the one of the first trial.
      max_trials: trials in all, those of earlier calls included.
      max_minutes: minutes in all, those of earlier calls included; a trial that has begun is finished.
      metric: the validation metric that decides; of METRICS.
      overwrite: whether to forget an earlier search in `output`.
    """

    output: str
    base: TrainConfig
    backbones: Sequence[str]
    max_trials: int = 40
    max_minutes: float = 30.0
    metric: str = METRICS[0]
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Checks values before anything is read."""
        if self.metric not in METRICS:
            raise UsageError(f"--metric must be one of {', '.join(METRICS)}. Received: --metric={self.metric}")
        if self.max_trials < 1 or self.max_minutes <= 0:
            raise UsageError(
                "--max_trials must be at least 1 and --max_minutes above 0. Received: "
                f"--max_trials={self.max_trials} --max_minutes={self.max_minutes:g}"
            )
        if not self.backbones or len(set(self.backbones)) < len(self.backbones):
            raise UsageError(f"--backbones must be different names. Received: {','.join(self.backbones)}")

    def space(self, multi_label: bool) -> list[Setting]:
        """The settings that are searched.

        Raises:
          UsageError: `base` has a value outside of what is searched.
        """
        if self.metric == "accuracy" and multi_label:
            raise UsageError("--metric=accuracy is for datasets with one label an image.")
        settings: list[Setting] = [Choice("model.backbone", tuple(self.backbones))] if len(self.backbones) > 1 else []
        settings += HEAD
        settings += MULTI_LABEL if multi_label else ()
        settings += FINETUNE if self.base.finetune_epochs else ()
        base = self.defaults(map(name_of, settings))
        for setting in settings:
            if not setting.has(base[name_of(setting)]):
                raise UsageError(f"tfr tune: {setting} does not hold the value of `base`, {base[name_of(setting)]!r}.")
        return settings

    def defaults(self, names: Iterable[str]) -> dict[str, Any]:
        """The values that `base` has for settings, by name."""
        return {
            name: self.backbones[0] if name == "backbone" else _value_of(self.base, _FIELDS[name]) for name in names
        }

    def train_config(self, values: Mapping[str, Any], run_dir: str) -> TrainConfig:
        """The training run of a trial.

        Args:
          values: name of a setting to its value.
          run_dir: for the run.
        """
        changes: dict[str, dict[str, Any]] = {"": {"run_dir": run_dir}, "data": {}, "model": {}}
        changes["model"]["backbone"] = self.backbones[0]
        for name, value in values.items():
            changes[_FIELDS[name].rpartition(".")[0]][name] = _plain(name, value)
        return dataclasses.replace(
            self.base,
            data=dataclasses.replace(self.base.data, **changes["data"]),
            model=dataclasses.replace(self.base.model, **changes["model"]),
            **changes[""],
        )


def name_of(setting: Setting) -> str:
    """The name of a setting: that of its flag."""
    return setting.field.rpartition(".")[2]


def _value_of(config: TrainConfig, field: str) -> Any:
    part, _, name = field.rpartition(".")
    value = getattr(getattr(config, part) if part else config, name)
    return ",".join(map(str, value)) if isinstance(value, tuple) else value


def shown(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of settings as they are used and shown: numbers have as many digits as are tried."""
    return {name: _rounded(value) for name, value in values.items()}


def _rounded(value: Any) -> Any:
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


def _plain(name: str, value: Any) -> Any:
    """A value as TrainConfig has it."""
    if name == "hidden_units":
        return tuple(int(number) for number in value.split(",") if number)
    return _rounded(value)


def command_line(config: TrainConfig) -> str:
    """The `tfr train` command that makes a run: dataset, directory, and flags for all that is not the default."""
    default = TrainConfig(run_dir="", data=DataConfig(dataset=config.data.dataset))
    words = ["tfr", "train", f"--dataset={config.data.dataset}"]
    parts = ((config, default), (config.data, default.data), (config.model, default.model))
    for ours, theirs in parts:
        for field in dataclasses.fields(ours):
            value = getattr(ours, field.name)
            if field.name not in _NO_FLAGS and value != getattr(theirs, field.name):
                words.append(_flag(field.name, value))
    return shlex.join([*words, f"--run_dir={config.run_dir}"])


def _flag(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no{name}"
    return f"--{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
