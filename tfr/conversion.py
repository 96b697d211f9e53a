"""The conversion: plan, write the shards in a Beam job, reconcile, publish."""

import collections
import contextlib
import dataclasses
import gc
import os
import sqlite3
from collections.abc import Iterator
from typing import Any

from tfr import (
    appending,
    beam_planning,
    dataset_dir,
    earlier_runs,
    files,
    input_digest,
    label_choice,
    planning,
    row_store,
    runners,
    shard_writer,
    write_job,
)
from tfr.annotations import Source
from tfr.config import ConvertConfig
from tfr.errors import ConversionError
from tfr.shard_writer import ShardReport, WriteSettings

FROZEN_BY_PYTHON = 5_000  # objects: from 3.12 on, an interpreter keeps some hundreds from the collector by itself
_NOT_LOST = ("duplicate_id", "over_limit")  # reasons to leave a row out that say nothing against it


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConversionResult:
    """What a conversion did.

    Attributes:
      dataset_dir: where the dataset is.
      reused: whether it was there already, made from the same input and config.
      rows_read, records_written: rows of the annotations; records over all splits.
      records_per_split: split name to records.
      rejects_by_reason: reason to rows; with the records they add up to the rows read.
      num_lost: rejects other than rows folded into another of the same id, or left out for a quick try.
      duplicate_ids: ids on more than one row.
      images_listed, images_without_row: image files in the image folder, and those that no row names.
      num_taken_over: records that are those of the version that was appended to; they count as rows read.
      num_stored_as_is: images whose bytes are the file's own.
      label_mode: 'multi' or 'single'.
      num_labels: labels in the vocabulary.
      dropped_labels: labels left out, with their counts.
      corrections: what became of `--corrections`: file, its digest, images, labels changed and unchanged.
      warnings: what a person should know.
    """

    dataset_dir: str
    reused: bool = False
    rows_read: int
    records_written: int
    records_per_split: dict[str, int]
    rejects_by_reason: dict[str, int]
    num_lost: int
    duplicate_ids: int
    images_listed: int | None
    images_without_row: int
    num_stored_as_is: int
    num_taken_over: int = 0
    label_mode: str
    num_labels: int
    dropped_labels: dict[str, int]
    corrections: dict[str, Any] = dataclasses.field(default_factory=dict)
    warnings: list[str]


def convert(config: ConvertConfig, runner: runners.Runner | None = None) -> ConversionResult:
    """Converts annotations and images to a dataset directory.

    Args:
      config: what to convert and how.
      runner: runs the Beam job, instead of what the config's `runner` and `beam_args` say.

    Returns:
      What was done. Running it again with the same config on the same input changes nothing; after a crash it keeps
      the shards that are complete.

    Raises:
      AnnotationError: the annotations cannot be used.
      ConversionError: the job failed, rows are unaccounted for, or more than `max_rejects` became no example.
      DatasetError: another dataset is there already.
    """
    runner = runner or runners.prepare(config)
    config = appending.resolve(config)
    with files.Listing(config.image_dir) as images, _explained(config), _imports_left_alone():
        content_hash = input_digest.content_hash(config, images)  # what changes from here on is not in it
        return _finished(config, content_hash) or _convert(config, images, content_hash, runner)


def _convert(
    config: ConvertConfig, images: files.Listing, content_hash: str, runner: runners.Runner
) -> ConversionResult:
    earlier_runs.refuse_other_unfinished(config)
    with earlier_runs.exclusive(config):
        if done := _finished(config, content_hash):  # by a run that had the lock until now
            return done
        earlier_runs.refuse_other_unfinished(config)
        plan_dir = earlier_runs.plan_dir(config)
        if config.planner == "beam":
            plan = beam_planning.make_plan(config, plan_dir, runner, images)
        else:
            plan = planning.make_plan(config, plan_dir, images)
        _check_rejects(config, collections.Counter(reject.reason for reject in plan.rejects), plan.rejects)
        settings = WriteSettings(
            dataset_dir=config.dataset_dir,
            plan_dir=plan_dir,
            image_dir=config.image_dir,
            previous_dir=appending.folder(config),
            schema=plan.schema,
            image=config.image,
            threads=config.threads_per_worker,
        )
        earlier_runs.begin(config, plan)
        write_job.run(runner, plan, settings)
        reports = _reconcile(plan, settings)
        return _publish(config, plan, reports, content_hash)


