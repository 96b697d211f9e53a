"""A digest of everything that a conversion depends on: the same one means that there is nothing to do."""

import contextlib
import hashlib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tfr import annotations as annotations_lib
from tfr import dataset_dir, files
from tfr.config import ConvertConfig, digest

if TYPE_CHECKING:
    import pandas as pd


def content_hash(config: ConvertConfig, images: Iterable[files.ListedFile]) -> str:
    """A digest of all that a conversion depends on: config, annotations, names and sizes of the images.

    Args:
      config: the conversion.
      images: the listing of its image folder; not asked for where the conversion does without.
    """
    parts: list[Any] = [config.content_hash()]
    if config.append_to:
        parts.append(_digest_file(f"{config.append_to_dir}/{dataset_dir.CONVERSION_FILE}"))
    path = config.annotations_path
    if callable(config.annotations):
        parts.append(_digest_events(config.annotations()))
    elif path is None:
        parts.append(_digest_frame(config.annotations))  # type: ignore[arg-type]
    elif files.is_dir(path):
        with contextlib.nullcontext(images) if path == config.image_dir else files.Listing(path) as listing:
            texts = sorted(file.path for file in listing if _is_text(file.path))
            parts += [_digest_listing(listing), *(_digest_file(files.join(path, text)) for text in texts)]
    tables = [path, config.labels_file, config.label_map, config.corrections, config.read.classes_file]
    if path is not None and not files.is_dir(path) and not config.read.classes_file:
        tables.append(annotations_lib.find_companion(path, config.format, config.read))
    for file in tables:
        if file is not None and files.exists(file) and not files.is_dir(file):
            parts.append(_digest_file(file))
    if config.list_images and config.image_dir != path and files.is_dir(config.image_dir):
        parts.append(_digest_listing(images))
    return digest(parts)


def _is_text(path: str) -> bool:
    """Whether a file in a folder of annotations can hold some: not an image, nor records as large as images."""
    return not files.is_image_name(path) and not re.search(r"\.(tfrecord|array_record)\b", path)


def _digest_listing(listing: Iterable[files.ListedFile]) -> str:
    """Of the names and sizes of listed files; a sum, so that neither order nor number costs memory."""
    total = 0
    for path, size in listing:
        total += int.from_bytes(hashlib.blake2b(f"{path}\0{size}".encode(), digest_size=16).digest(), "big")
    return f"{total % (1 << 128):032x}"


def _digest_file(path: str) -> str:
    with files.open_binary(path) as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()  # type: ignore[arg-type]


def _digest_events(events: Iterable[object]) -> str:
    hasher = hashlib.blake2b(digest_size=16)
    for event in events:
        hasher.update(repr(event).encode("utf-8", "surrogateescape"))
    return hasher.hexdigest()


def _digest_frame(frame: "pd.DataFrame") -> str:
    columns = {name: list(map(_in_one_order, cells)) for name, cells in frame.to_dict("list").items()}
    return _digest_bytes(repr(columns).encode())


def _in_one_order(cell: Any) -> Any:
    """A cell as what has one text in all processes: sets have any order, and of long arrays the middle is left out."""
    if isinstance(cell, (set, frozenset)):
        return sorted(cell, key=repr)
    return cell.tolist() if hasattr(cell, "tolist") else cell


def _digest_bytes(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
