"""The dataset directory: what a conversion publishes, and opening and describing any TFDS dataset directory."""

import collections
import csv
import dataclasses
import importlib.metadata
import io
import json
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import tensorflow_datasets as tfds
from etils import epath

from tfr import files, row_store, shards, tfds_metadata
from tfr.config import ConvertConfig
from tfr.errors import DatasetError
from tfr.shard_writer import ShardReport

if TYPE_CHECKING:
    from tfr import planning
    from tfr.conversion import ConversionResult

PLAN_DIR = ".plan"  # what an unfinished conversion keeps in its dataset directory
INFO_FILE = tfds_metadata.INFO_FILE
CONVERSION_FILE = "conversion.json"
REJECTED_FILE = "rejected.jsonl"
LABEL_COUNTS_FILE = "label_counts.csv"
WITHOUT_ROW_FILE = "images_without_row.txt"


def publish(
    config: ConvertConfig,
    plan: "planning.Plan",
    reports: list[ShardReport],
    rejects: list[row_store.Reject],
    result: "ConversionResult",
    content_hash: str,
) -> None:
    """Writes the files that make shards a dataset. A directory without dataset_info.json, the last, is not one."""
    folder = config.dataset_dir
    write_rejects(f"{folder}/{REJECTED_FILE}", rejects)
    files.write_text(f"{folder}/{LABEL_COUNTS_FILE}", _label_counts(plan.schema.names, reports))
    if plan.images_without_row:
        files.write_text(f"{folder}/{WITHOUT_ROW_FILE}", "".join(f"{path}\n" for path in plan.images_without_row))
    conversion = {
        "config": config.content(),
        "content_hash": content_hash,
        "versions": _versions(),
        "result": {key: value for key, value in dataclasses.asdict(result).items() if key != "dataset_dir"},
        "shards": [_shard_entry(report) for report in reports],
    }
    files.write_text(f"{folder}/{CONVERSION_FILE}", json.dumps(conversion, indent=1, ensure_ascii=False) + "\n")
    tfds_metadata.write(
        folder,
        f"{folder}/{PLAN_DIR}/metadata",
        tfds_metadata.Description(
            name=config.name,
            version=config.version,
            features=plan.schema.features,
            supervised_keys=plan.schema.supervised_keys,
            text=config.description or f"Made by tfr from {config.content()['annotations']}.",
            file_format=config.file_format,
            shards=[(report.split, report.num_records, report.num_bytes) for report in reports],
        ),
    )


def write_rejects(path: str, rejects: Iterable[row_store.Reject]) -> None:
    """Writes one JSON object a rejected row: file, row, id, reason, detail."""
    with files.atomic_write(path) as file:
        for source, id_, reason, detail in rejects:
            line = {"file": source.file, "row": source.row, "id": id_, "reason": reason, "detail": detail}
            file.write(json.dumps(line, ensure_ascii=False).encode("utf-8") + b"\n")


def _shard_entry(report: ShardReport) -> dict[str, Any]:
    return {
        "file": report.file,
        "records": report.num_records,
        "bytes": report.file_bytes,
        "record_bytes": report.num_bytes,
        "rows": report.rows,
        "checksum": report.checksum,
    }


def _label_counts(names: tuple[str, ...], reports: list[ShardReport]) -> str:
    """CSV: a row a label, a column a split."""
    splits = list(dict.fromkeys(report.split for report in reports))
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    for report in reports:
        for label_id, count in report.label_counts.items():
            counts[names[int(label_id)], report.split] += count
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(["label", *splits, "total"])
    for name in names:
        row = [counts[name, split] for split in splits]
        writer.writerow([name, *row, sum(row)])
    return output.getvalue()


def _versions() -> dict[str, str]:
    packages = ("tfr", "apache-beam", "tensorflow-datasets", "pillow", "simplejpeg", "numpy")
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # tfr itself, in a checkout that is not installed
            from tfr import __version__

            found[package] = __version__
    return found


# Opening


def open_builder(path: str) -> tfds.core.DatasetBuilder:
    """Opens a dataset directory, or one that holds exactly one version of one dataset.

    Raises:
      DatasetError: it is not one; says what is there and what would be.
    """
    if not files.is_dir(path):
        raise DatasetError(f"No dataset directory at {path}: there is no such folder.")
    found = path if files.exists(f"{path}/dataset_info.json") else only_dataset_below(path)
    if found is None:
        raise DatasetError(_not_a_dataset(path))
    try:
        return tfds.builder_from_directory(found)
    except Exception as err:  # TFDS raises many kinds on damaged metadata
        raise DatasetError(f"{found}: its metadata cannot be read: {type(err).__name__}: {err}") from err


def only_dataset_below(path: str) -> str | None:
    """The one dataset directory at most two levels (name, version) down; None where there is none.

    Raises:
      DatasetError: there are several; names them.
    """
    folder = epath.Path(path)
    found = [str(f.parent) for pattern in ("*", "*/*") for f in folder.glob(f"{pattern}/dataset_info.json")]
    if len(found) > 1:
        raise DatasetError(f"{path} holds several datasets: name one of {sorted(found)}.")
    return found[0] if found else None


def _not_a_dataset(path: str) -> str:
    """The error for a folder that holds no dataset."""
    folder = epath.Path(path)
    unfinished = [str(f.parent) for pattern in ("", "*/", "*/*/") for f in folder.glob(f"{pattern}.plan")]
    hint = f" An unfinished conversion is in {unfinished[0]}: run its command again." if unfinished else ""
    return (
        f"{path} is not a dataset directory: it has no dataset_info.json (<data_dir>/<name>/<version>/ has one).{hint}"
    )


