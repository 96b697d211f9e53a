"""A dataset directory back to an annotation file and image files, which `tfr convert` turns into the same records."""

import csv
import dataclasses
import io
import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

import tensorflow_datasets as tfds

from tfr import annotations, dataset_dir, export_names, features, files, images, progress, record_layout
from tfr.annotations import Annotation, RejectedRow
from tfr.config import ConvertConfig
from tfr.errors import DatasetError, UsageError

FORMATS = ("csv", "jsonl")
LABEL_ENCODINGS = ("auto", "list", "one_hot", "text")
LABELS_FILE = "labels.txt"
_FIXED = ("id", "image", "split")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What to export and how.

    Attributes:
      dataset: a dataset directory, or a folder with only one below.
      output: the folder to make; it must not hold anything.
      format: 'csv' or 'jsonl'.
      images: whether to write the images too, to `<output>/images`; the id is the image's name otherwise.
      label_encoding: 'one_hot' (a 0/1 column for each label, empty where it is not known), 'list' (a list literal), or
        'text' (names around a delimiter); 'auto': one-hot where labels can be unknown, text where images have one
        label, else lists.
      label_delimiter: what stands between labels that are text.
    """

    dataset: str
    output: str
    format: str = "csv"
    images: bool = True
    label_encoding: str = "auto"
    label_delimiter: str = "|"

    def __post_init__(self) -> None:
        """Checks the values before anything is read."""
        for name, allowed in (("format", FORMATS), ("label_encoding", LABEL_ENCODINGS)):
            if getattr(self, name) not in allowed:
                raise UsageError(f"--{name} must be one of {', '.join(allowed)}. Received: {getattr(self, name)}")
        if not self.label_delimiter.strip():
            raise UsageError("--label_delimiter must be more than blanks.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What was exported.

    Attributes:
      annotations: the annotation file.
      num_records, num_images: rows in it, and image files beside it.
      num_without_id: records without an id, which were left out.
      features_left_out: features that the file cannot express.
      convert_command: what makes a dataset of it again.
    """

    annotations: str
    num_records: int
    num_images: int
    num_without_id: int
    features_left_out: list[str]
    convert_command: str


def export(config: ExportConfig) -> ExportResult:
    """Exports a dataset directory. The annotation file appears last: a folder without it is no whole export.

    Raises:
      DatasetError: the output folder is not empty, no dataset directory, or a shard is damaged.
      UsageError: the labels cannot be expressed as asked.
    """
    builder = dataset_dir.open_builder(config.dataset)
    table = _Table(config, builder)
    if files.is_dir(config.output) and next(files.list_files(config.output), None) is not None:
        raise DatasetError(
            f"{config.output} is not empty, and an export overwrites nothing. Give another --output, or remove it (it "
            f"is no whole export unless there is an annotations.csv or .jsonl in it)."
        )
    files.make_dirs(config.output)
    try:
        counts = _write(config, builder, table)
    except BaseException:
        files.remove_tree(config.output)
        raise
    return ExportResult(
        annotations=f"{config.output}/annotations.{config.format}",
        **counts,
        features_left_out=table.features_left_out,
        convert_command=_convert_command(config, builder, table),
    )


class _Table:
    """The columns of the annotation file, and how a row fills them."""

    def __init__(self, config: ExportConfig, builder: tfds.core.DatasetBuilder):
        layout = record_layout.layout_of(builder)
        self.is_single = layout.label is not None and not layout.is_multi_label
        self.label_names = dataset_dir.label_names(builder)
        self._delimiter = config.label_delimiter
        self._is_json = config.format == "jsonl"
        self.encoding = self._encoding(config.label_encoding, layout)
        single = [name for name, kind in layout.kinds.items() if kind.is_single]
        self.kept = sorted(name for name in single if name not in (*features.RESERVED, layout.image, layout.label))
        known = {*self.kept, *features.RESERVED, layout.image, layout.label}
        self.features_left_out = sorted(name for name in builder.info.features if name not in known)
        self.fixed = self._fixed_names([name for name in _FIXED if name != "image" or config.images])
        self.labels = self.label_names if self.encoding == "one_hot" else [self._free("labels", self.kept)]
        if clash := sorted(set(self.labels) & set(self.kept)):
            raise UsageError(f"{clash} are labels and features too: give --label_encoding=list.")

    def _encoding(self, chosen: str, layout: record_layout.RecordLayout) -> str:
        if chosen == "auto":
            return "one_hot" if layout.has_unknown else "text" if self.is_single else "list"
        if layout.has_unknown and chosen != "one_hot":
            raise UsageError(
                f"Some labels of some images are not known, which --label_encoding={chosen} cannot say. Use one_hot."
            )
        bad = [name for name in self.label_names if self._delimiter.strip() in name]  # what readers part them at
        if chosen == "text" and bad and not self.is_single:
            raise UsageError(
                f"Labels {bad[:5]} have the delimiter {self._delimiter!r} in them. Give another --label_delimiter, or "
                "--label_encoding=list."
            )
        return chosen

    def _fixed_names(self, names: Sequence[str]) -> dict[str, str]:
        taken = [*self.kept, *(self.label_names if self.encoding == "one_hot" else ())]
        return {name: self._free(name, taken) for name in names}

    @staticmethod
    def _free(name: str, taken: Sequence[str]) -> str:
        while name in taken:
            name = f"{name}_"
        return name

    @property
    def columns(self) -> list[str]:
        """All columns in order."""
        return [*self.fixed.values(), *self.kept, *self.labels]

    def row(self, annotation: Annotation, image: str | None) -> list[Any]:
        """The values of the columns."""
        fixed = {"id": annotation.id, "image": image, "split": annotation.split}
        kept = [annotation.columns[name] for name in self.kept]
        return [*(fixed[name] for name in self.fixed), *kept, *self._label_values(annotation)]

    def _label_values(self, annotation: Annotation) -> list[Any]:
        if self.encoding == "one_hot":
            present, unknown = set(annotation.labels), set(annotation.unknown)
            nothing = None if self._is_json else ""
            return [1 if name in present else nothing if name in unknown else 0 for name in self.label_names]
        if self.encoding == "text":
            return [self._delimiter.join(annotation.labels)]
        return [list(annotation.labels) if self._is_json else json.dumps(annotation.labels, ensure_ascii=False)]


