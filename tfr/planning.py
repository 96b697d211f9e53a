"""The plan of a conversion: rows to vocabulary, splits, and one manifest per shard."""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence

from tfr import annotations as annotations_lib
from tfr import features, files, manifests, progress, row_store, vocabulary
from tfr.config import ConvertConfig
from tfr.errors import AnnotationError, ConversionError, UsageError
from tfr.manifests import ShardPlan as ShardPlan  # what planning gives is named by it


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
    label_map = vocabulary.read_label_map(config.label_map) if config.label_map else vocabulary.LabelMap()
    with row_store.RowStore(f"tfr:{config.split_seed}", label_map) as store:
        rows_read = store.add_annotations(progress.count(_read(config), "reading annotations", "rows"))
        duplicate_ids = _resolve_duplicates(store, config.on_duplicate)
        listed, without_row, similar = _find_images(store, config, listing)
        schema, dropped, label_warnings = _choose_labels(store, config)
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
            warnings=[*store.notes, *similar, *label_warnings],
        )


def _read(config: ConvertConfig) -> Iterator[annotations_lib.Event]:
    options = dataclasses.replace(config.read, images=config.image_dir)
    return annotations_lib.read(config.annotations, config.format, options)


def _resolve_duplicates(store: row_store.RowStore, on_duplicate: str) -> int:
    """Leaves one row an id; the others are listed as rejected, with the row that stands for them."""
    num_ids = store.find_duplicates()
    for group in store.duplicate_groups():
        first, *others = group
        if on_duplicate == "error":
            equal = all(set(other.labels) == set(first.labels) for other in others)
            raise AnnotationError(
                f"{others[0].source}: the id stands on row {first.source.row} already, with "
                f"{'the same' if equal else 'other'} labels ({num_ids} such ids in all). Mend the file, or say "
                "--on_duplicate=merge (union of the labels) or --on_duplicate=first."
            )
        if on_duplicate == "merge":
            store.replace_labels(first.seq, *_merged(group))
        verb = "merged into" if on_duplicate == "merge" else "left out in favour of"
        store.reject_rows([(other.seq, "duplicate_id", f"{verb} row {first.source.row}") for other in others])
    return num_ids


def _merged(group: list[row_store.LabelsOfRow]) -> tuple[list[str], list[str], list[str] | None]:
    """Labels, unknown and absent ones of several rows: present wins over unknown, and unknown over absent."""
    labels = dict.fromkeys(label for row in group for label in row.labels)
    unknown = dict.fromkeys(name for row in group for name in row.unknown if name not in labels)
    absent = [row.absent for row in group if row.absent is not None]
    if len(absent) < len(group):  # one row knows of every label
        return list(labels), list(unknown), None
    all_absent = dict.fromkeys(name for names in absent for name in names if name not in labels and name not in unknown)
    return list(labels), list(unknown), list(all_absent)


def _find_images(
    store: row_store.RowStore, config: ConvertConfig, listing: Iterable[files.ListedFile] | None
) -> tuple[int | None, list[str], list[str]]:
    """Gives each row its image file; returns how many there are, those without a row, and warnings."""
    if not config.list_images:
        store.images.use_names()
        return None, [], []
    if not files.is_dir(config.image_dir):
        raise AnnotationError(f"No image folder at {config.image_dir}. Give the right one with --images.")
    listed = store.images.add(files.Listing(config.image_dir) if listing is None else listing)
    store.images.join()
    similar = store.images.join_similar()
    missing = list(store.images.rows_without())
    store.reject_rows((seq, *_why_no_image(image, stems)) for seq, image, stems in missing)
    without_row = list(store.images.without_row())
    if missing and not store.split_sizes():
        raise ConversionError(
            f"None of the rows has an image: row 1 wants {missing[0][1]!r}, and {config.image_dir} holds {listed} "
            f"images such as {without_row[:3]}. Check --images, --id_column, --image_column and --image_template."
        )
    alike = [f"images are found under names that differ by case, accents or slashes: {similar}, ..."] if similar else []
    return listed, without_row, alike