def identity(builder: tfds.core.DatasetBuilder) -> list[str]:
    """What tells the examples of a dataset from others, wherever it lies; if tfr did not make it, the place is part."""
    folder = os.fspath(builder.data_path)
    return [
        builder.info.full_name,
        read_conversion(folder).get("content_hash", folder),
        str([(name, info.num_examples, info.num_bytes) for name, info in builder.info.splits.items()]),
    ]


def read_conversion(path: str) -> dict[str, Any]:
    """The conversion manifest of a dataset directory; empty where the dataset was made by something else."""
    file = f"{path}/{CONVERSION_FILE}"
    if not files.exists(file):
        return {}
    try:
        with files.open_text(file) as opened:
            return json.load(opened)
    except ValueError as err:
        raise DatasetError(f"{file}: cannot be read as JSON: {err}. Convert again with --overwrite.") from err


def label_key(builder: tfds.core.DatasetBuilder) -> str:
    """The feature that holds the labels: 'labels' (multi-label) or 'label' (single-label).

    Raises:
      DatasetError: there is no such feature, or it is no ClassLabel.
    """
    features = builder.info.features
    for key in ("labels", "label"):
        if key in features and hasattr(_class_label(features[key]), "names"):
            return key
    raise DatasetError(
        f"{builder.info.full_name} has no feature 'labels' or 'label' of class labels. Its features: {list(features)}."
    )


def check_images(builder: tfds.core.DatasetBuilder) -> None:
    """Raises DatasetError where examples hold no images, as in what `tfr embed` makes."""
    features = builder.info.features
    if "image" not in features or not isinstance(features["image"], tfds.features.Image):
        raise DatasetError(
            f"{builder.info.full_name} has no images in a feature 'image'. Its features: {[*features]}. Name a dataset "
            "that has them: --dataset."
        )


def _class_label(feature: Any) -> Any:
    return getattr(feature, "feature", feature)


def label_names(builder: tfds.core.DatasetBuilder) -> list[str]:
    """The label names of a dataset in the order of their ids."""
    return list(_class_label(builder.info.features[label_key(builder)]).names)


def read_split(builder: tfds.core.DatasetBuilder, split: str) -> Iterator[dict[str, Any]]:
    """Yields the examples of a split in stored order, the image as its encoded bytes; all file formats of tfr's.

    Needs no TensorFlow. Raises DatasetError where the split is not there or a shard is damaged.
    """
    if split not in builder.info.splits:
        raise DatasetError(f"{builder.info.full_name} has no split {split!r}. It has {list(builder.info.splits)}.")
    for path in builder.info.splits[split].filepaths:
        for record in shards.read_records(os.fspath(path)):
            yield builder.info.features.deserialize_example_np(record, decoders=_SKIP_IMAGE)


_SKIP_IMAGE = {"image": tfds.decode.SkipDecoding()}


# Describing


def describe(builder: tfds.core.DatasetBuilder) -> dict[str, Any]:
    """What a dataset directory holds, as JSON values."""
    info, folder = builder.info, os.fspath(builder.data_path)
    return {
        "name": info.name,
        "version": str(info.version),
        "dataset_dir": folder,
        "description": info.description or "",
        "features": {name: type(feature).__name__ for name, feature in info.features.items()},
        "label_mode": "multi" if label_key(builder) == "labels" else "single",
        "labels": label_names(builder),
        "label_counts": read_label_counts(folder),
        "splits": {
            name: {
                "examples": split.num_examples,
                "bytes": split.num_bytes,
                "shards": split.num_shards,
                "first_shard": os.path.basename(split.filepaths[0]),
            }
            for name, split in info.splits.items()
        },
        "conversion": read_conversion(folder).get("result", {}),
    }


def read_label_counts(folder: str) -> dict[str, dict[str, int]]:
    """Label to split to count; empty where the dataset was made by something else."""
    path = f"{folder}/{LABEL_COUNTS_FILE}"
    if not files.exists(path):
        return {}
    with files.open_text(path) as file:
        rows = [dict(row) for row in csv.DictReader(file)]
    return {row.pop("label"): {split: int(count) for split, count in row.items()} for row in rows}


def description_text(description: dict[str, Any]) -> str:
    """A description in plain words."""
    lines = [
        f"{description['name']} {description['version']}: {description['dataset_dir']}",
        f"features: {', '.join(f'{name} ({kind})' for name, kind in description['features'].items())}",
        "",
        f"{'split':<14}{'examples':>10}{'shards':>8}{'MiB':>10}",
    ]
    for name, split in description["splits"].items():
        mib = split["bytes"] / (1 << 20)
        lines.append(f"{name:<14}{split['examples']:>10}{split['shards']:>8}{mib:>10.1f}   {split['first_shard']}")
    counts, names = description["label_counts"], description["labels"]
    lines += ["", f"{len(names)} labels, {description['label_mode']}-label:"]
    if not counts:
        return "\n".join([*lines, "  " + ", ".join(names)])
    columns = list(next(iter(counts.values())))
    width = max([len(name) for name in names] + [5]) + 2
    lines.append("  " + "label".ljust(width) + "".join(f"{column:>12}" for column in columns))
    for name in sorted(counts, key=lambda name: -counts[name]["total"]):
        lines.append("  " + name.ljust(width) + "".join(f"{counts[name][column]:>12}" for column in columns))
    return "\n".join(lines)
