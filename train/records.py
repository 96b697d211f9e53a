"""The stored examples of a split, each reachable by its place, from TFRecord and ArrayRecord files alike.

Random access is what the rest of the input pipeline stands on: a shuffle of the whole split, sampling by label, a
share for each host and going on from any step are then arithmetic on places, and no buffer has to be filled again.
"""

import concurrent.futures
import contextlib
import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow_datasets as tfds

from tfr import files, progress, shards, tfrecord_files
from tfr.errors import DatasetError

_INDEX_THREADS = 8  # waiting for disks or for object stores
_FRAME_BYTES = tfrecord_files.HEADER_BYTES + tfrecord_files.FOOTER_BYTES


class Records(Protocol):
    """The serialized examples of a split in stored order.

    Attributes:
      is_remote: whether reading is a request to another machine, so that many should be under way at once.
    """

    is_remote: bool

    def __len__(self) -> int:
        """How many there are."""

    def read(self, places: np.ndarray) -> list[bytes]:
        """The examples at these places, in the order of the places; safe to call from several threads."""


class TFRecords:
    """Examples in TFRecord files, found by the offsets of their frames: 8 bytes of memory for an example."""

    def __init__(self, instructions: Sequence[Any]):
        """`instructions` are TFDS's FileInstructions: a file, and which of its records, in the order of the split.

        Raises:
          DatasetError: a file is missing or damaged.
        """
        self._paths = [os.fspath(instruction.filename) for instruction in instructions]
        self.is_remote = not all(files.is_local(path) for path in self._paths)
        with concurrent.futures.ThreadPoolExecutor(_INDEX_THREADS) as pool:
            indexed = pool.map(_offsets, instructions)
            self._offsets = list(progress.count(indexed, "indexing shards", "shards"))
        self._ends = np.cumsum([len(offsets) - 1 for offsets in self._offsets], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def read(self, places: np.ndarray) -> list[bytes]:
        """See Records; the checksum of each record is verified."""
        numbers = np.searchsorted(self._ends, places, side="right")
        with contextlib.ExitStack() as stack:
            opened = {n: stack.enter_context(files.open_binary(self._paths[n])) for n in np.unique(numbers).tolist()}
            return [
                tfrecord_files.read_from(opened[number], self._paths[number], *self._where(number, place))
                for number, place in zip(numbers.tolist(), places.tolist(), strict=True)
            ]

    def _where(self, number: int, place: int) -> tuple[int, int]:
        """Offset and length of the record at a place, which is in this file."""
        offsets = self._offsets[number]
        first = place - int(self._ends[number]) + len(offsets) - 1
        start, end = offsets[first : first + 2].tolist()
        return start, end - start - _FRAME_BYTES


def _offsets(instruction: Any) -> np.ndarray:
    """Where the records of a file that belong to a split are: the offset of each, and the end of the last."""
    path = os.fspath(instruction.filename)
    # Elsewhere one pass over the data is faster than a request for each length; and it says where damage is.
    offsets = tfrecord_files.frame_offsets(path) if files.is_local(path) and files.exists(path) else None
    if offsets is None:
        lengths = [len(record) + _FRAME_BYTES for record in shards.read_records(path)]
        offsets = np.cumsum([0, *lengths], dtype=np.int64)
    if instruction.examples_in_shard and len(offsets) - 1 != instruction.examples_in_shard:
        raise DatasetError(
            f"{path} holds {len(offsets) - 1} records, but dataset_info.json counts {instruction.examples_in_shard}. "
            "One of them is from another conversion: convert again."
        )
    take = len(offsets) if instruction.take == -1 else instruction.take
    return offsets[instruction.skip : instruction.skip + take + 1]


class ArrayRecords:
    """Examples in ArrayRecord files, which have an index of their own."""

    def __init__(self, builder: tfds.core.DatasetBuilder, split: Any):
        self.is_remote = not files.is_local(os.fspath(builder.data_path))
        self._source = builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)

    def __len__(self) -> int:
        return len(self._source)

    def read(self, places: np.ndarray) -> list[bytes]:
        """See Records."""
        return list(self._source.__getitems__(places.tolist()))


class StoredImages:
    """The encoded images of a split by their place, without the rest of their examples."""

    def __init__(self, builder: tfds.core.DatasetBuilder, split: Any):
        """Opens the files of a split, or of a slice of one.

        Raises:
          DatasetError: a file is missing or damaged, or the format cannot be read by place.
        """
        self._records = open_records(builder, split)
        self._features = tfds.features.FeaturesDict({"image": builder.info.features["image"]})

    def read(self, places: Sequence[int]) -> list[bytes]:
        """The images at these places, in the order of the places, encoded as they are stored."""
        decoders = {"image": tfds.decode.SkipDecoding()}
        found = self._records.read(np.asarray(places, np.int64))
        return [self._features.deserialize_example_np(record, decoders=decoders)["image"] for record in found]


def check_format(builder: tfds.core.DatasetBuilder) -> None:
    """Raises DatasetError where the files of a dataset cannot be read by place."""
    found = builder.info.file_format
    if found is not None and found not in (tfds.core.FileFormat.TFRECORD, tfds.core.FileFormat.ARRAY_RECORD):
        raise DatasetError(
            f"{builder.info.full_name} has {found.value} files; tfrecord and array_record are read. Convert it: "
            f"tfr convert --annotations={builder.data_path} --data_dir=... --name={builder.name}"
        )


def num_shared(builder: tfds.core.DatasetBuilder, split: str, other: str) -> int:
    """How many examples are in both of two splits, or slices of them."""
    ranges: list[dict[str, list[range]]] = [{}, {}]
    for of_split, name in zip(ranges, (split, other), strict=True):
        for at in builder.info.splits[name].file_instructions:
            places = range(at.examples_in_shard)[at.skip :]
            places = places if at.take == -1 else places[: at.take]
            of_split.setdefault(os.fspath(at.filename), []).append(places)
    pairs = ((one, two) for file, found in ranges[0].items() for one in found for two in ranges[1].get(file, []))
    return sum(len(range(max(one.start, two.start), min(one.stop, two.stop))) for one, two in pairs)


def open_records(builder: tfds.core.DatasetBuilder, split: Any) -> Records:
    """Opens the examples of a split, of a slice of one, or of another split object of TFDS.

    Raises:
      DatasetError: a file is missing or damaged, or the format cannot be read by place.
    """
    check_format(builder)
    if builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
        return ArrayRecords(builder, split)
    return TFRecords(builder.info.splits[split].file_instructions)