def _why_no_image(image: str, stems: list[str]) -> tuple[str, str]:
    if stems:
        return "ambiguous_image", f"{image!r} can be any of {stems}; say which with --image_template"
    return "no_image", f"no file {image!r} in the image folder"


def _choose_labels(
    store: row_store.RowStore, config: ConvertConfig
) -> tuple[features.RecordSchema, dict[str, int], list[str]]:
    """Vocabulary, label mode and schema; rows that do not fit them are rejected."""
    counts: collections.Counter[str] = collections.Counter(dict.fromkeys(store.declared_labels, 0))
    has_unknown = is_partial = False  # whether any label is not known; and whether that is so beside known ones
    per_row: collections.Counter[int] = collections.Counter()
    for num_rows, labels, unknown, absent in store.label_sets():
        counts.update(dict.fromkeys(labels, num_rows))
        counts.update(dict.fromkeys(absent or (), 0))
        has_unknown = has_unknown or bool(unknown) or absent is not None
        is_partial = is_partial or bool(unknown or absent or (labels and absent is not None))
        if labels or absent is None:  # a row that says nothing does not tell how many labels rows have
            per_row[len(labels)] += num_rows
    if not per_row:
        raise ConversionError(f"The annotations have no usable rows.{_first_reject(store)}")
    try:
        chosen = vocabulary.build_vocabulary(
            counts,
            labels_file=config.labels_file,
            labels=config.labels,
            min_count=config.min_label_count,
            exclude=config.exclude_labels,
        )
    except AnnotationError as err:
        raise AnnotationError(f"{err}{_first_reject(store)}") from err
    looks_single = set(per_row) == {1} and len(counts) > 1 and not is_partial
    single = config.label_mode == "single" or (config.label_mode == "auto" and looks_single)
    if single:
        store.reject_rows(list(_unfit_for_single(store, chosen)))
    if config.has_unknown is not None:
        _check_unknown(has_unknown, config.has_unknown)
        has_unknown = config.has_unknown
    schema = features.RecordSchema(
        chosen.names, not single, has_unknown and not single, config.read.keep_columns, config.image.keep_png
    )
    dropped = {name: count for name, count in sorted(counts.items()) if name not in chosen.ids}
    return schema, dropped, _label_warnings(counts, chosen)


def _check_unknown(found: bool, declared: bool) -> None:
    if found and not declared:
        raise AnnotationError(
            "Labels of some rows are unknown, but the dataset is declared to have no `labels_unknown`. Say "
            "has_unknown=True, or read empty cells as no label with empty_labels='none'."
        )


def _first_reject(store: row_store.RowStore) -> str:
    """A sentence on the rows that were rejected, for errors that they may explain; empty where there are none."""
    rejects = list(store.rejects())
    return (
        f" {len(rejects)} rows were rejected; the first, {rejects[0].source}: {rejects[0].detail}." if rejects else ""
    )


def _unfit_for_single(store: row_store.RowStore, chosen: vocabulary.Vocabulary) -> Iterable[tuple[int, str, str]]:
    for seq, labels, num_kept in store.rows_of_other_size(chosen, 1):
        reason = "several_labels" if num_kept else "no_label"
        yield seq, reason, f"label mode 'single' wants exactly one of the dataset's labels, got {labels}"


def _label_warnings(counts: collections.Counter[str], chosen: vocabulary.Vocabulary) -> list[str]:
    names = counts.keys() | set(chosen.names)
    found = [f"labels that look alike are kept apart: {group}" for group in vocabulary.look_alikes(names)]
    unused = sorted(name for name in names if not counts[name])
    if unused:
        found.append(f"labels on no image: {unused}")
    if vocabulary.are_bare_numbers(chosen.names):
        found.append(f"the labels are numbers without names ({_some(chosen.names)}): name them with --label_map")
    return found


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


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
    sizes = store.split_sizes()
    total = sum(num_rows for num_rows, _ in sizes.values())
    if not total:
        raise ConversionError(f"Every row was rejected; nothing is left to convert.{_first_reject(store)}")
    if bad := [name for name in sizes if not name.isidentifier()]:
        raise AnnotationError(
            f"Splits are called {bad} in the annotations; TFDS wants letters, digits and '_'. Rename them, give "
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
