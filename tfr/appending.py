"""Appending: a finished version of a dataset and new annotations make the next version."""

import dataclasses
import functools
import os
from collections.abc import Iterator
from typing import Any

from tfr import dataset_dir, files, vocabulary
from tfr.annotations import Annotation, Event, ReadOptions
from tfr.annotations.tfds_reader import read_tfds
from tfr.config import ConvertConfig
from tfr.errors import DatasetError, UsageError

# What the records of both versions have in common, or they could not stand side by side.
_SHARED = ("image", "split_ratios", "split_seed")


def resolve(config: ConvertConfig) -> ConvertConfig:
    """The config with what the version that it appends to has decided: label mode, `labels_unknown`, kept columns.

    Raises:
      DatasetError: there is no such version, or tfr did not make it.
      UsageError: the config wants something else of old and new records.
    """
    if not config.append_to:
        return config
    _open.cache_clear()  # of the state before this conversion
    folder = config.append_to_dir
    conversion = dataset_dir.read_conversion(folder)
    if not conversion or not files.exists(f"{folder}/{dataset_dir.INFO_FILE}"):
        raise DatasetError(f"--append_to={config.append_to}: there is no finished dataset of tfr's in {folder}.")
    _check_shared(config, conversion["config"])
    _check_labels(config)
    _check_groups(config, conversion["config"])
    builder = _open(folder)
    label_mode = "multi" if dataset_dir.label_key(builder) == "labels" else "single"
    if config.label_mode not in ("auto", label_mode):
        raise UsageError(f"--label_mode={config.label_mode}: version {config.append_to} is {label_mode}-label.")
    has_unknown = True if "labels_unknown" in builder.info.features else config.has_unknown
    return dataclasses.replace(config, label_mode=label_mode, has_unknown=has_unknown)


@functools.lru_cache(maxsize=1)
def _open(folder: str) -> Any:
    return dataset_dir.open_builder(folder)


def folder(config: ConvertConfig) -> str:
    """The dataset directory that is appended to, as TFDS writes it in the paths of its shards; '' for none."""
    return os.fspath(_open(config.append_to_dir).data_path) if config.append_to else ""


def _check_shared(config: ConvertConfig, before: dict[str, Any]) -> None:
    old, now = dict(before), config.content()
    old["keep_columns"], now["keep_columns"] = old["read"]["keep_columns"], now["read"]["keep_columns"]
    changed = [f"{key}: {old.get(key)} -> {now[key]}" for key in (*_SHARED, "keep_columns") if old.get(key) != now[key]]
    if changed:
        raise UsageError(
            f"--append_to={config.append_to}: that version was made with other settings ({'; '.join(changed)}). Use "
            "the same, or convert everything anew."
        )


def _check_groups(config: ConvertConfig, before: dict[str, Any]) -> None:
    """Raises where new rows of a group could end in another split than old records of it.

    They follow old records that carry the group as a column. They need not where both versions split groups by hash.
    """
    column = config.read.group_column
    if column is None or column in config.read.keep_columns:
        return
    if not all(_hashes_groups(made, column) for made in (before, config.content())):
        raise UsageError(
            f"--append_to={config.append_to}: old records do not say which groups of --group_column={column} they are "
            "in, and new rows of a group could end in another split. Leave --group_column out, or convert everything "
            f"anew, with --keep_columns={column} if more is to be appended."
        )


def _hashes_groups(made: dict[str, Any], column: str) -> bool:
    """Whether a conversion splits by the hash of a row's group, and by nothing else."""
    read = made["read"]
    names_splits = (read["split_column"] or read["split_from_folder"]) and not read["ignore_splits"]
    regroups = made["stratify"] or made["group_near_duplicates"] is not None
    return read["group_column"] == column and not names_splits and not regroups


def _check_labels(config: ConvertConfig) -> None:
    """Old labels keep their names, ids and records."""
    names = label_names(config)
    excluded = sorted({vocabulary.normalize_label(name) for name in config.exclude_labels} & set(names))
    label_map = vocabulary.read_label_map(config.label_map) if config.label_map else vocabulary.LabelMap()
    renamed = {name: label_map(name) for name in names if label_map(name) != name}
    if excluded or renamed:
        raise UsageError(
            f"--append_to={config.append_to}: the labels of that version stay. --exclude_labels names {excluded}, "
            f"--label_map renames {renamed}."
        )


def label_names(config: ConvertConfig) -> tuple[str, ...]:
    """The labels of the version that is appended to, which keep their ids; none where nothing is appended to."""
    return tuple(dataset_dir.label_names(_open(config.append_to_dir))) if config.append_to else ()


def read_rows(config: ConvertConfig) -> Iterator[Event]:
    """The records of the version that is appended to as rows; nothing where nothing is appended to.

    A record that knows of every label lacks the new ones; one that does not know some does not know the new ones
    either.
    """
    if not config.append_to:
        return
    names, kept = label_names(config), config.read.keep_columns
    group = config.read.group_column if config.read.group_column in kept else None
    options = ReadOptions(id_column="id", keep_columns=kept, group_column=group)
    for event in read_tfds(config.append_to_dir, options):
        if isinstance(event, Annotation) and event.unknown:
            known = set(names).difference(event.labels, event.unknown)
            event = dataclasses.replace(event, absent=tuple(name for name in names if name in known))
        yield event
