"""What a dataset holds, counted in one pass over its records: labels, their company, image sizes; in flat memory."""

import collections
import dataclasses
import functools
import io
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from tfr import dataset_dir, jpeg_header, record_layout, shard_jobs, shards
from tfr.errors import DatasetError
from tfr.record_layout import BadRecordError, RecordLayout
from tfr.shard_jobs import Shard

MAX_PAIRED_LABELS = 2000  # with more labels their pairs are not counted: there can be as many as the square
_MAX_RATIO = 20.0  # aspect ratios beyond this, or below its inverse, are counted as this


class Sample(NamedTuple):
    """Where an image stands: the shard's path, and what `shards.read_at` wants."""

    path: str
    offset: int
    length: int


@dataclasses.dataclass(kw_only=True)
class SplitStatistics:
    """Counts of a split, or of one shard. Labels are ids; the keys of counters of sizes are values, not bins.

    Attributes:
      num_images: records.
      labels_per_image: number of labels to images.
      label_counts, unknown_counts: label to images that carry it, and of which it is not known.
      pairs: (label, larger label) to images that carry both.
      widths, heights: pixels to images.
      aspect_ratios: width / height, to two digits behind the point, to images.
      image_bytes: size of the encoded image, to two digits, to images.
      total_bytes: bytes of all encoded images.
      formats: 'jpeg', 'png', ... or 'unreadable' to images.
      samples: label to its first images.
    """

    num_images: int = 0
    labels_per_image: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    label_counts: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    unknown_counts: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    pairs: collections.Counter[tuple[int, int]] = dataclasses.field(default_factory=collections.Counter)
    widths: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    heights: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    aspect_ratios: collections.Counter[float] = dataclasses.field(default_factory=collections.Counter)
    image_bytes: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    total_bytes: int = 0
    formats: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    samples: dict[int, list[Sample]] = dataclasses.field(default_factory=dict)

    def add(self, other: "SplitStatistics", samples_per_label: int) -> None:
        """Adds the counts of a further shard."""
        self.num_images += other.num_images
        self.total_bytes += other.total_bytes
        for value, more in zip(vars(self).values(), vars(other).values(), strict=True):
            if isinstance(value, collections.Counter):
                value.update(more)
        for label, samples in other.samples.items():
            mine = self.samples.setdefault(label, [])
            mine += samples[: samples_per_label - len(mine)]

    def share(self, label: int) -> float:
        """The share of images that carry a label, of those of which it is known."""
        known = self.num_images - self.unknown_counts[label]
        return self.label_counts[label] / known if known else 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Statistics:
    """Counts of a dataset.

    Attributes:
      name, version, dataset_dir: which dataset it is.
      label_names: names by id; empty where the dataset has no class labels.
      is_multi_label: whether images have any number of labels.
      splits: counts by split; 'train', where there is one, comes first.
      rejects_by_reason: rows of the annotations that became no record; empty where tfr did not make the dataset.
      rows_read: rows of the annotations; 0 where tfr did not make the dataset.
    """

    name: str
    version: str
    dataset_dir: str
    label_names: tuple[str, ...]
    is_multi_label: bool
    splits: dict[str, SplitStatistics]
    rejects_by_reason: dict[str, int]
    rows_read: int

    @functools.cached_property
    def total(self) -> SplitStatistics:
        """Counts over all splits."""
        total = SplitStatistics()
        for split in self.splits.values():
            total.add(split, samples_per_label=max((len(s) for s in split.samples.values()), default=0))
        return total

    @property
    def has_pairs(self) -> bool:
        """Whether pairs of labels were counted."""
        return self.is_multi_label and len(self.label_names) <= MAX_PAIRED_LABELS