def _write(config: ExportConfig, builder: tfds.core.DatasetBuilder, table: _Table) -> dict[str, int]:
    options = annotations.ReadOptions(keep_columns=tuple(table.kept))
    events = annotations.read(os.fspath(builder.data_path), "tfds", options)
    total = sum(split.num_examples for split in builder.info.splits.values())
    records = num_images = without_id = 0
    files.write_text(f"{config.output}/{LABELS_FILE}", "".join(f"{name}\n" for name in table.label_names))
    with (
        progress.bar(total, "exporting", "records") as bar,
        files.atomic_write(f"{config.output}/annotations.{config.format}") as file,
    ):
        write = _row_writer(file, config.format, table.columns)
        for event in events:
            without_id += isinstance(event, RejectedRow)
            if not isinstance(event, Annotation):
                continue
            image = None
            if config.images:
                image = export_names.write_image(f"{config.output}/images", event.id, files.read_bytes(event.image))
                num_images += 1
            write(table.row(event, image))
            records += 1
            bar.update()
    return {"num_records": records, "num_images": num_images, "num_without_id": without_id}


def _row_writer(file: IO[bytes], format: str, columns: Sequence[str]) -> Callable[[Sequence[Any]], None]:
    """A function that appends a row to an open file, after the header that the format has."""
    if format == "jsonl":
        return lambda row: _append(file, json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) + "\n")

    def write_csv(row: Sequence[Any]) -> None:
        _append(file, _csv_line(row) + "\n")

    write_csv(columns)
    return write_csv


def _append(file: IO[bytes], text: str) -> None:
    file.write(text.encode("utf-8"))


def _csv_line(values: Sequence[Any]) -> str:
    output = io.StringIO()
    csv.writer(output, lineterminator="").writerow(values)
    return output.getvalue()


# The way back


def _convert_command(config: ExportConfig, builder: tfds.core.DatasetBuilder, table: _Table) -> str:
    flags = _convert_flags(config, builder, table)
    texts = {key: _csv_line(value) if isinstance(value, list) else str(value) for key, value in flags.items()}
    return shlex.join(["tfr", "convert", *(f"--{key}={value}" for key, value in texts.items())])


def _convert_flags(config: ExportConfig, builder: tfds.core.DatasetBuilder, table: _Table) -> dict[str, Any]:
    """The flags of `tfr convert` that make the same records of the export."""
    flags: dict[str, Any] = {
        "annotations": f"{config.output}/annotations.{config.format}",
        "images": f"{config.output}/images" if config.images else "YOUR_IMAGES",
        "format": config.format,
        "name": builder.info.name,
        "version": str(builder.info.version),
        "data_dir": "data",
        **{f"{name}_column": column for name, column in table.fixed.items()},
        "label_columns": list(_label_columns(table.labels)),
        "label_encoding": table.encoding,
        "labels_file": f"{config.output}/{LABELS_FILE}",
        "label_mode": "single" if table.is_single else "multi",
    }
    if config.format == "csv":
        flags["delimiter"] = ","
    if table.encoding == "text":
        flags |= {"empty_labels": "unknown" if table.is_single else "none"}
        flags |= {} if table.is_single else {"label_delimiter": config.label_delimiter}
    if table.kept:
        flags["keep_columns"] = table.kept
    return {**flags, **_flags_of_conversion(builder)}


def _label_columns(names: Sequence[str]) -> Iterator[str]:
    """The label columns as a range, unless that is the name of one of them."""
    entry = f"{names[0]}:{names[-1]}"
    if len(names) > 1 and entry not in names:
        yield entry
    else:
        yield from names


def _flags_of_conversion(builder: tfds.core.DatasetBuilder) -> Mapping[str, Any]:
    """Settings that the records' bytes and places depend on, where they are not the default."""
    info = builder.info
    found: dict[str, Any] = {}
    shard_counts = {split.num_shards for split in info.splits.values()}
    if len(shard_counts) == 1:
        found["num_shards"] = shard_counts.pop()
    if info.file_format is not None and info.file_format.file_suffix != "tfrecord":
        found["file_format"] = info.file_format.file_suffix
    stored = dataset_dir.read_conversion(os.fspath(builder.data_path)).get("config", {})
    plain = {field.name: field.default for field in dataclasses.fields(ConvertConfig)}
    for name in ("split_seed", "max_shard_size_mb"):
        if stored.get(name, plain[name]) != plain[name]:
            found[name] = stored[name]
    default = dataclasses.asdict(images.ImageOptions())
    changed = {k: v for k, v in stored.get("image", {}).items() if k in default and v != default[k]}
    return {**found, **changed}


def text(result: ExportResult) -> str:
    """What was exported, in plain words."""
    lines = [f"Exported: {result.annotations} ({result.num_records} rows, {result.num_images} images beside it)"]
    if result.num_without_id:
        lines.append(f"  left out: {result.num_without_id} records without an id")
    if result.features_left_out:
        lines.append(f"  not expressed: features {', '.join(result.features_left_out)}")
    return "\n".join([*lines, f"  to make a dataset of it again: {result.convert_command}"])