@contextlib.contextmanager
def _imports_left_alone() -> Iterator[None]:
    """Spares the garbage collector the objects of imported modules: a walk over Beam's takes a tenth of a second."""
    if gc.get_freeze_count() > FROZEN_BY_PYTHON:  # someone has done so already
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _finished(config: ConvertConfig, content_hash: str) -> ConversionResult | None:
    done = earlier_runs.finished(config, content_hash)
    if done is None:
        return None
    result = ConversionResult(**{**done, "dataset_dir": config.dataset_dir, "reused": True})
    if config.max_rejects is not None and result.num_lost > config.max_rejects:  # the run before allowed more
        raise ConversionError(
            f"{result.dataset_dir} was converted before, and {result.num_lost} rows became no example "
            f"({result.rejects_by_reason}), more than --max_rejects={config.max_rejects}. They are listed in "
            f"{result.dataset_dir}/{dataset_dir.REJECTED_FILE}; the dataset stays as it is."
        )
    return result


@contextlib.contextmanager
def _explained(config: ConvertConfig) -> Iterator[None]:
    """Says of a disk that fails in this process which one it is, and how to go on."""
    try:
        yield
    except sqlite3.OperationalError as err:
        if "disk" not in str(err):  # full, or failing
            raise
        folder = os.environ.get("SQLITE_TMPDIR") or os.environ.get("TMPDIR") or "/var/tmp"
        raise ConversionError(
            f"Planning keeps its tables in a temporary file, which failed: {err}. Make room in {folder}, or set TMPDIR "
            "to a folder that has some, and run the same command again."
        ) from err
    except OSError as err:
        where = os.fspath(err.filename) if err.filename is not None else config.dataset_dir
        raise ConversionError(f"{where}: {err.strerror or err}. Mend this and run the same command again.") from err


def _reconcile(plan: planning.Plan, settings: WriteSettings) -> list[ShardReport]:
    """Holds the reports against the plan: every shard once, every row a record or a reject.

    Raises:
      ConversionError: anything is unaccounted for.
    """
    reports = []
    for shard in plan.shards:
        report = shard_writer.finished_report(shard, settings)
        if report is None:
            raise ConversionError(f"The job ended, but shard {shard.file} was not written. Run the same command again.")
        if report.num_rows != shard.num_rows or report.num_records + len(report.rejects) != shard.num_rows:
            raise ConversionError(
                f"Shard {shard.file}: {shard.num_rows} rows planned, {report.num_records} written and "
                f"{len(report.rejects)} rejected. The runner lost or repeated rows; use another one."
            )
        reports.append(report)
    planned = sum(shard.num_rows for shard in plan.shards)
    if planned + len(plan.rejects) != plan.rows_read:
        raise ConversionError(f"{plan.rows_read} rows read, but {planned} planned and {len(plan.rejects)} rejected.")
    return reports


def _check_rejects(config: ConvertConfig, by_reason: collections.Counter[str], rejects: list[row_store.Reject]) -> int:
    """How many rows are lost for good; raises if they are more than allowed."""
    lost = sum(count for reason, count in by_reason.items() if reason not in _NOT_LOST)
    if config.max_rejects is not None and lost > config.max_rejects:
        path = f"{earlier_runs.plan_dir(config)}/{dataset_dir.REJECTED_FILE}"
        dataset_dir.write_rejects(path, rejects)
        raise ConversionError(
            f"{lost} rows became no example ({dict(by_reason)}), more than --max_rejects={config.max_rejects}. They "
            f"are listed in {path}."
        )
    return lost


