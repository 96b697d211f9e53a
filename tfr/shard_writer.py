"""Writing one shard: a manifest in, a file of records and a report out. Runs on Beam workers."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import errno
import functools
import itertools
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from tfr import features, files, images, shards, taking_over
from tfr.errors import ConversionError
from tfr.manifests import ShardPlan

_ROWS_PER_TASK = 16  # rows handed to a thread at once: a hand-over costs about as much as a small image's header
_PROGRESS_SECS = 0.3
REPORT_SUFFIX = ".report.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardReport:
    """What became of a shard's rows; JSON-serialisable, and the mark that the shard is done.

    Attributes:
      fingerprint: the fingerprint of the plan that it was written from.
      file, split, index: its place.
      num_rows, num_records: rows of the manifest, records in the file.
      num_bytes: bytes of the records, without framing.
      file_bytes: size of the file.
      checksum: digest over the checksums of the records.
      num_stored_as_is: images whose bytes are the file's own.
      label_counts: label id to records that carry it (keys are text, as JSON has it).
      unknown_counts: label id to records where it is not known.
      num_taken_over: records that are those of the version that is appended to, but perhaps for their labels.
      rows: digest of what the rows put into records, see `taking_over.RowsDigest`.
      rejects: [file, row, id, reason, detail] of rows without a record.
    """

    fingerprint: str
    file: str
    split: str
    index: int
    num_rows: int
    num_records: int
    num_bytes: int
    file_bytes: int
    checksum: str
    num_stored_as_is: int
    num_taken_over: int
    rows: str
    label_counts: dict[str, int]
    unknown_counts: dict[str, int]
    rejects: list[list[Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class WriteSettings:
    """What every shard's writing has in common.

    Attributes:
      dataset_dir, plan_dir: where shards and reports go.
      image_dir: the folder that the images are in.
      previous_dir: the dataset directory that is appended to; '' for none.
      schema: the record schema.
      image: limits and sizes.
      threads: threads that read and verify ahead; 0: none.
    """

    dataset_dir: str
    plan_dir: str
    image_dir: str
    previous_dir: str
    schema: features.RecordSchema
    image: images.ImageOptions
    threads: int


class _Encoded(NamedTuple):
    """One row's record with its frame; record None where the image was rejected."""

    row: dict[str, Any]
    record: bytes | None
    header: bytes
    footer: bytes
    stored_as_is: bool
    reject: tuple[str, str] = ("", "")
    taken_over: bool = False


def report_path(plan_dir: str, file: str) -> str:
    """Where the report of a shard is kept until the dataset is published."""
    return f"{plan_dir}/{file}{REPORT_SUFFIX}"


def finished_report(plan: ShardPlan, settings: WriteSettings) -> ShardReport | None:
    """The report of a shard that is whole and was written from the very same plan, else None."""
    path = report_path(settings.plan_dir, plan.file)
    if not files.exists(path):
        return None
    with files.open_text(path) as file:
        report = ShardReport(**json.load(file))
    same = report.fingerprint == plan.fingerprint
    return report if same and files.size(f"{settings.dataset_dir}/{plan.file}") == report.file_bytes else None


def begin_shard(plan: ShardPlan, settings: WriteSettings) -> Callable[[], ShardReport]:
    """Writes one shard, all but its end, or keeps the one that an earlier run finished from the same plan.

    The file appears under its name when it is complete; the same plan gives the same bytes every time, so a retry or
    a second copy of the same work does no harm.

    Returns:
      The end, to be called in any thread: waits for the disk, gives the file its name, and writes the report to the
      plan folder. Meanwhile the processor can do the next shard.
    """
    report = finished_report(plan, settings)
    if report is not None and report.num_rows == plan.num_rows:  # another runner may have lost some
        return lambda: report
    tally, target = _Tally(plan, settings), f"{settings.dataset_dir}/{plan.file}"
    old = taking_over.find_whole(_manifest_rows(plan.manifest), settings.schema, settings.previous_dir)
    if old is None:
        return functools.partial(_finish, plan, settings, tally, *_write(plan, settings, tally, target))
    taking_over.link(f"{settings.previous_dir}/{old.file}", target)
    for row in _manifest_rows(plan.manifest):
        tally.add(_Encoded(row, b"", b"", b"", True, taken_over=True))
    return functools.partial(_finish, plan, settings, tally, old, contextlib.ExitStack())


def _write(
    plan: ShardPlan, settings: WriteSettings, tally: "_Tally", target: str
) -> tuple[shards.ShardWriter, contextlib.ExitStack]:
    """Writes a shard's records; closing the stack, by and by, makes them a file."""
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(shards.create(target))
        for encoded in _encode_ahead(_manifest_rows(plan.manifest), settings):
            if encoded.record is not None:
                writer.write(encoded.record, encoded.header, encoded.footer)
            tally.add(encoded)
        return writer, stack.pop_all()


def _finish(
    plan: ShardPlan,
    settings: WriteSettings,
    tally: "_Tally",
    written: shards.ShardWriter | taking_over.OldShard,
    open_file: contextlib.ExitStack,
) -> ShardReport:
    open_file.close()
    report = tally.report(written)
    files.write_text(report_path(settings.plan_dir, plan.file), json.dumps(dataclasses.asdict(report)))
    return report


