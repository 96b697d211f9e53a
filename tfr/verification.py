"""Verifying a dataset directory: every byte of every shard, against its metadata and the conversion manifest."""

import collections
import dataclasses
import functools
import heapq
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import tensorflow_datasets as tfds

from tfr import dataset_dir, files, id_ledger, images, record_layout, shard_jobs
from tfr.shard_jobs import Shard
from tfr.shard_verification import Expectations, Problem, ShardFindings, first_id, verify_shard


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verification:
    """What was found in a dataset directory.

    Attributes:
      dataset_dir: the directory.
      num_shards: shards read.
      num_records, num_bytes: records whose checksums are right, and their bytes without framing.
      problem_counts: kind of problem to how many there are; empty where nothing is wrong.
      problems: the first of them, in the order of the shards.
      not_compared: what could not be checked, and why, one sentence each.
    """

    dataset_dir: str
    num_shards: int
    num_records: int
    num_bytes: int
    problem_counts: dict[str, int]
    problems: list[Problem]
    not_compared: list[str]

    @property
    def num_problems(self) -> int:
        """How many problems there are in all."""
        return sum(self.problem_counts.values())

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        problems = [problem._asdict() for problem in self.problems]
        return {**values, "num_problems": self.num_problems, "problems": problems}


def verify(path: str, *, num_workers: int | None = None, max_problems: int = 100) -> Verification:
    """Verifies a dataset directory with a feature that is an image, made by tfr or not.

    Reads all shards: both checksums of each record, its features, label ids and image, which is decoded as the
    conversion does. Compares shards with the conversion manifest, splits with dataset_info.json, counts with
    label_counts.csv; looks for ids that occur twice and for shards that are missing or too many. Goes on where
    something is wrong.

    Args:
      path: a dataset directory, or a folder with only one below.
      num_workers: cores to use; None: all.
      max_problems: how many problems are described; all are counted.

    Raises:
      DatasetError: the metadata cannot be read, or no feature is an image.
    """
    builder = dataset_dir.open_builder(path)
    folder = os.fspath(builder.data_path)
    conversion = dataset_dir.read_conversion(folder)
    layout = record_layout.layout_of(builder)
    expected = Expectations(
        layout=layout,
        image=_image_options(conversion),
        is_converted=bool(conversion),
        max_problems=max_problems,
    )
    shards = shard_jobs.shards_of(builder)
    sizes = dict(files.list_files(folder))
    there = [shard for shard in shards if shard.file in sizes]
    log = _Log(max_problems)
    log.add(_file_problems(builder.info.name, shards, sizes, conversion))
    manifest = {entry["file"]: {**entry, "size": sizes.get(entry["file"])} for entry in conversion.get("shards", ())}
    totals = _read_shards(there, expected, manifest, num_workers, log)
    if conversion and len(there) == len(shards):
        log.add(_count_problems(builder, folder, layout, totals))
    return Verification(
        dataset_dir=folder,
        num_shards=len(there),
        num_records=sum(totals.records.values()),
        num_bytes=sum(totals.bytes.values()),
        problem_counts=dict(log.counts),
        problems=log.problems,
        not_compared=list(_not_compared(folder, conversion, layout)),
    )


def _image_options(conversion: Mapping[str, Any]) -> images.ImageOptions:
    known = {field.name for field in dataclasses.fields(images.ImageOptions)}
    stored = conversion.get("config", {}).get("image", {})
    options = images.ImageOptions(**{name: value for name, value in stored.items() if name in known})
    return dataclasses.replace(options, check_images="decode")  # what was stored unseen as well


class _Log:
    """The first problems, and how many there are of each kind."""

    def __init__(self, limit: int):
        self._limit = limit
        self.problems: list[Problem] = []
        self.counts: collections.Counter[str] = collections.Counter()

    def add(self, problems: Iterable[Problem]) -> None:
        """Notes problems that are counted one by one."""
        for problem in problems:
            self.add_counted([problem], {problem.kind: 1})

    def add_counted(self, problems: list[Problem], counts: Mapping[str, int]) -> None:
        """Notes problems of which only the first are described."""
        self.counts.update(counts)
        self.problems += problems[: self._limit - len(self.problems)]


class _Totals:
    """What the splits were found to hold."""

    def __init__(self) -> None:
        self.records: collections.Counter[str] = collections.Counter()
        self.bytes: collections.Counter[str] = collections.Counter()
        self.labels: collections.Counter[tuple[str, int]] = collections.Counter()
        self.damaged: set[str] = set()  # splits whose counts cannot be right

    def add(self, shard: Shard, findings: ShardFindings) -> None:
        """Adds a shard's."""
        self.records[shard.split] += findings.num_records
        self.bytes[shard.split] += findings.num_bytes
        for label, count in findings.label_counts.items():
            self.labels[shard.split, label] += count
        if findings.problem_counts.keys() & {"damaged", "bad_record"} or findings.num_records != shard.num_records:
            self.damaged.add(shard.split)


def _read_shards(
    shards: list[Shard], expected: Expectations, manifest: Mapping[str, Any], num_workers: int | None, log: _Log
) -> _Totals:
    totals = _Totals()
    verify_one = functools.partial(verify_shard, expected=expected)
    with id_ledger.IdLedger() as ledger:
        for index, (shard, found) in enumerate(shard_jobs.for_each_shard(verify_one, shards, num_workers, "verifying")):
            log.add_counted(found.problems, found.problem_counts)
            log.add(_shard_problems(shard, found, manifest.get(shard.file)))
            totals.add(shard, found)
            ledger.add(index, found.id_digests, found.id_numbers)
        log.add_counted(*_repeated_ids(ledger, shards, expected))
    return totals