def _publish(
    config: ConvertConfig, plan: planning.Plan, reports: list[ShardReport], content_hash: str
) -> ConversionResult:
    """Writes everything that makes the shards a dataset; dataset_info.json comes last."""
    written = [row_store.Reject(Source(r[0], r[1]), *r[2:]) for report in reports for r in report.rejects]
    rejects = sorted([*plan.rejects, *written])
    by_reason = collections.Counter(reject.reason for reject in rejects)
    num_lost = _check_rejects(config, by_reason, rejects)
    per_split: collections.Counter[str] = collections.Counter()
    for report in reports:
        per_split[report.split] += report.num_records
    result = ConversionResult(
        dataset_dir=config.dataset_dir,
        rows_read=plan.rows_read,
        records_written=sum(per_split.values()),
        records_per_split=dict(per_split),
        rejects_by_reason=dict(by_reason),
        num_lost=num_lost,
        duplicate_ids=plan.duplicate_ids,
        images_listed=plan.images_listed,
        images_without_row=len(plan.images_without_row),
        num_taken_over=sum(report.num_taken_over for report in reports),
        num_stored_as_is=sum(report.num_stored_as_is for report in reports),
        label_mode="multi" if plan.schema.multi_label else "single",
        num_labels=len(plan.schema.names),
        dropped_labels=plan.dropped_labels,
        corrections=plan.corrections,
        warnings=[*plan.warnings, *_untrained_labels(plan, reports)],
    )
    if empty := [split for split, count in per_split.items() if not count]:
        raise ConversionError(
            f"No image of {empty} could be used: {dict(by_reason)}. Nothing was published. Mend the images, or give "
            "those splits more rows with --splits."
        )
    dataset_dir.publish(config, plan, reports, rejects, result, content_hash)
    earlier_runs.remove_plan(config)
    return result


def _untrained_labels(plan: planning.Plan, reports: list[ShardReport]) -> list[str]:
    if not any(report.split == "train" for report in reports):
        return []
    seen = {int(i) for report in reports if report.split == "train" for i in report.label_counts}
    missing = [name for i, name in enumerate(plan.schema.names) if i not in seen]
    return [f"labels on no training image: {label_choice.shown(missing)}"] if missing else []


def summary(result: ConversionResult) -> str:
    """What a conversion did, in plain words."""
    folder = result.dataset_dir
    head = "Already converted, nothing to do" if result.reused else "Converted"
    splits = ", ".join(f"{name} {count}" for name, count in result.records_per_split.items())
    lines = [
        f"{head}: {folder}",
        f"  rows read               {result.rows_read}",
        f"  records written         {result.records_written} ({splits})",
        f"  labels                  {result.num_labels} ({result.label_mode}-label)",
        f"  rows without an image   {result.rejects_by_reason.get('no_image', 0)}",
        f"  duplicate ids           {result.duplicate_ids}"
        f" ({result.rejects_by_reason.get('duplicate_id', 0)} rows folded into others)",
    ]
    if result.corrections:
        changed, unchanged = result.corrections["changed"], result.corrections["unchanged"]
        images = result.corrections["images"]
        lines.append(f"  labels corrected        {changed} on {images} images ({unchanged} were so already)")
    if result.num_taken_over:
        lines.append(f"  of an older version     {result.num_taken_over}")
    if result.images_listed is not None:
        where = f", listed in {folder}/{dataset_dir.WITHOUT_ROW_FILE}" if result.images_without_row else ""
        lines.append(f"  images without a row    {result.images_without_row} of {result.images_listed}{where}")
    others = {k: v for k, v in result.rejects_by_reason.items() if k not in ("no_image", "duplicate_id")}
    reasons = f" ({', '.join(f'{reason} {count}' for reason, count in sorted(others.items()))})" if others else ""
    lines += [
        f"  other rejected rows     {sum(others.values())}{reasons}",
        f"  images normalised       {result.records_written - result.num_stored_as_is}",
        f"  every row that became no record is listed in {folder}/{dataset_dir.REJECTED_FILE}",
    ]
    dropped = {name: count for name, count in result.dropped_labels.items() if count}
    if dropped:
        lines.append(f"  labels left out         {', '.join(f'{k} ({v})' for k, v in sorted(dropped.items()))}")
    return "\n".join([*lines, *(f"  note: {warning}" for warning in result.warnings)])
