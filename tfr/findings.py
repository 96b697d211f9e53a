"""What a person should know of a dataset before training on it, in words, with what to do."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tfr import drift
from tfr.statistics import Statistics, quantiles

_EVERYWHERE = 0.95  # share of images from which on a label hardly tells images apart
_UNBALANCED = 100  # times as many images as the rarest label that can be learnt
_SAME = 0.95  # Jaccard index of two labels that are as good as one
_MIN_IMAGES = 5  # before "always together" or "only there" means anything
_SMALL_SPLIT = 100  # images; a measure on fewer is a guess
_TINY_SIDE, _LARGE_SIDE = 64, 1024  # pixels, of the median of the smaller sides
_MANY_REJECTS = 0.05


class Finding(NamedTuple):
    """One thing to know: a short fixed word, what was found, and what to do about it."""

    kind: str
    found: str
    advice: str

    def __str__(self) -> str:
        return f"{self.found}. {self.advice}."


@dataclasses.dataclass(frozen=True)
class _Labels:
    """The counts that the rules about labels look at."""

    statistics: Statistics
    rare: int

    @property
    def names(self) -> tuple[str, ...]:
        return self.statistics.label_names

    @property
    def learnt_from(self) -> str:
        return next(iter(self.statistics.splits))

    def trained_on(self, label: int) -> int:
        return self.statistics.splits[self.learnt_from].label_counts[label]

    def total(self, label: int) -> int:
        return self.statistics.total.label_counts[label]


def find(statistics: Statistics, *, rare: int = 20) -> list[Finding]:
    """Looks for what makes a dataset hard to learn from.

    Args:
      statistics: the dataset's.
      rare: labels on fewer training images than this are too rare to learn.
    """
    labels = _Labels(statistics, rare)
    found: list[Finding] = []
    if statistics.label_names:
        for rule in (_rare, _one_split, _everywhere, _unbalanced, _same, _implied, _unknown, _without, _label_drift):
            found += rule(labels)
    for rule_of_images in (_drift, _small_splits, _sizes, _unreadable, _rejects):
        found += rule_of_images(statistics)
    return found


def _rare(labels: _Labels) -> Iterator[Finding]:
    ids = range(len(labels.names))
    if never := [labels.names[i] for i in ids if not labels.total(i)]:
        yield Finding("unused", f"On no image: {_some(never)}", "Leave them out: --exclude_labels")
    if few := [i for i in ids if labels.total(i) and labels.trained_on(i) < labels.rare]:
        named = _some([f"{labels.names[i]} ({labels.trained_on(i)})" for i in sorted(few, key=labels.trained_on)])
        yield Finding(
            "rare",
            f"Too rare to learn, on fewer than {labels.rare} images of {labels.learnt_from!r}: {named}",
            "Collect more, fold them into broader labels (--label_map), or leave them out (--min_label_count)",
        )


def _one_split(labels: _Labels) -> Iterator[Finding]:
    splits = labels.statistics.splits
    if len(splits) < 2:
        return
    where = {
        i: [name for name, split in splits.items() if split.label_counts[i]]
        for i in range(len(labels.names))
        if labels.total(i) >= _MIN_IMAGES
    }
    for split in splits:
        if alone := [labels.names[i] for i, names in where.items() if names == [split]]:
            cannot = "be measured" if split == labels.learnt_from else "be learnt"
            yield Finding(
                "one_split",
                f"In split {split!r} alone, so that they cannot {cannot}: {_some(alone)}",
                "Split so that each label is in every split: --stratify (and --ignore_splits), or collect more",
            )


def _everywhere(labels: _Labels) -> Iterator[Finding]:
    total = labels.statistics.total
    names = [name for i, name in enumerate(labels.names) if total.share(i) >= _EVERYWHERE]
    if names and len(labels.names) > 1:
        yield Finding(
            "everywhere", f"On nearly every image: {_some(names)}", "They tell images hardly apart: --exclude_labels"
        )


def _unbalanced(labels: _Labels) -> Iterator[Finding]:
    counts = {i: labels.trained_on(i) for i in range(len(labels.names)) if labels.trained_on(i) >= labels.rare}
    if not counts:
        return
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[most] >= _UNBALANCED * counts[least]:
        yield Finding(
            "unbalanced",
            f"{labels.names[most]!r} is on {counts[most] / counts[least]:.0f} times as many images as "
            f"{labels.names[least]!r}",
            "Judge by macro averages and by label, not by accuracy; collect more of the rare ones",
        )


def _jaccard(labels: _Labels) -> Iterator[tuple[float, int, int]]:
    for (one, other), together in sorted(labels.statistics.total.pairs.items()):
        if together >= _MIN_IMAGES:
            yield together / (labels.total(one) + labels.total(other) - together), one, other


def _same(labels: _Labels) -> Iterator[Finding]:
    pairs = [(labels.names[i], labels.names[k], index) for index, i, k in _jaccard(labels) if index >= _SAME]
    if pairs:
        named = _some([f"{one} and {other}" + (f" ({index:.0%})" if index < 1 else "") for one, other, index in pairs])
        yield Finding("same", f"(Nearly) always together: {named}", "Make one label of each pair: --label_map")


def _implied(labels: _Labels) -> Iterator[Finding]:
    found = []
    for index, one, other in _jaccard(labels):
        together = labels.statistics.total.pairs[one, other]
        for narrow, broad in ((one, other), (other, one)):
            if index < _SAME and together == labels.total(narrow) >= labels.rare:
                found.append(f"{labels.names[narrow]} without {labels.names[broad]}")
    if found:
        yield Finding(
            "implied",
            f"Never: {_some(found)}",
            "Fine if the one is a kind of the other; else a trace of bias to look at",
        )


def _unknown(labels: _Labels) -> Iterator[Finding]:
    total = labels.statistics.total
    half = [name for i, name in enumerate(labels.names) if total.unknown_counts[i] * 2 > total.num_images]
    if half:
        yield Finding(
            "unknown",
            f"Not known of more than half of the images: {_some(half)}",
            "They are learnt and measured on the rest alone; annotate more images for them",
        )


def _without(labels: _Labels) -> Iterator[Finding]:
    total = labels.statistics.total
    if (count := total.labels_per_image[0]) * 10 > total.num_images:
        yield Finding(
            "no_labels",
            f"{count} of {total.num_images} images carry no label",
            "Right if none applies. If their labels are not known, say so: an empty cell, and --empty_labels=unknown",
        )


def _label_drift(labels: _Labels) -> Iterator[Finding]:
    drifting = drift.drifting_labels(labels.statistics)
    for split in dict.fromkeys(name for name, *_ in drifting):
        named = [f"{label} ({there:.1%}, not {here:.1%})" for name, label, there, here in drifting if name == split]
        yield Finding(
            "label_drift",
            f"Shares in {split!r} differ from {labels.learnt_from!r} by more than chance: {_some(named)}",
            "Measures there do not tell how it does on images like the training images; split anew (--stratify), or "
            "take it for what it is",
        )


def _drift(statistics: Statistics) -> Iterator[Finding]:
    for entry in drift.compare_splits(statistics):
        if entry.is_notable and entry.what != "labels":
            yield Finding(
                "drift",
                f"{entry.what.capitalize()} in {entry.split!r} differ from {entry.reference!r} "
                f"(Jensen-Shannon divergence {entry.divergence:.2f})",
                "The splits come from different sources; split anew (--ignore_splits), or expect other results there",
            )


def _small_splits(statistics: Statistics) -> Iterator[Finding]:
    small = [f"{name} ({s.num_images})" for name, s in statistics.splits.items() if s.num_images < _SMALL_SPLIT]
    if small:
        yield Finding(
            "small_split",
            f"Fewer than {_SMALL_SPLIT} images in {_some(small)}",
            "Measures there are little more than guesses",
        )


def _sizes(statistics: Statistics) -> Iterator[Finding]:
    total = statistics.total
    side = min(quantiles(total.widths, [0.5])[0], quantiles(total.heights, [0.5])[0])
    if 0 < side < _TINY_SIDE:
        yield Finding(
            "tiny",
            f"The median image has {side:.0f} pixels on its shorter side",
            "Take a model for small images, or larger images",
        )
    if side > _LARGE_SIDE:
        yield Finding(
            "large",
            f"The median image has {side:.0f} pixels on its shorter side",
            "Models look at far fewer: --image_size=512 makes the records smaller and training's reading faster",
        )


def _unreadable(statistics: Statistics) -> Iterator[Finding]:
    if count := statistics.total.formats["unreadable"]:
        yield Finding("unreadable", f"{count} images have no header that can be read", "`tfr verify` says which")


def _rejects(statistics: Statistics) -> Iterator[Finding]:
    lost = sum(n for reason, n in statistics.rejects_by_reason.items() if reason != "duplicate_id")
    if lost > _MANY_REJECTS * statistics.rows_read:
        yield Finding(
            "rejects", f"{lost} of {statistics.rows_read} rows became no record", "rejected.jsonl says why, row by row"
        )


def _some(names: Sequence[str], limit: int = 12) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
