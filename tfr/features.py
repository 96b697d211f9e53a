"""The record schema: a TFDS FeaturesDict, and the fast way from a row to a serialized Example that fits it."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from tfr.errors import UsageError

RESERVED = ("id", "image", "labels", "label", "labels_unknown", "fingerprint")


@dataclasses.dataclass(frozen=True)
class RecordSchema:
    """What a record holds.

    Attributes:
      names: label names in the order of their ids; none where they are filled in later, from the data.
      multi_label: whether a record has `labels` (any number) or `label` (exactly one).
      has_unknown: whether records carry `labels_unknown`, the labels of which nothing is known.
      columns: further text features.
      keep_png: whether images are JPEGs or PNGs, rather than JPEGs alone.
      has_fingerprint: whether records carry the perceptual hash of their image.
    """

    names: tuple[str, ...]
    multi_label: bool = True
    has_unknown: bool = False
    columns: tuple[str, ...] = ()
    keep_png: bool = False
    has_fingerprint: bool = True

    def __post_init__(self):
        names = self.columns
        clash = [n for n in names if n in RESERVED or not n.isidentifier() or names.count(n) > 1]
        if clash:
            raise UsageError(
                f"--keep_columns: {clash} cannot be feature names: they must be identifiers other than {RESERVED}, "
                "each once."
            )

    @functools.cached_property
    def features(self) -> tfds.features.FeaturesDict:
        """The schema as TFDS features: what is written to features.json and what readers decode by."""
        label = self._class_label()
        # Readers decode by content either way; without a format TFDS promises none.
        image = tfds.features.Image(shape=(None, None, 3), encoding_format=None if self.keep_png else "jpeg")
        features: dict[str, object] = {"id": tfds.features.Text(), "image": image}
        features |= {"labels": tfds.features.Sequence(label)} if self.multi_label else {"label": label}
        if self.has_unknown:
            features["labels_unknown"] = tfds.features.Sequence(self._class_label())
        if self.has_fingerprint:  # signed: TFDS 4.9.10 cannot read uint64 from 2**63 on back without TensorFlow
            features["fingerprint"] = tfds.features.Scalar(dtype=np.int64)
        features |= {name: tfds.features.Text() for name in self.columns}
        return tfds.features.FeaturesDict(features)

    def _class_label(self) -> tfds.features.ClassLabel:
        return tfds.features.ClassLabel(names=list(self.names) or None)

    @property
    def supervised_keys(self) -> tuple[str, str]:
        """Input and target for `as_supervised=True`."""
        return "image", "labels" if self.multi_label else "label"

    def serialize(
        self,
        id: str,
        image: bytes,
        labels: Sequence[int],
        unknown: Sequence[int],
        fingerprint: int | None,
        columns: Mapping[str, str],
    ) -> bytes:
        """Makes the record of one example.

        Equal in content to `features.serialize_example`, which spends six times as long on generality; a test
        holds the two together. The bytes are deterministic.

        Args:
          id: the example's id.
          image: JPEG bytes; or PNG bytes, where `keep_png` allows them.
          labels: ids of the labels present; exactly one for single-label.
          unknown: ids of the labels not known; ignored unless the schema has them.
          fingerprint: signed 64-bit integer; ignored unless the schema has them.
          columns: a text for each of the schema's columns.
        """
        example = tf_example_pb2.Example()
        feature = example.features.feature
        feature["id"].bytes_list.value.append(id.encode("utf-8"))
        feature["image"].bytes_list.value.append(image)
        feature["labels" if self.multi_label else "label"].int64_list.value.extend(labels)
        if self.has_unknown:
            feature["labels_unknown"].int64_list.value.extend(unknown)
        if self.has_fingerprint:
            feature["fingerprint"].int64_list.value.append(fingerprint)
        for name in self.columns:
            feature[name].bytes_list.value.append(columns[name].encode("utf-8"))
        return example.SerializeToString(deterministic=True)