def compute(path: str, *, num_workers: int | None = None, samples_per_label: int = 0) -> Statistics:
    """Counts what a dataset directory holds; any TFDS dataset with a feature that is an image.

    Image sizes come from the headers, no image is decoded. Memory does not grow with the number of records.

    Args:
      path: a dataset directory, or a folder with only one below.
      num_workers: cores to use; None: all.
      samples_per_label: how many images of each label to remember.

    Raises:
      DatasetError: the metadata cannot be read, a shard is damaged, or no feature is an image.
    """
    builder = dataset_dir.open_builder(path)
    layout = record_layout.layout_of(builder)
    result = dataset_dir.read_conversion(os.fspath(builder.data_path)).get("result", {})
    names = sorted(builder.info.splits, key=lambda name: (name != "train", name))
    if not names:
        raise DatasetError(f"{builder.info.full_name} has no splits: there is nothing to count.")
    splits = {name: SplitStatistics() for name in names}
    count = functools.partial(_count_shard, layout=layout, samples_per_label=samples_per_label)
    every = sorted(shard_jobs.shards_of(builder), key=lambda shard: (names.index(shard.split), shard.path))
    for shard, counted in shard_jobs.for_each_shard(count, every, num_workers, "counting"):
        splits[shard.split].add(counted, samples_per_label)
    return Statistics(
        name=builder.info.name,
        version=str(builder.info.version),
        dataset_dir=os.fspath(builder.data_path),
        label_names=layout.label_names,
        is_multi_label=layout.is_multi_label,
        splits=splits,
        rejects_by_reason=result.get("rejects_by_reason", {}),
        rows_read=result.get("rows_read", 0),
    )


def _count_shard(shard: Shard, threads: int, *, layout: RecordLayout, samples_per_label: int) -> SplitStatistics:
    del threads  # nothing here leaves the interpreter's lock free
    counts = SplitStatistics()
    with_pairs = layout.is_multi_label and len(layout.label_names) <= MAX_PAIRED_LABELS
    for record in shards.scan(shard.path):
        where = f"{shard.path}: record {record.number}"
        if record.problem:
            raise DatasetError(f"{where}: {record.problem}. `tfr verify` lists all that is wrong.")
        try:
            fields = layout.parse(record.data)
        except BadRecordError as err:
            raise DatasetError(f"{where}: {err}. `tfr verify` lists all that is wrong.") from err
        labels = sorted({label for label in fields.labels if label >= 0})  # -1 is TFDS's mark for no label
        _count_labels(counts, labels, fields.unknown, with_pairs)
        _count_image(counts, fields.image)
        for label in labels:
            samples = counts.samples.setdefault(label, [])
            if len(samples) < samples_per_label:
                samples.append(Sample(shard.path, record.offset, len(record.data)))
    return counts


def _count_labels(counts: SplitStatistics, labels: list[int], unknown: Iterable[int], with_pairs: bool) -> None:
    counts.num_images += 1
    counts.labels_per_image[len(labels)] += 1
    counts.label_counts.update(labels)
    counts.unknown_counts.update(unknown)
    if with_pairs:
        counts.pairs.update(itertools.combinations(labels, 2))


def _count_image(counts: SplitStatistics, data: bytes) -> None:
    counts.total_bytes += len(data)
    counts.image_bytes[_two_digits(len(data))] += 1
    format_, width, height = _read_header(data)
    counts.formats[format_] += 1
    if width and height:
        counts.widths[width] += 1
        counts.heights[height] += 1
        counts.aspect_ratios[round(min(max(width / height, 1 / _MAX_RATIO), _MAX_RATIO), 2)] += 1


def _read_header(data: bytes) -> tuple[str, int, int]:
    """Format, width and height of an encoded image."""
    header = jpeg_header.parse(data)
    if header is not None:
        return "jpeg", header.width, header.height
    try:
        with Image.open(io.BytesIO(data)) as image:
            return (image.format or "other").lower(), image.width, image.height
    except Exception:  # whatever Pillow's header readers raise on broken bytes; `tfr verify` says what
        return "unreadable", 0, 0


def _two_digits(number: int) -> int:
    """A number rounded to two digits: 90 values a decade at most."""
    step = 10 ** max(len(str(number)) - 2, 0)
    return round(number / step) * step


def quantiles(counter: Mapping[Any, int], at: Sequence[float]) -> list[float]:
    """Values below which the given shares (0 to 1) of what was counted lie; zeros where nothing was."""
    if not counter:
        return [0.0] * len(at)
    values, counts = (np.array(list(part)) for part in zip(*sorted(counter.items()), strict=True))
    places = np.searchsorted(np.cumsum(counts) / counts.sum(), np.asarray(at) - 1e-12)
    return [float(values[min(place, len(values) - 1)]) for place in places]


def mean(counter: Mapping[Any, int]) -> float:
    """The mean of what was counted; 0 where nothing was."""
    total = sum(counter.values())
    return sum(value * count for value, count in counter.items()) / total if total else 0.0
