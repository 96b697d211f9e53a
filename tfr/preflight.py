"""What can be checked of a conversion in seconds, before the long work: first rows, images, labels, splits, disk."""

import collections
import concurrent.futures
import dataclasses
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from tfr import annotations as annotations_lib
from tfr import files, images, planning, row_store
from tfr.annotations import ReadOptions
from tfr.config import ConvertConfig
from tfr.errors import ConversionError

MAX_ROWS = 20_000
RARE = 20  # images of a label below which it can hardly be learnt
_IMAGES_TO_OPEN = 24
_MIB = 1 << 20
_RUN_BYTES = 200 * _MIB  # of a run directory: the model, and the state of an unfinished training with its optimizer
_REASONS = {
    "no_image": "without an image file",
    "duplicate_id": "with the id of another row",
    "malformed_row": "that cannot be read",
    "no_id": "without an id",
    "bad_label": "with a label that cannot be read",
    "over_limit": "left out by --max_examples_per_split",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preflight:
    """What was found.

    Attributes:
      source: what the annotations are called.
      rows_read: rows that were looked at; `is_whole`: whether these are all.
      num_usable: rows that have an image and labels that can be used.
      rejects: the rows that have not.
      label_counts: label to usable rows that carry it, those on most first.
      multi_label: whether an image may have any number of labels.
      splits: split to usable rows.
      num_opened: images that were opened, spread over the rows; `bad_images`: what was wrong with which of them.
      bytes_needed, bytes_free: on the disk of the output; None where it is no local disk.
      warnings: what a person should know, one sentence each.
    """

    source: str
    rows_read: int
    is_whole: bool
    num_usable: int
    rejects: list[row_store.Reject]
    label_counts: dict[str, int]
    multi_label: bool
    splits: dict[str, int]
    num_opened: int
    bad_images: dict[str, str]
    bytes_needed: int | None
    bytes_free: int | None
    warnings: list[str]


def check(config: ConvertConfig) -> Preflight:
    """Plans the conversion of the first rows, by the code that plans all of it, and opens some of their images.

    Args:
      config: the conversion. Tables of more than MAX_ROWS rows are judged by their first ones, without
        `min_label_count`, `exclude_labels` and `corrections`, which may only fit the whole.

    Raises:
      AnnotationError: the annotations cannot be used; the message says where and why.
      ConversionError: no row has an image, no image that was tried can be opened, or the disk is too small.
    """
    events, is_whole = _first_rows(config)
    with tempfile.TemporaryDirectory(prefix="tfr-preflight-") as folder:
        plan = planning.make_plan(_config_of(events, is_whole, config), folder)
        rows = [row for shard in plan.shards for row in _read_manifest(shard.manifest)]
    counts = collections.Counter(plan.schema.names[label] for row in rows for label in row["labels"])
    counts.update(dict.fromkeys(plan.schema.names, 0))
    opened = _spread([row["path"] for row in rows], _IMAGES_TO_OPEN)
    bad_images = _open_images(opened, config)
    needed = sum(row["size"] for row in rows)
    if not is_whole and plan.images_listed:
        needed = needed * plan.images_listed // len(rows)
    checked = Preflight(
        source=config.source_name,
        rows_read=plan.rows_read,
        is_whole=is_whole,
        num_usable=len(rows),
        rejects=plan.rejects,
        label_counts=dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        multi_label=plan.schema.multi_label,
        splits=_split_sizes(plan),
        num_opened=len(opened),
        bad_images=bad_images,
        bytes_needed=needed + _RUN_BYTES if files.is_local(config.dataset_dir) else None,
        bytes_free=_free(config.dataset_dir) if files.is_local(config.dataset_dir) else None,
        warnings=plan.warnings,
    )
    _check(checked, config)
    return checked


def _first_rows(config: ConvertConfig) -> tuple[list[annotations_lib.Event], bool]:
    """The events of the first rows, and whether these are all rows."""
    taken: list[annotations_lib.Event] = []
    num_rows = 0
    for event in annotations_lib.read(config.annotations, config.format, planning.read_options(config)):
        if isinstance(event, (annotations_lib.Annotation, annotations_lib.RejectedRow)):
            if num_rows == MAX_ROWS:
                return taken, False
            num_rows += 1
        taken.append(event)
    return taken, True


def _config_of(events: Sequence[annotations_lib.Event], is_whole: bool, config: ConvertConfig) -> ConvertConfig:
    """A conversion of rows that were read already, planned here and fast."""
    return dataclasses.replace(
        config,
        annotations=lambda: iter(events),
        images=config.image_dir,
        read=ReadOptions(allow_outside=True, keep_columns=config.read.keep_columns),  # paths are checked already
        group_near_duplicates=None,  # reads every image
        planner="local",
        num_shards=1,
        corrections=config.corrections if is_whole else None,
        min_label_count=config.min_label_count if is_whole else 1,
        exclude_labels=config.exclude_labels if is_whole else (),
    )


def _read_manifest(path: str) -> Iterator[dict[str, Any]]:
    with files.open_text(path) as file:
        yield from map(json.loads, file)


def _split_sizes(plan: planning.Plan) -> dict[str, int]:
    sizes: collections.Counter[str] = collections.Counter()
    for shard in plan.shards:
        sizes[shard.split] += shard.num_rows
    return dict(sizes)


def _spread(items: Sequence[str], number: int) -> list[str]:
    """So many of the items, evenly spread."""
    step = max(len(items) / number, 1.0)
    return [items[int(i * step)] for i in range(min(number, len(items)))]


def _open_images(paths: Sequence[str], config: ConvertConfig) -> dict[str, str]:
    """Path to what is wrong, of those images that cannot be used."""

    def problem(path: str) -> str:
        try:
            images.prepare_image(files.read_bytes(path), config.image)
        except images.ImageRejectedError as err:
            return str(err)
        except OSError as err:
            return f"unreadable: {err.strerror or err}"
        return ""

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return {path: what for path, what in zip(paths, pool.map(problem, paths), strict=True) if what}


def _free(path: str) -> int:
    """Free bytes of the disk that a path, which need not be there yet, lies on."""
    while not os.path.exists(path):
        path = os.path.dirname(os.path.abspath(path))
    return shutil.disk_usage(path).free


def _check(checked: Preflight, config: ConvertConfig) -> None:
    """Raises where the long work could only fail."""
    if checked.num_opened and len(checked.bad_images) == checked.num_opened:
        path, what = next(iter(checked.bad_images.items()))
        raise ConversionError(
            f"None of the {checked.num_opened} images that were tried can be used; the first is {path}: {what}. Are "
            f"these the right images? They are looked for in {config.image_dir} (--images)."
        )
    if checked.bytes_needed and checked.bytes_free is not None and checked.bytes_free < checked.bytes_needed:
        raise ConversionError(
            f"About {_mib(checked.bytes_needed)} are needed, and the disk of {config.dataset_dir} has "
            f"{_mib(checked.bytes_free)} left. Make room, write somewhere else, or store smaller images "
            "(--image_size=512)."
        )


def text(checked: Preflight) -> str:
    """What was found, in plain words."""
    rows = f"{checked.rows_read:,}" if checked.is_whole else f"the first {checked.rows_read:,} were looked at"
    lines = [("rows", f"{rows}; {checked.num_usable:,} of them have an image and labels to learn from")]
    lines += [("", line) for line in _reject_lines(checked)]
    kind = "any number an image" if checked.multi_label else "exactly one an image"
    counts = [f"{name} ({count:,})" for name, count in checked.label_counts.items()]
    lines.append(("labels", f"{len(counts)}, {kind}: {_some(counts)}"))
    if few := [name for name, count in checked.label_counts.items() if count < RARE]:
        lines.append(("", f"on fewer than {RARE} images, which is hardly enough to learn: {_some(few)}"))
    lines.append(("splits", ", ".join(f"{name} {size:,}" for name, size in checked.splits.items())))
    bad = [f"{path} ({what})" for path, what in checked.bad_images.items()]
    sound = f"{len(bad)} of them cannot be used: {_some(bad, 3)}" if bad else "all sound"
    lines.append(("images", f"{checked.num_opened} opened, {sound}"))
    if checked.bytes_needed and checked.bytes_free is not None:
        lines.append(("disk", f"about {_mib(checked.bytes_needed)} needed, {_mib(checked.bytes_free)} free"))
    lines += [("note", warning) for warning in checked.warnings]
    return "\n".join(f"  {title:<8}{line}" for title, line in lines)


def _reject_lines(checked: Preflight) -> Iterator[str]:
    by_reason = sorted(checked.rejects, key=lambda reject: reject.reason)
    for reason, group in itertools.groupby(by_reason, key=lambda reject: reject.reason):
        first, *others = sorted(group)
        yield f"{len(others) + 1:,} {_REASONS.get(reason, reason)}, such as {first.source}: {first.detail}"


def _some(items: Sequence[str], limit: int = 8) -> str:
    return ", ".join(items[:limit]) + (f", ... ({len(items)} in all)" if len(items) > limit else "")


def _mib(size: int) -> str:
    return f"{size / _MIB:,.0f} MiB"