def _shard_problems(shard: Shard, found: ShardFindings, entry: Mapping[str, Any] | None) -> Iterator[Problem]:
    """What differs from what dataset_info.json and conversion.json say of a shard."""
    if "damaged" in found.problem_counts:  # then everything below follows from it
        return
    if found.num_records != shard.num_records:
        message = f"{found.num_records} records, but dataset_info.json says {shard.num_records}"
        yield Problem("metadata", shard.file, None, None, message)
    if entry is None:
        return
    if found.num_records != entry["records"]:
        message = f"{found.num_records} records, but conversion.json says {entry['records']}"
        yield Problem("manifest", shard.file, None, None, message)
    elif found.checksum != entry["checksum"]:
        message = (
            "its records are sound, but not those that were converted: their checksum differs from conversion.json"
        )
        yield Problem("manifest", shard.file, None, None, message)
    elif entry["size"] != entry["bytes"]:
        message = f"{entry['size']} bytes, but conversion.json says {entry['bytes']}"
        yield Problem("manifest", shard.file, None, None, message)


def _repeated_ids(
    ledger: id_ledger.IdLedger, shards: list[Shard], expected: Expectations
) -> tuple[list[Problem], dict[str, int]]:
    """The first of the records whose id stands in another record already, and how many there are."""
    count = 0

    def counted() -> Iterator[tuple[id_ledger.Place, id_ledger.Place]]:
        nonlocal count
        for first, again in ledger.repeats():
            count += 1
            yield again, first

    problems = []
    for again, first in heapq.nsmallest(expected.max_problems, counted()):
        path, number = shards[again.shard].path, again.number
        message = (
            f"its id {first_id(path, number, expected.layout)!r} stands in {shards[first.shard].file}, record "
            f"{first.number}, already"
        )
        problems.append(Problem("duplicate_id", shards[again.shard].file, number, None, message))
    return problems, {"duplicate_id": count} if count else {}


def _file_problems(
    name: str, shards: list[Shard], sizes: Mapping[str, int], conversion: Mapping[str, Any]
) -> Iterator[Problem]:
    """Shards that are missing, too many, or known to one of the two lists only."""
    known = {shard.file for shard in shards}
    for file in sorted(known - sizes.keys()):
        yield Problem("missing_shard", file, None, None, "there is no such file, but dataset_info.json names it")
    strays = [file for file in sizes if (file.startswith(f"{name}-") or ".tmp-" in file) and "/" not in file]
    for file in sorted(set(strays) - known):
        message = "a left-over: it is no part of the dataset that dataset_info.json describes"
        yield Problem("stray_file", file, None, None, message)
    for entry in conversion.get("shards", ()):
        if entry["file"] not in known:
            message = "conversion.json names it, but dataset_info.json does not"
            yield Problem("metadata", entry["file"], None, None, message)


def _count_problems(
    builder: tfds.core.DatasetBuilder,
    folder: str,
    layout: record_layout.RecordLayout,
    totals: _Totals,
) -> Iterator[Problem]:
    """Bytes and label counts of undamaged splits that differ from what the conversion wrote of them."""
    for name, split in builder.info.splits.items():
        if name not in totals.damaged and split.num_bytes != totals.bytes[name]:
            message = f"split {name!r} has {totals.bytes[name]} bytes of records, not {split.num_bytes} as it says"
            yield Problem("metadata", "dataset_info.json", None, None, message)
    stored = dataset_dir.read_label_counts(folder)
    for label, name in enumerate(layout.label_names):
        for split in set(builder.info.splits) - totals.damaged if name in stored else ():
            found, said = totals.labels[split, label], stored[name].get(split, 0)
            if found != said:
                message = f"label {name!r} is on {found} images of {split!r}, not on {said} as it says"
                yield Problem("metadata", dataset_dir.LABEL_COUNTS_FILE, None, None, message)


def _not_compared(folder: str, conversion: Mapping[str, Any], layout: record_layout.RecordLayout) -> Iterator[str]:
    if not conversion:
        yield (
            f"{folder} has no {dataset_dir.CONVERSION_FILE} (tfr convert did not make it): bytes and checksums of "
            "whole shards, fingerprints, and the way in which images are stored were not checked"
        )
    if not layout.has_id:
        yield "records have no feature 'id': it was not checked whether any occurs twice"
    if layout.label is None:
        yield "there is no feature 'labels' or 'label' of class labels: label ids were not checked"


def text(result: Verification) -> str:
    """What was found, in plain words."""
    mib = result.num_bytes / (1 << 20)
    lines = [f"{result.dataset_dir}: {result.num_records} records in {result.num_shards} shards, {mib:.1f} MiB"]
    lines += [f"  {problem}" for problem in result.problems]
    if hidden := result.num_problems - len(result.problems):
        lines.append(f"  ... and {hidden} more problems (--max_problems shows more)")
    lines += [f"  note: {note}" for note in result.not_compared]
    if not result.num_problems:
        return "\n".join([*lines, "Everything is right."])
    counts = ", ".join(f"{kind} {count}" for kind, count in sorted(result.problem_counts.items()))
    return "\n".join([*lines, f"Problems: {result.num_problems} ({counts})."])
