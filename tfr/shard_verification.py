"""Verifying one shard: checksums, features, label ids and images of every record."""

import concurrent.futures
import dataclasses
import functools
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from tfr import id_ledger, images, shards
from tfr.record_layout import BadRecordError, Fields, RecordLayout
from tfr.shard_jobs import Shard
from tfr.shard_writer import map_ahead

_RECORDS_PER_TASK = 16  # handed to a thread at once


class Problem(NamedTuple):
    """Something that is wrong.

    Attributes:
      kind: a short fixed word, for counting.
      file: name of the file in the dataset directory.
      record, offset: number of the record in it and the byte where it starts; None where the whole file is meant.
      message: what is wrong, in words.
    """

    kind: str
    file: str
    record: int | None
    offset: int | None
    message: str

    def __str__(self) -> str:
        at = "" if self.offset is None else f" at byte {self.offset}"
        where = "" if self.record is None else f": record {self.record}{at}"
        return f"{self.file}{where}: {self.message}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expectations:
    """What every record of a dataset must be.

    Attributes:
      layout: its features.
      image: the limits and sizes that images were converted with.
      is_converted: whether `tfr convert` made it, so that images are stored as it would store them, ids are not
        empty, and fingerprints can be computed again.
      max_problems: how many problems of a shard are described; further ones are counted.
    """

    layout: RecordLayout
    image: images.ImageOptions
    is_converted: bool
    max_problems: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardFindings:
    """What a shard holds, and what is wrong with its records.

    Attributes:
      num_records, num_bytes: sound records and their bytes, without framing.
      checksum: digest over the checksums of the records, as in the conversion manifest.
      label_counts: label id to records that carry it.
      id_digests: uint64 (ids, 2), see `id_ledger.digests`.
      id_numbers: the number of the record that each id stands in.
      problems: the first ones.
      problem_counts: kind to number.
    """

    num_records: int
    num_bytes: int
    checksum: str
    label_counts: dict[int, int]
    id_digests: np.ndarray
    id_numbers: list[int]
    problems: list[Problem]
    problem_counts: dict[str, int]


def verify_shard(shard: Shard, threads: int, *, expected: Expectations) -> ShardFindings:
    """Reads a shard to its end, and decodes all of its images.

    Args:
      shard: the shard; its file exists.
      threads: threads that decode images ahead; 0: none.
      expected: what its records must be.
    """
    digest, num_bytes = hashlib.blake2b(digest_size=16), 0
    labels: Counter[int] = Counter()
    ids: list[str] = []
    numbers: list[int] = []
    problems = _Problems(shard.file, expected.max_problems)
    for record, fields, wrong in _checked(shard.path, expected, threads):
        digest.update(record.footer)
        num_bytes += len(record.data)
        problems.add(record, wrong)
        if fields is not None:
            labels.update(fields.labels)
            if fields.id is not None:
                ids.append(fields.id)
                numbers.append(record.number)
    return ShardFindings(
        num_records=problems.num_records,
        num_bytes=num_bytes,
        checksum=digest.hexdigest(),
        label_counts=dict(labels),
        id_digests=id_ledger.digests(ids),
        id_numbers=numbers,
        problems=problems.first,
        problem_counts=dict(problems.counts),
    )


class _Problems:
    """The first problems of a shard, and how many there are of each kind."""

    def __init__(self, file: str, limit: int):
        self._file, self._limit = file, limit
        self._has_offsets = ".tfrecord" in file  # an ArrayRecord file knows records by number alone
        self.first: list[Problem] = []
        self.counts: Counter[str] = Counter()
        self.num_records = 0

    def add(self, record: shards.ScannedRecord, wrong: list[tuple[str, str]]) -> None:
        """Notes a record and what is wrong with it: (kind, message) each."""
        self.num_records += not record.problem
        for kind, message in wrong:
            self.counts[kind] += 1
            if len(self.first) < self._limit:
                offset = record.offset if self._has_offsets else None
                self.first.append(Problem(kind, self._file, record.number, offset, message))


Checked = tuple[shards.ScannedRecord, Fields | None, list[tuple[str, str]]]


def _checked(path: str, expected: Expectations, threads: int) -> Iterator[Checked]:
    """Every record with its fields and what is wrong with it, in order."""
    records = shards.scan(path)
    batches = iter(lambda: list(itertools.islice(records, _RECORDS_PER_TASK)), [])
    check = functools.partial(_check_batch, expected=expected)
    if threads == 0:
        yield from itertools.chain.from_iterable(map(check, batches))
        return
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        yield from itertools.chain.from_iterable(map_ahead(pool, check, batches, 2 * threads))


def _check_batch(batch: Iterable[shards.ScannedRecord], expected: Expectations) -> list[Checked]:
    return [_check(record, expected) for record in batch]


def _check(record: shards.ScannedRecord, expected: Expectations) -> Checked:
    if record.problem:
        return record, None, [("damaged", record.problem)]
    try:
        fields = expected.layout.parse(record.data)
    except BadRecordError as err:
        return record, None, [("bad_record", str(err))]
    # The image's bytes are not kept: many records are on their way at a time.
    return record, fields._replace(image=b""), [*_check_labels(fields, expected), *_check_image(fields, expected)]


def _check_labels(fields: Fields, expected: Expectations) -> Iterator[tuple[str, str]]:
    layout = expected.layout
    if expected.is_converted and not fields.id:
        yield "bad_record", "its id is empty"
    num_labels = len(layout.label_names)
    lowest = 0 if expected.is_converted or layout.is_multi_label else -1  # TFDS's mark for no label
    for name, values in ((layout.label, fields.labels), ("labels_unknown", fields.unknown)):
        if bad := [value for value in values if not lowest <= value < num_labels]:
            yield "label_id", f"{name} {bad} are not ids of the {num_labels} labels (0 to {num_labels - 1})"
    if both := sorted(set(fields.labels) & set(fields.unknown)):
        yield "label_id", f"labels {both} are both present and unknown"


def _check_image(fields: Fields, expected: Expectations) -> Iterator[tuple[str, str]]:
    try:
        prepared = images.prepare_image(fields.image, expected.image)
    except images.ImageRejectedError as err:
        yield "bad_image", f"its image: {err}"
        return
    if not expected.is_converted:
        return
    if not prepared.stored_as_is:
        yield "bad_image", "its image is not as a conversion stores it (sound, upright, of the size in conversion.json)"
    elif fields.fingerprint not in (prepared.fingerprint, None):
        yield "fingerprint", f"its fingerprint is {fields.fingerprint}, but that of its image is {prepared.fingerprint}"


def first_id(path: str, number: int, layout: RecordLayout) -> str | None:
    """The id in one record of a shard."""
    return layout.parse(next(itertools.islice(shards.scan(path), number, None)).data).id