def _manifest_rows(path: str) -> Iterator[dict[str, Any]]:
    with files.open_text(path) as file:
        for line in file:
            yield json.loads(line)


def _encode_ahead(rows: Iterable[dict[str, Any]], settings: WriteSettings) -> Iterator[_Encoded]:
    """Encodes rows in order, a bounded number of them ahead of the caller."""

    def encode_batch(batch: list[dict[str, Any]]) -> list[_Encoded]:
        return [_encode(row, settings) for row in batch]

    iterator = iter(rows)
    batches = iter(lambda: list(itertools.islice(iterator, _ROWS_PER_TASK)), [])
    if settings.threads == 0:
        yield from itertools.chain.from_iterable(map(encode_batch, batches))
        return
    with concurrent.futures.ThreadPoolExecutor(settings.threads) as pool:
        yield from itertools.chain.from_iterable(map_ahead(pool, encode_batch, batches, 2 * settings.threads))


def map_ahead(pool: concurrent.futures.Executor, function: Callable, items: Iterable, window: int) -> Iterator[Any]:
    """`map` on a pool, in order, with at most `window` items submitted and not yet taken."""
    pending: collections.deque[concurrent.futures.Future] = collections.deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= window:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def _encode(row: dict[str, Any], settings: WriteSettings) -> _Encoded:
    """Reads, verifies and serialises one example, or takes it over."""
    if taking_over.is_old(row["path"], settings.previous_dir):
        record = taking_over.serialize(row, settings.schema)
        return _Encoded(row, record, *shards.frame(record), stored_as_is=True, taken_over=True)
    try:
        prepared = images.prepare_image(_read_image(row["path"], settings.image_dir), settings.image)
    except images.ImageRejectedError as err:
        return _Encoded(row, None, b"", b"", False, (err.reason, err.detail))
    record = settings.schema.serialize(
        row["id"], prepared.data, row["labels"], row["unknown"], prepared.fingerprint, row["columns"]
    )
    return _Encoded(row, record, *shards.frame(record), prepared.stored_as_is)


def _read_image(path: str, folder: str) -> bytes:
    try:
        return files.read_bytes(path)
    except (FileNotFoundError, NotADirectoryError) as err:
        if path.startswith(folder):
            _check_folder(folder)
        raise images.ImageRejectedError("missing", f"no file {path}") from err
    except (PermissionError, IsADirectoryError) as err:
        raise images.ImageRejectedError("unreadable", str(err)) from err
    except (OSError, ValueError) as err:  # names that no file can have; a disk or a network that fails is no reject
        if isinstance(err, OSError) and err.errno not in (errno.ENAMETOOLONG, errno.ELOOP):
            raise
        raise images.ImageRejectedError("unreadable", str(err)) from err


def _check_folder(folder: str) -> None:
    """Raises where not only an image is missing: a disk that is gone must not turn every row into a reject."""
    if not files.is_local(folder):
        return  # an object store says of itself that it fails
    if os.path.isdir(folder):
        with os.scandir(folder) as entries:
            if next(entries, None) is not None:
                return
    raise ConversionError(f"The image folder {folder} is gone, or empty now. Bring it back")


class _Tally:
    """Counts what became of the rows of one shard, and says now and then how far it is."""

    def __init__(self, plan: ShardPlan, settings: WriteSettings):
        self._plan = plan
        self._digest = taking_over.RowsDigest(settings.schema)
        self._rows = self._stored_as_is = self._taken_over = 0
        self._labels: collections.Counter[int] = collections.Counter()
        self._unknown: collections.Counter[int] = collections.Counter()
        self._rejects: list[list[Any]] = []
        self._progress_path = f"{settings.plan_dir}/{plan.file}.progress" if files.is_local(settings.plan_dir) else None
        self._next_progress = time.monotonic() + _PROGRESS_SECS

    def add(self, encoded: _Encoded) -> None:
        """Counts one row."""
        self._rows += 1
        row = encoded.row
        if encoded.record is None:
            self._rejects.append([*row["source"], row["id"], *encoded.reject])
        else:
            self._stored_as_is += encoded.stored_as_is
            self._taken_over += encoded.taken_over
            self._digest.add(row)
            for label in row["labels"]:
                self._labels[label] += 1
            for label in row["unknown"]:
                self._unknown[label] += 1
        if self._progress_path and time.monotonic() > self._next_progress:
            with open(self._progress_path, "w", encoding="utf-8") as file:
                file.write(f"{self._rows} {len(self._rejects)}")
            self._next_progress = time.monotonic() + _PROGRESS_SECS

    def report(self, writer: shards.ShardWriter | taking_over.OldShard) -> ShardReport:
        """The final word on the shard."""
        if self._progress_path and os.path.exists(self._progress_path):
            os.unlink(self._progress_path)
        return ShardReport(
            fingerprint=self._plan.fingerprint,
            file=self._plan.file,
            split=self._plan.split,
            index=self._plan.index,
            num_rows=self._rows,
            num_records=writer.num_records,
            num_bytes=writer.num_bytes,
            file_bytes=writer.file_bytes,
            checksum=writer.checksum,
            num_stored_as_is=self._stored_as_is,
            num_taken_over=self._taken_over,
            rows=self._digest.hexdigest(),
            label_counts={str(label): count for label, count in self._labels.items()},
            unknown_counts={str(label): count for label, count in self._unknown.items()},
            rejects=self._rejects,
        )
