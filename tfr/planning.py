"""The plan of a conversion: rows to vocabulary, splits, and one manifest per shard."""

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tfr import annotations as annotations_lib
from tfr import (
    appending,
    corrections,
    duplicate_groups,
    features,
    files,
    label_choice,
    manifests,
    progress,
    row_store,
    splits,
    vocabulary,
)
from tfr.config import ConvertConfig
from tfr.errors import AnnotationError, ConversionError, UsageError
from tfr.manifests import ShardPlan as ShardPlan  # what planning gives is named by it

DUPLICATE_DETAILS = {"merge": "merged into", "first": "left out in favour of"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What to write, and what the planning found.

    Attributes:
      schema: the record schema.
      shards: every shard of every split.
      rejects: rows that become no example, found before any image was read.
      rows_read: rows of the annotations.
      images_listed: image files in the image folder; None where it was not listed.
      images_without_row: image files that no row names.
      duplicate_ids: ids that stand on more than one row.
      dropped_labels: labels left out of the vocabulary, with their counts.
      corrections: what became of `--corrections`, see corrections.Applied.to_json.
      warnings: what a person should know, one sentence each.
    """

    schema: features.RecordSchema
    shards: list[ShardPlan]
    rejects: list[row_store.Reject]
    rows_read: int
    images_listed: int | None
    images_without_row: list[str]
    duplicate_ids: int
    dropped_labels: dict[str, int]
    corrections: dict[str, Any]
    warnings: list[str]


def make_plan(config: ConvertConfig, plan_dir: str, listing: Iterable[files.ListedFile] | None = None) -> Plan:
    """Reads the annotations, lists the images, and writes the manifests to `plan_dir`.

    Args:
      config: the conversion.
      plan_dir: the folder for the manifests.
      listing: the files of the image folder, where it was listed before.

    Raises:
      AnnotationError: the annotations cannot be used; the message says where and why.
      ConversionError: nothing is left to convert.
    """
    asked_for = read_corrections(config)
    with row_store.RowStore(config.salt, read_label_map(config)) as store:
        rows_read = store.add_annotations(progress.count(_read(config), "reading annotations", "rows"))
        duplicate_ids = _resolve_duplicates(store, config.on_duplicate)
        applied = _correct(store, asked_for)
        listed, without_row, similar = _find_images(store, config, listing)
        schema, dropped, label_warnings = _choose_labels(store, config, applied)
        alike = duplicate_groups.group_rows(store, config, plan_dir)
        _assign_splits(store, config, schema)
        store.limit_splits(config.max_examples_per_split)
        shard_plans = list(_write_manifests(store, schema, config, plan_dir))
        return Plan(
            schema=schema,
            shards=shard_plans,
            rejects=list(store.rejects()),
            rows_read=rows_read,
            images_listed=listed,
            images_without_row=without_row,
            duplicate_ids=duplicate_ids,
            dropped_labels=dropped,
            corrections=applied.to_json(),
            warnings=[*store.notes, *similar, *label_warnings, *alike],
        )


def _read(config: ConvertConfig) -> Iterator[annotations_lib.Event]:
    new = annotations_lib.read(config.annotations, config.format, read_options(config))
    return itertools.chain(appending.read_rows(config), new)


def read_options(config: ConvertConfig) -> annotations_lib.ReadOptions:
    """How the annotations of a conversion are read."""
    return dataclasses.replace(config.read, images=config.image_dir)


def read_label_map(config: ConvertConfig) -> vocabulary.LabelMap:
    """How a conversion renames labels."""
    return vocabulary.read_label_map(config.label_map) if config.label_map else vocabulary.LabelMap()


def read_corrections(config: ConvertConfig) -> corrections.Corrections:
    """What a conversion corrects."""
    return corrections.read(config.corrections) if config.corrections else corrections.Corrections()


def check_image_dir(config: ConvertConfig) -> None:
    """Raises AnnotationError where the folder to list is not there."""
    if config.list_images and not files.is_dir(config.image_dir):
        raise AnnotationError(f"No image folder at {config.image_dir}. Give the right one with --images.")


def _resolve_duplicates(store: row_store.RowStore, on_duplicate: str) -> int:
    """Leaves one row an id; the others are listed as rejected, with the row that stands for them."""
    num_ids = store.find_duplicates()
    for group in store.duplicate_groups():
        first, *others = group
        if on_duplicate == "error":
            equal = all(set(other.labels) == set(first.labels) for other in others)
            raise AnnotationError(duplicate_message(others[0].source, first.source, equal, num_ids))
        if on_duplicate == "merge":
            store.replace_labels(first.seq, *merge_labels(group))
        detail = DUPLICATE_DETAILS[on_duplicate]
        rejects = [(other.seq, "duplicate_id", f"{detail} {_where(first.source, other.source)}") for other in others]
        store.reject_rows(rejects)
    return num_ids


def duplicate_message(
    source: annotations_lib.Source, first: annotations_lib.Source, have_same_labels: bool, num_ids: int
) -> str:
    """The error for an id that stands on two rows, where that is one."""
    same = "the same" if have_same_labels else "other"
    return (
        f"{source}: the id stands on {_where(first, source)} already, with {same} labels ({num_ids} such ids in all). "
        "Mend the file, or say --on_duplicate=merge (union of the labels) or --on_duplicate=first."
    )


def _where(source: annotations_lib.Source, other: annotations_lib.Source) -> str:
    """Where a row stands, as seen from another one."""
    return f"row {source.row}" if source.file == other.file else str(source)


def merge_labels(rows: Sequence[Any]) -> tuple[list[str], list[str], list[str] | None]:
    """Labels, unknown and absent ones of several rows: present wins over unknown, and unknown over absent."""
    labels = dict.fromkeys(label for row in rows for label in row.labels)
    unknown = dict.fromkeys(name for row in rows for name in row.unknown if name not in labels)
    absent = [row.absent for row in rows if row.absent is not None]
    if len(absent) < len(rows):  # one row knows of every label
        return list(labels), list(unknown), None
    all_absent = dict.fromkeys(name for names in absent for name in names if name not in labels and name not in unknown)
    return list(labels), list(unknown), list(all_absent)


def _correct(store: row_store.RowStore, asked_for: corrections.Corrections) -> corrections.Applied:
    """Applies corrections to the rows, which have different ids by now."""
    applied = corrections.Applied(asked_for)
    for id_, row in store.rows_of_ids(asked_for.by_id):
        corrected, effect = asked_for.apply(id_, row.labels, row.unknown, row.absent)
        if effect.changed:
            store.replace_labels(row.seq, *corrected)
        applied.add(effect)
    applied.check_ids()
    return applied


def _find_images(
    store: row_store.RowStore, config: ConvertConfig, listing: Iterable[files.ListedFile] | None
) -> tuple[int | None, list[str], list[str]]:
    """Gives each row its image file; returns how many there are, those without a row, and warnings."""
    if not config.list_images:
        store.images.use_names()
        return None, [], []
    check_image_dir(config)
    listed = store.images.add(files.Listing(config.image_dir) if listing is None else listing)
    store.images.join()
    similar = store.images.join_similar()
    missing = list(store.images.rows_without())
    store.reject_rows((seq, *why_no_image(image, stems)) for seq, image, stems in missing)
    without_row = list(store.images.without_row())
    if missing and not store.split_sizes():
        raise ConversionError(no_image_message(missing[0][1], config.image_dir, listed, without_row))
    return listed, without_row, [similar_message(similar)] if similar else []


def no_image_message(image: str, image_dir: str, listed: int, without_row: list[str]) -> str:
    """The error for rows none of which has an image."""
    held = f"{listed} images such as {without_row[:3]}" if listed else "no images"
    below = _folder_with(image, without_row)
    advice = (
        f"Did you mean --images={files.join(image_dir, below)}?"
        if below
        else "Check --images, --id_column, --image_column and --image_template."
    )
    return f"None of the rows has an image: row 1 wants {image!r}, and {image_dir} holds {held}. {advice}"


def _folder_with(image: str, paths: Iterable[str]) -> str:
    """The folder among these paths that an image, named with or without its extension, lies in; '' where none does."""
    for path in paths:
        for name in (path, os.path.splitext(path)[0]):
            if name.endswith(f"/{image}"):
                folder = name.removesuffix(f"/{image}")
                is_split = splits.normalize_split(os.path.basename(folder)) in splits.DEFAULT_RATIOS.shares
                return os.path.dirname(folder) if is_split else folder
    return ""


def similar_message(similar: list[tuple[str, str]]) -> str:
    """What is to be said of images that were found under other names; see `ImageJoin.join_similar`."""
    return f"images are found under names that differ by case, accents or slashes: {similar}, ..."


def why_no_image(image: str, stems: list[str]) -> tuple[str, str]:
    """Reason and detail for a row whose image was not found; `stems` are the files that have it as their stem."""
    if stems:
        return "ambiguous_image", f"{image!r} can be any of {stems}; say which with --image_template"
    return "no_image", f"no file {image!r} in the image folder"


def _choose_labels(
    store: row_store.RowStore, config: ConvertConfig, applied: corrections.Applied
) -> tuple[features.RecordSchema, dict[str, int], list[str]]:
    """Vocabulary, label mode and schema; rows that do not fit them are rejected."""
    found = label_choice.LabelsFound(store.declared_labels)
    for label_set in store.label_sets():
        found.add(*label_set)
    label_choice.check_corrections(applied, found, config)
    schema, dropped, warnings = label_choice.choose_labels(found, config, functools.partial(_first_reject, store))
    if not schema.multi_label:
        unfit = store.rows_of_other_size(vocabulary.Vocabulary(schema.names), 1)
        store.reject_rows([(seq, *label_choice.why_unfit(labels, num_chosen)) for seq, labels, num_chosen in unfit])
    return schema, dropped, warnings


def _first_reject(store: row_store.RowStore) -> str:
    return label_choice.first_reject(list(store.rejects()))


def _assign_splits(store: row_store.RowStore, config: ConvertConfig, schema: features.RecordSchema) -> None:
    """Gives every row its split: its own, or one by hash or stratification.

    Raises:
      AnnotationError: a split's name cannot be one, or the source tears a group apart.
      ConversionError: there is no row.
      UsageError: a split that was asked for gets no row.
    """
    store.take_own_splits()
    if config.stratify:
        num_chosen = store.stratify_splits(config.split_ratios, vocabulary.Vocabulary(schema.names))
    else:
        num_chosen = store.hash_splits(config.split_ratios)
    sizes = {name: num_rows for name, (num_rows, _) in store.split_sizes().items()}
    check_splits(sizes, num_chosen, config, functools.partial(_first_reject, store))


def check_splits(
    sizes: Mapping[str, int], num_chosen: int, config: ConvertConfig, first_reject: Callable[[], str]
) -> None:
    """Raises where splits cannot be as they came out; see `_assign_splits`.

    Args:
      sizes: split name to rows.
      num_chosen: rows whose source names no split.
      config: the conversion.
      first_reject: gives a sentence on what was rejected, for messages.
    """
    total = sum(sizes.values())
    if not total:
        raise ConversionError(f"Every row was rejected; nothing is left to convert.{first_reject()}")
    if bad := [name for name in sizes if not splits.can_be_name(name)]:
        raise AnnotationError(
            f"Splits are called {bad} in the annotations; TFDS wants letters, digits and '_', and none of "
            f"{', '.join(splits.TAKEN_NAMES)}, which mean something else. Rename them, give "
            "another --split_column, or forget them with --ignore_splits."
        )
    empty = {name: share for name, share in config.split_ratios.shares.items() if name not in sizes}
    if empty and num_chosen == total:
        shares = ", ".join(f"{name}={share:.4g}" for name, share in empty.items())
        raise UsageError(
            f"--splits: {shares} of {total} rows came to none: give a larger share, e.g. "
            "--splits=train=0.6,validation=0.2,test=0.2, or leave it out."
        )


def _write_manifests(
    store: row_store.RowStore, schema: features.RecordSchema, config: ConvertConfig, plan_dir: str
) -> Iterator[ShardPlan]:
    """Writes the manifests: the rows of a split in hash order, each shard a range of hashes."""
    chosen = vocabulary.Vocabulary(schema.names)
    store.encode_labels(functools.partial(manifests.label_fields, chosen))
    settings, line = manifests.settings_digest(schema, config), manifests.liner(config.image_dir)
    for split, (num_rows, num_bytes) in store.split_sizes().items():
        num_shards = manifests.choose_num_shards(num_rows, num_bytes, config)
        for index, rows in _by_shard(store.in_hash_order(split), num_shards):
            lines = (line(*values) for _, *values in rows)
            yield manifests.write_manifest(lines, config, plan_dir, settings, split, index, num_shards)


def _by_shard(rows: Iterator[tuple], num_shards: int) -> Iterator[tuple[int, Iterable[tuple]]]:
    """Rows in hash order, shard by shard; a shard may have none."""
    groups = itertools.groupby(rows, key=lambda row: manifests.shard_index(row[0], num_shards))
    found = next(groups, None)
    for index in range(num_shards):
        if found is None or found[0] != index:
            yield index, ()
        else:
            yield found
            found = next(groups, None)
