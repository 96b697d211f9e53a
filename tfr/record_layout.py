"""Which features of a dataset's records hold what: parsing records of any dataset of images, without TensorFlow."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from google.protobuf.message import DecodeError
from tensorflow_datasets.proto import tf_example_pb2

from tfr import dataset_dir
from tfr.errors import DatasetError

_ID, _IMAGE, _UNKNOWN, _FINGERPRINT = "id", "image", "labels_unknown", "fingerprint"


class BadRecordError(ValueError):
    """A record that does not hold what features.json promises."""


class Fields(NamedTuple):
    """What tfr knows of a record: id and fingerprint are None where the dataset has none."""

    id: str | None
    image: bytes
    labels: Sequence[int]
    unknown: Sequence[int]
    fingerprint: int | None


class _Kind(NamedTuple):
    """How a feature stands in an Example: 'bytes_list', ..., and whether it has exactly one value."""

    name: str
    is_single: bool


@dataclasses.dataclass(frozen=True)
class RecordLayout:
    """The features of a dataset's records; small and picklable.

    Attributes:
      image: the feature with the encoded image.
      label: the feature with class labels, one or several; None where there is none.
      label_names: the names of its labels.
      kinds: how single values and lists of values stand in an Example; other features are left out.
    """

    image: str
    label: str | None
    label_names: tuple[str, ...]
    kinds: Mapping[str, _Kind]

    @property
    def is_multi_label(self) -> bool:
        """Whether records have any number of labels."""
        return self.label is not None and not self.kinds[self.label].is_single

    @property
    def has_id(self) -> bool:
        """Whether records have an id that is text."""
        return self.kinds.get(_ID) == _Kind("bytes_list", True)

    @property
    def has_fingerprint(self) -> bool:
        """Whether records have a fingerprint of their image."""
        return self.kinds.get(_FINGERPRINT) == _Kind("int64_list", True)

    @property
    def has_unknown(self) -> bool:
        """Whether records say of which labels nothing is known."""
        return self.kinds.get(_UNKNOWN) == _Kind("int64_list", False)

    def parse(self, record: bytes) -> Fields:
        """Takes a record apart.

        Raises:
          BadRecordError: it is no Example, or a feature is missing or of another kind than features.json says.
        """
        try:
            found = tf_example_pb2.Example.FromString(record).features.feature
        except DecodeError as err:
            raise BadRecordError("it is no serialized Example") from err
        values = {name: _values(found, name, kind) for name, kind in self.kinds.items()}
        try:
            id_ = values[_ID][0].decode("utf-8") if self.has_id else None
        except UnicodeDecodeError as err:
            raise BadRecordError(f"its id is not UTF-8: {err.object[:80]!r}") from err
        return Fields(
            id_,
            values[self.image][0],
            [] if self.label is None else values[self.label],
            values[_UNKNOWN] if self.has_unknown else [],
            values[_FINGERPRINT][0] if self.has_fingerprint else None,
        )


def _values(found: Mapping[str, Any], name: str, kind: _Kind) -> Any:
    if name not in found:
        if kind.is_single:
            raise BadRecordError(f"it has no feature {name!r}")
        return []
    feature = found[name]
    stored = feature.WhichOneof("kind")
    if stored not in (kind.name, None):
        raise BadRecordError(f"its feature {name!r} is a {stored}, but features.json wants a {kind.name}")
    values = getattr(feature, kind.name).value
    if kind.is_single and len(values) != 1:
        raise BadRecordError(f"its feature {name!r} has {len(values)} values, but features.json wants one")
    return values


def layout_of(builder: tfds.core.DatasetBuilder) -> RecordLayout:
    """The layout of a dataset's records.

    Raises:
      DatasetError: no feature is an image.
    """
    features = builder.info.features
    images = [name for name, feature in features.items() if isinstance(feature, tfds.features.Image)]
    if not images:
        raise DatasetError(f"{builder.info.full_name} has no feature that is an image. Its features: {list(features)}.")
    try:
        label, names = dataset_dir.label_key(builder), tuple(dataset_dir.label_names(builder))
    except DatasetError:  # nothing to say of labels, but of all the rest
        label, names = None, ()
    kinds = {name: kind for name, feature in features.items() if (kind := _kind(feature.get_serialized_info()))}
    return RecordLayout(_IMAGE if _IMAGE in images else images[0], label, names, kinds)


def _kind(info: Any) -> _Kind | None:
    """How a single value or a list of them is stored; None for what is nested or has several dimensions."""
    if not isinstance(info, tfds.features.TensorInfo) or info.shape not in ((), (None,)):
        return None
    dtype = np.dtype(info.np_dtype)
    name = {"f": "float_list", "i": "int64_list", "u": "int64_list", "b": "int64_list"}.get(dtype.kind, "bytes_list")
    return _Kind(name, info.shape == ())
