"""Rows whose images are exact or near duplicates, as groups that splits do not tear apart: found before splits are."""

import concurrent.futures
import hashlib
import itertools
from collections.abc import Iterator

import numpy as np

from tfr import files, images, near_duplicates, progress, recorded
from tfr.config import ConvertConfig, digest
from tfr.row_store import GroupedRow, RowStore

CACHE_SUFFIX = ".fingerprints.npy"  # of files in the plan folder
_CHUNK = 4096  # rows whose result is kept in one file
_UNREADABLE = 0  # digest
_EXPECTED = (FileNotFoundError, NotADirectoryError, PermissionError, IsADirectoryError, ValueError)


def group_rows(store: RowStore, config: ConvertConfig, plan_dir: str) -> list[str]:
    """Puts rows whose images are duplicates into one group each, together with the groups that they are in already.

    Every image is read and prepared once more than otherwise, in this process, so that its fingerprint is the one that
    is stored: at the same radius no duplicate is found in two splits afterwards. The result is kept in the plan folder,
    chunk by chunk, so that the same command, killed and run again, goes on. It depends on rows and images only.

    Args:
      store: rows that know their images.
      config: its `group_near_duplicates` is the radius; None does nothing.
      plan_dir: the folder of the plan.

    Returns:
      A sentence on what was found.
    """
    radius = config.group_near_duplicates
    if radius is None:
        return []
    codes, digests = _read_all(store, config, plan_dir)
    everything = np.arange(len(codes))
    readable = np.flatnonzero(digests != _UNREADABLE)
    near = readable[near_duplicates.group(codes[readable], radius)]
    exact = readable[near_duplicates.firsts(digests[readable])]
    alike = near_duplicates.merge(len(codes), [(readable, near), (readable, exact)])
    own = near_duplicates.firsts(_own_groups(store, len(codes)))
    labels = near_duplicates.merge(len(codes), [(everything, alike), (everything, own)])
    store.set_groups(list(_names(store, alike, labels)))
    _, sizes = np.unique(alike, return_counts=True)
    sizes = sizes[sizes > 1]
    largest = f"; the largest has {sizes.max()}" if len(sizes) else ""
    return [
        f"duplicates kept in one split each: {len(sizes)} groups of {sizes.sum()} images (radius {radius}){largest}"
    ]


def _own_groups(store: RowStore, size: int) -> np.ndarray:
    """A number for each row; equal ones where the source names the same group."""
    numbers: dict[str, int] = {}
    rows = enumerate(store.grouped_rows())
    found = (size + numbers.setdefault(row.group, len(numbers)) if row.group is not None else i for i, row in rows)
    return np.fromiter(found, np.int64, size)


def _names(store: RowStore, alike: np.ndarray, labels: np.ndarray) -> Iterator[tuple[str, int]]:
    """(group, seq) of the rows whose group is new: the first of the names it had, else the first image's path."""
    in_company = np.isin(labels, labels[alike != np.arange(len(alike))])
    names: dict[int, tuple[bool, str]] = {}
    for row, label, changes in zip(store.grouped_rows(), labels.tolist(), in_company, strict=True):
        if changes:
            name = (row.group is None, row.path if row.group is None else row.group)  # names before paths
            names[label] = min(names.get(label, name), name)
    for row, label, changes in zip(store.grouped_rows(), labels.tolist(), in_company, strict=True):
        if changes:
            is_path, chosen = names[label]
            yield f"duplicates of {chosen}" if is_path else chosen, row.seq


def _read_all(store: RowStore, config: ConvertConfig, plan_dir: str) -> tuple[np.ndarray, np.ndarray]:
    """Fingerprints, int64, and digests of the files, uint64, of all rows' images."""
    parts = [np.empty((0, 2), np.int64)]
    settings = digest(recorded.values(config.image))
    rows = store.grouped_rows()
    with (
        concurrent.futures.ThreadPoolExecutor(max(1, config.threads_per_worker)) as pool,
        progress.bar(store.num_rows(), "comparing images", "images") as bar,
    ):
        while chunk := list(itertools.islice(rows, _CHUNK)):
            parts.append(_read_chunk(chunk, config, f"{plan_dir}/{_key(chunk, settings)}{CACHE_SUFFIX}", pool))
            bar.update(len(chunk))
    values = np.concatenate(parts)
    return values[:, 0].copy(), values[:, 1].copy().view(np.uint64)


def _key(chunk: list[GroupedRow], settings: str) -> str:
    return digest([settings, [(row.path, row.size) for row in chunk]])


def _read_chunk(
    chunk: list[GroupedRow], config: ConvertConfig, cache: str, pool: concurrent.futures.Executor
) -> np.ndarray:
    """int64 (rows, 2): fingerprint and digest; from the file where an earlier run left it."""
    if files.exists(cache):
        with files.open_binary(cache) as file:
            return np.load(file, allow_pickle=False)
    values = np.array(list(pool.map(lambda row: _read(row, config), chunk)), np.int64)
    if (values[:, 1] != _UNREADABLE).all():  # what could not be read may be there the next time
        with files.atomic_write(cache) as file:
            np.save(file, values, allow_pickle=False)
    return values


def _read(row: GroupedRow, config: ConvertConfig) -> tuple[int, int]:
    """Fingerprint and digest of a row's image. One that cannot be used is rejected later, when it is converted."""
    try:
        data = files.read_bytes(files.join(config.image_dir, row.path))
        fingerprint = images.fingerprint_of(data, config.image)
    except (*_EXPECTED, images.ImageRejectedError):
        return 0, _UNREADABLE
    return fingerprint, int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big", signed=True) or 1
