"""The choice of a dataset's labels and label mode, from what its rows say of labels."""

import collections
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tfr import appending, features, vocabulary
from tfr.config import ConvertConfig
from tfr.corrections import Applied
from tfr.errors import AnnotationError, ConversionError
from tfr.row_store import Reject

_SHOWN = 40  # labels in a sentence


class LabelsFound:
    """What the rows say of labels, in numbers; those of several sets of rows add up.

    Attributes:
      declared: labels that the dataset has whether or not a row carries them.
      counts: label to rows that carry it; also those that are declared, or only known to be absent.
      per_row: number of labels to rows with so many.
      has_unknown: whether any label of any row is not known.
      is_partial: whether that is so beside labels of the same row that are known.
    """

    def __init__(self, declared: Iterable[str] = ()):
        self.declared = set(declared)
        self.counts: collections.Counter[str] = collections.Counter(dict.fromkeys(self.declared, 0))
        self.per_row: collections.Counter[int] = collections.Counter()
        self.has_unknown = self.is_partial = False

    def add(self, num_rows: int, labels: Sequence[str], unknown: Sequence[str], absent: Sequence[str] | None) -> None:
        """Counts rows that say the same; see Annotation."""
        self.counts.update(dict.fromkeys(labels, num_rows))
        self.counts.update(dict.fromkeys(absent or (), 0))
        self.has_unknown = self.has_unknown or bool(unknown) or absent is not None
        self.is_partial = self.is_partial or bool(unknown or absent or (labels and absent is not None))
        if labels or absent is None:  # a row that says nothing does not tell how many labels rows have
            self.per_row[len(labels)] += num_rows

    def to_json(self) -> list[Any]:
        """For `add_json`."""
        return [dict(self.counts), list(self.per_row.items()), self.has_unknown, self.is_partial]

    def add_json(self, values: list[Any]) -> None:
        """Adds what `to_json` gave of other rows."""
        counts, per_row, has_unknown, is_partial = values
        self.counts.update(counts)
        self.per_row.update(dict(per_row))
        self.has_unknown, self.is_partial = self.has_unknown or has_unknown, self.is_partial or is_partial


def choose_labels(
    found: LabelsFound, config: ConvertConfig, first_reject: Callable[[], str]
) -> tuple[features.RecordSchema, dict[str, int], list[str]]:
    """Chooses vocabulary, label mode and schema.

    Args:
      found: what the rows say.
      config: the conversion.
      first_reject: gives a sentence on what was rejected, for messages.

    Returns:
      The schema, the labels left out with their counts, and warnings.

    Raises:
      AnnotationError: there are no labels, or labels are unknown in a dataset that has none such.
      ConversionError: there are no rows.
    """
    if not found.per_row:
        raise ConversionError(f"The annotations have no usable rows.{first_reject()}")
    try:
        chosen = vocabulary.build_vocabulary(
            found.counts,
            labels_file=config.labels_file,
            labels=config.labels,
            min_count=config.min_label_count,
            exclude=config.exclude_labels,
            first=appending.label_names(config),
        )
    except AnnotationError as err:
        raise AnnotationError(f"{err}{first_reject()}") from err
    looks_single = set(found.per_row) == {1} and len(found.counts) > 1 and not found.is_partial
    single = config.label_mode == "single" or (config.label_mode == "auto" and looks_single)
    has_unknown = _has_unknown(found.has_unknown, config.has_unknown)
    schema = features.RecordSchema(
        chosen.names,
        not single,
        has_unknown and not single,
        config.read.keep_columns,
        config.image.keep_png,
        has_fingerprint=config.image.check_images == "decode",
    )
    dropped = {name: count for name, count in sorted(found.counts.items()) if name not in chosen.ids}
    return schema, dropped, _warnings(found.counts, chosen)


def check_corrections(applied: Applied, found: LabelsFound, config: ConvertConfig) -> None:
    """Raises AnnotationError where corrections name labels that nothing else does, or do not fit the label mode."""
    fixed = vocabulary.read_labels_file(config.labels_file) if config.labels_file else config.labels
    applied.check_labels(found.counts, {*found.declared, *fixed, *appending.label_names(config)})
    applied.check_label_mode(config.label_mode, found.per_row, found.is_partial)


def _has_unknown(found: bool, declared: bool | None) -> bool:
    if found and declared is False:
        raise AnnotationError(
            "Labels of some rows are unknown, but the dataset is declared to have no `labels_unknown`. Say "
            "has_unknown=True, or read empty cells as no label with empty_labels='none'."
        )
    return found if declared is None else declared


def why_unfit(labels: Sequence[str], num_chosen: int) -> tuple[str, str]:
    """Reason and detail for a row that has not exactly one label where each must have one."""
    reason = "several_labels" if num_chosen else "no_label"
    return reason, f"label mode 'single' wants exactly one of the dataset's labels, got {list(labels)}"


def first_reject(rejects: Sequence[Reject]) -> str:
    """A sentence on the rows that were rejected, for errors that they may explain; empty where there are none."""
    return (
        f" {len(rejects)} rows were rejected; the first, {rejects[0].source}: {rejects[0].detail}." if rejects else ""
    )


def _warnings(counts: collections.Counter[str], chosen: vocabulary.Vocabulary) -> list[str]:
    names = counts.keys() | set(chosen.names)
    found = [f"labels that look alike are kept apart: {group}" for group in vocabulary.look_alikes(names)]
    unused = sorted(name for name in names if not counts[name])
    if unused:
        found.append(f"labels on no image: {shown(unused)}")
    if vocabulary.are_bare_numbers(chosen.names):
        found.append(f"the labels are numbers without names ({_some(chosen.names)}): name them with --label_map")
    return found


def shown(names: Sequence[str]) -> str:
    """Labels for a sentence; of thousands the first few."""
    more = f", ... ({len(names)} in all)" if len(names) > _SHOWN else ""
    return f"{list(names[:_SHOWN])}{more}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
