"""A dataset directory as annotations: to split it anew, rename labels, resize images, or keep some of the rows."""

import itertools
import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfr.annotations.base import Annotation, Event, LabelSet, Note, ReadOptions, RejectedRow, Source
from tfr.annotations.where import compile_where
from tfr.errors import AnnotationError

_ID_FEATURES = ("id", "image_id", "file_name", "filename", "image/filename")


def read_tfds(path: str, options: ReadOptions) -> Iterator[Event]:
    """Yields the examples of a dataset directory of TFRecord or ArrayRecord files, made by tfr or by TFDS itself.

    Shape: `<data_dir>/<name>/<version>/` with dataset_info.json, or a folder with only one such below; features
    `image` and `labels` (a sequence of class labels) or `label`. Images are not unpacked: a row's image is a place in
    one of its files. The id is the feature `id` (or `id_column`), else `<split>/<number>`. Splits are kept unless
    `ignore_splits` is set; `labels_unknown` is kept. `where`, `keep_columns` and `group_column` use text and number
    features, `split` and `labels`.

    Raises:
      AnnotationError: files of another format, or a feature is missing.
      DatasetError: no dataset directory, or a damaged file.
    """
    from tfr import dataset_dir  # imports TFDS, and this package

    builder = dataset_dir.open_builder(path)
    _check_files(builder, path)
    label_key, names = dataset_dir.label_key(builder), dataset_dir.label_names(builder)
    yield LabelSet(tuple(names))
    columns = ["split", *sorted(name for name in builder.info.features if name != "image")]
    _check_columns(columns, options, path)
    keep = compile_where(options.where, columns, path) if options.where else None
    num_left_out = 0
    for split, number, uri, values in _examples(builder):
        values = {**values, "split": split, label_key: _names(values.get(label_key), names)}
        if keep is not None and not keep([values.get(name, "") for name in columns]):
            num_left_out += 1
        else:
            unknown = _names(values.get("labels_unknown"), names)
            yield _annotation(uri, values, label_key, unknown, Source(f"{path}:{split}", number), options)
    if keep is not None:
        yield Note(f"{path}: --where left out {num_left_out} rows")


def _check_files(builder: Any, path: str) -> None:
    from tfr.config import FILE_FORMATS  # imports this package

    file_format = builder.info.file_format.file_suffix if builder.info.file_format else "tfrecord"
    if file_format not in FILE_FORMATS or "image" not in builder.info.features:
        raise AnnotationError(
            f"{path}: needs {' or '.join(FILE_FORMATS)} files with a feature 'image'. It has {file_format} files with "
            f"{list(builder.info.features)}."
        )


def _examples(builder: Any) -> Iterator[tuple[str, int, str, dict[str, Any]]]:
    """(split, number in it, URI of the image, other features) of every example."""
    for split in builder.info.splits:
        files = (os.fspath(file) for file in builder.info.splits[split].filepaths)
        for number, (uri, values) in enumerate(itertools.chain.from_iterable(map(_records, files)), 1):
            yield split, number, uri, values


def _check_columns(columns: Sequence[str], options: ReadOptions, path: str) -> None:
    wanted = [options.id_column, options.group_column, *options.keep_columns]
    if missing := [name for name in wanted if name and name not in columns]:
        raise AnnotationError(f"{path}: no features {missing}. The features are: {list(columns)}.")


def _records(file: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The URI of each record's image, and the other features as plain values."""
    from tensorflow_datasets.proto import tf_example_pb2

    from tfr import record_images, shards

    for place, record in shards.read_placed(file):
        example = tf_example_pb2.Example.FromString(record)
        values = {
            name: _plain(f) for name, f in example.features.feature.items() if name != record_images.IMAGE_FEATURE
        }
        yield record_images.make_uri(file, place, len(record)), values


def _plain(feature: Any) -> Any:
    """A proto feature as a list, or as its only value."""
    kind = feature.WhichOneof("kind")
    values = list(getattr(feature, kind).value) if kind else []
    values = [v.decode("utf-8", errors="replace") if isinstance(v, bytes) else v for v in values]
    return values[0] if len(values) == 1 else values


def _names(ids: Any, names: Sequence[str]) -> list[str]:
    """Label ids, one or several, as names; -1 is TFDS's mark for no label."""
    listed = ids if isinstance(ids, list) else [] if ids is None else [ids]
    return [names[operator.index(i)] for i in listed if i >= 0]


def _annotation(
    uri: str, values: Mapping[str, Any], label_key: str, unknown: list[str], source: Source, options: ReadOptions
) -> Annotation | RejectedRow:
    key = options.id_column or next((name for name in _ID_FEATURES if values.get(name)), None)
    id_ = _text(values.get(key)) if key else f"{values['split']}/{source.row}"
    if not id_:
        return RejectedRow(source, "no_id", f"feature {key!r} is empty")
    return Annotation(
        id_,
        uri,
        tuple(values[label_key]),
        source,
        tuple(unknown),
        values["split"],
        _text(values.get(options.group_column)) or None if options.group_column else None,
        {name: _text(values.get(name)) for name in options.keep_columns},
    )


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else str(value)
