"""Shard manifests: which rows make a shard, in which order, as JSONL."""

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from json.encoder import encode_basestring as quote  # what json.dumps(text, ensure_ascii=False) is, without its detour

from tfr import features, files, recorded, shards
from tfr.config import ConvertConfig, digest
from tfr.vocabulary import Vocabulary

_MIN_SHARDS, _MIN_ROWS_PER_SHARD = 8, 128  # enough shards to read in parallel, unless they would be tiny
_LINES_PER_WRITE = 1024


@dataclasses.dataclass(frozen=True)
class ShardPlan:
    """One shard to write.

    Attributes:
      split, index, num_shards: its place.
      file: its file name in the dataset directory.
      manifest: the path of the JSONL file with its rows.
      num_rows: rows in the manifest.
      fingerprint: digest of everything that its bytes depend on: rows, schema and image options.
    """

    split: str
    index: int
    num_shards: int
    file: str
    manifest: str
    num_rows: int
    fingerprint: str


def choose_num_shards(num_rows: int, num_bytes: int, config: ConvertConfig) -> int:
    """How many shards a split gets; depends on the input alone, so that it is the same for any number of workers."""
    if config.num_shards is not None:
        return config.num_shards
    return max(
        _num_shards_by_size(num_rows, num_bytes, config.max_shard_size_mb << 20),
        min(_MIN_SHARDS, num_rows // _MIN_ROWS_PER_SHARD),
        1,
    )


def _num_shards_by_size(num_rows: int, num_bytes: int, limit: int) -> int:
    """Shards enough that hardly one ever has more bytes than the limit, if shards have dozens of images.

    Rows fall into shards by their hashes, so that about k +- sqrt(k) of them come where k are meant to: shards are
    filled to four such deviations below the limit, which leaves room for images of unequal size as well.
    """
    if num_bytes <= limit:
        return 1
    fitting = limit * num_rows / num_bytes
    return math.ceil(num_rows / max(fitting - 4 * math.sqrt(fitting), fitting / 4))


def shard_index(hash_: bytes, num_shards: int) -> int:
    """The shard of a row: each takes an equal range of the 64-bit hashes."""
    return int.from_bytes(hash_, "big") * num_shards >> 64


def label_fields(
    chosen: Vocabulary, labels: Sequence[str], unknown: Sequence[str], absent: Sequence[str] | None
) -> str:
    """What a row says of labels (see Annotation) as the JSON fields of a manifest: ids, ascending."""
    present = chosen.encode(labels)
    if absent is None:
        others = set(chosen.encode(unknown))
    else:  # what is not named is unknown
        others = set(range(len(chosen.names))) - set(chosen.encode(absent))
    return f'"labels": {present}, "unknown": {sorted(others.difference(present))}'


def liner(image_dir: str) -> Callable[..., str]:
    """The function that makes a row's line; `fields` are its `label_fields`, `columns` a JSON object as text."""
    join = files.join

    def line(id_: str, path: str, size: int, fields: str, columns: str, file: str, row: int) -> str:
        return (
            f'{{"id": {quote(id_)}, "path": {quote(join(image_dir, path))}, "size": {size}, {fields}, '
            f'"columns": {columns}, "source": [{quote(file)}, {row}]}}\n'
        )

    return line


def settings_digest(schema: features.RecordSchema, config: ConvertConfig) -> str:
    """Of what a shard's bytes depend on beside its rows."""
    return digest([recorded.values(schema), recorded.values(config.image)])


def write_manifest(
    lines: Iterable[str], config: ConvertConfig, plan_dir: str, settings: str, split: str, index: int, num_shards: int
) -> ShardPlan:
    """Writes one shard's manifest.

    Args:
      lines: its rows, see `liner`, in the order of their hashes.
      config: the conversion.
      plan_dir: the folder of the manifests.
      settings: the `settings_digest`.
      split, index, num_shards: the shard's place.
    """
    name = shards.shard_name(config.name, split, index, num_shards, config.file_format)
    fingerprint, num_rows = hashlib.blake2b(settings.encode(), digest_size=16), 0
    manifest = f"{plan_dir}/{name}.jsonl"
    with files.atomic_write(manifest) as file:
        for block in _blocks(lines):
            data = "".join(block).encode("utf-8")
            fingerprint.update(data)
            file.write(data)
            num_rows += len(block)
    return ShardPlan(split, index, num_shards, name, manifest, num_rows, fingerprint.hexdigest())


def _blocks(lines: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(lines)
    while block := list(itertools.islice(iterator, _LINES_PER_WRITE)):
        yield block


def dump(value: object) -> str:
    """A value as the JSON text that manifests hold."""
    return json.dumps(value, ensure_ascii=False)
