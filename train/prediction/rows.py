"""A prediction as plain values, and as text for people: what all formats of output have in common."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tfr.errors import UsageError

from .tags import Prediction, TagRule

FORMATS = ("text", "jsonl", "csv", "parquet", "npz")
ALL_LABELS = ("none", "probabilities", "binary")
DELIMITER = "|"  # between tags in a CSV cell
_WITH_EMBEDDINGS = ("jsonl", "parquet", "npz")
_WITH_ALL_LABELS = ("jsonl", "csv", "parquet")
_FIXED = ("image", "tags", "probabilities", "targets", "targets_unknown", "embedding", "labels", "error")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What is written of predictions.

    Attributes:
      rule: the one by which the predictions' tags were chosen; its labels and limits are used too.
      format: one of FORMATS.
      all_labels: 'none'; 'probabilities' or 'binary' (1 from the label's limit on, else 0) for every label. In a table
        a column each, under the label's name, or 'label:<name>' for a label that is called like another column.
      embeddings, targets: whether to write them; the predictions must have them.
    """

    rule: TagRule
    format: str
    all_labels: str = "none"
    embeddings: bool = False
    targets: bool = False

    def __post_init__(self) -> None:
        """Checks what does not go together."""
        check(format=self.format, all_labels=self.all_labels, embeddings=self.embeddings)
        odd = next((name for name in self.rule.labels if DELIMITER in name), None)
        if self.format == "csv" and odd is not None:
            raise UsageError(
                f"--format=csv sets {DELIMITER!r} between tags, and the label {odd!r} has one. Take jsonl or parquet."
            )

    @property
    def label_columns(self) -> list[str]:
        """Names of the columns that `all_labels` adds to a table."""
        if self.all_labels == "none":
            return []
        return [f"label:{name}" if name in _FIXED else name for name in self.rule.labels]

    @property
    def columns(self) -> list[str]:
        """Names of all columns of a table: those of `row`."""
        targets = ["targets", "targets_unknown"] if self.targets else []
        embedding = ["embedding"] if self.embeddings else []
        return ["image", "tags", "probabilities", *targets, *self.label_columns, *embedding, "error"]


def check(*, format: str, all_labels: str, embeddings: bool) -> None:
    """Raises UsageError for what a format cannot hold."""
    if embeddings and format not in _WITH_EMBEDDINGS:
        raise UsageError(f"--embeddings needs --format={'|'.join(_WITH_EMBEDDINGS)}. Received: --format={format}")
    if all_labels != "none" and format not in _WITH_ALL_LABELS:
        instead = " (it has the probabilities of all labels anyway)" if format == "npz" else ""
        raise UsageError(
            f"--all_labels={all_labels} needs --format={'|'.join(_WITH_ALL_LABELS)}. "
            f"Received: --format={format}{instead}"
        )


def row(prediction: Prediction, options: OutputOptions) -> dict[str, Any]:
    """The columns of a table: text, numbers, lists of these, and None where there is nothing to say."""
    values: dict[str, Any] = {
        "image": printable(prediction.image),
        "tags": [tag.label for tag in prediction.tags],
        "probabilities": [tag.probability for tag in prediction.tags],
    }
    if options.targets:
        values["targets"] = _labels_where(prediction, options.rule.labels, 1)
        values["targets_unknown"] = _labels_where(prediction, options.rule.labels, -1)
    if options.all_labels != "none":
        values |= zip(options.label_columns, label_values(prediction, options), strict=True)
    if options.embeddings:
        values["embedding"] = None if prediction.embedding is None else prediction.embedding.tolist()
    values["error"] = None if prediction.error is None else printable(prediction.error)
    return values


def label_values(prediction: Prediction, options: OutputOptions) -> list[Any]:
    """What `all_labels` asks for, of each label; None where the image could not be used."""
    if prediction.probabilities is None:
        return [None] * len(options.rule.labels)
    if options.all_labels == "binary":
        return options.rule.decide(prediction.probabilities).astype(int).tolist()
    return prediction.probabilities.tolist()


def _labels_where(prediction: Prediction, labels: Sequence[str], value: float) -> list[str] | None:
    """The labels whose target is this value."""
    if prediction.target is None:
        return None
    return [name for name, target in zip(labels, prediction.target, strict=True) if target == value]


def shortened(value: Any) -> Any:
    """The same with six digits of each number: more says nothing, and makes text twice as long."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, list):
        return [shortened(item) for item in value]
    if isinstance(value, Mapping):
        return {key: shortened(item) for key, item in value.items()}
    return value


def printable(text: str) -> str:
    """Text that can be written as UTF-8: bytes of a file name that are not UTF-8 are written out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def text(prediction: Prediction, rule: TagRule) -> str:
    """For people: the image's tags, one a line; a star marks those that it has by the rule's limits."""
    head = printable(prediction.image)
    if prediction.error is not None:
        return f"{head}: {printable(prediction.error)}"
    assert prediction.probabilities is not None, "a prediction without an error"
    decided = dict(zip(rule.labels, rule.decide(prediction.probabilities), strict=True))
    width = max((len(tag.label) for tag in prediction.tags), default=0)
    lines = [f"  {'*' if decided[label] else ' '} {label:<{width}}  {p:.4f}" for label, p in prediction.tags]
    return "\n".join([head, *(lines or ["    (no tags)"])])
