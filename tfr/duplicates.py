"""Exact and near duplicates in a dataset directory, and which of them leak from one split into another."""

import collections
import csv
import dataclasses
import functools
import hashlib
import io
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from tfr import contact_sheet, dataset_dir, files, images, near_duplicates, record_layout, shard_jobs, shards
from tfr.record_layout import RecordLayout
from tfr.shard_jobs import Shard

_COLUMNS = 6  # images of a group side by side


class Member(NamedTuple):
    """One image of a group.

    Attributes:
      split, id: which.
      picture: number of its picture within the group; exact duplicates have the same.
      distance: bits in which its fingerprint differs from that of the group's first image.
    """

    split: str
    id: str
    picture: int
    distance: int


@dataclasses.dataclass(frozen=True)
class Group:
    """Images that are duplicates of each other, directly or along a chain.

    Attributes:
      members: at least two.
      places: where their records are: (shard's path, offset, length).
    """

    members: list[Member]
    places: list[tuple[str, int, int]] = dataclasses.field(repr=False)

    @property
    def is_exact(self) -> bool:
        """Whether all are the very same picture."""
        return all(member.picture == 0 for member in self.members)

    @property
    def is_leak(self) -> bool:
        """Whether they are in several splits."""
        return len(self.splits) > 1

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that they are in, by name."""
        return tuple(sorted({member.split for member in self.members}))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Duplicates:
    """What was found.

    Attributes:
      dataset_dir: where.
      radius: fingerprints that differ in at most so many bits are near.
      num_images: images that were compared.
      num_saying_little: of these, images whose fingerprint says nothing (uniform pictures and plain slopes): only
        their exact duplicates are found.
      groups: leaks first, then exact ones, then the larger ones.
    """

    dataset_dir: str
    radius: int
    num_images: int
    num_saying_little: int
    groups: list[Group]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        groups = [
            {"exact": group.is_exact, "leak": group.is_leak, "members": [member._asdict() for member in group.members]}
            for group in self.groups
        ]
        return {**{name: getattr(self, name) for name in self.__dataclass_fields__}, "groups": groups}


class _Index(NamedTuple):
    """What is kept of every record of a shard: arrays of its length."""

    fingerprints: np.ndarray  # int64
    digests: np.ndarray  # uint64, of the encoded image
    offsets: np.ndarray  # int64
    lengths: np.ndarray  # int64


def find(path: str, radius: int = near_duplicates.DEFAULT_RADIUS, *, num_workers: int | None = None) -> Duplicates:
    """Finds images that are in a dataset more than once.

    Exact duplicates have the same bytes, or the same pixels and so the same fingerprint. Near duplicates have
    fingerprints that differ in few bits. Takes 32 bytes of memory for an image, beside the search's own.

    Args:
      path: a dataset directory, or a folder with only one below.
      radius: bits, 0 to 10, in which fingerprints of near duplicates differ at most.
      num_workers: cores to use; None: all.

    Raises:
      DatasetError: it is not one, no feature is an image, or a shard is damaged.
    """
    builder = dataset_dir.open_builder(path)
    layout = record_layout.layout_of(builder)
    where = shard_jobs.shards_of(builder)
    indexed = shard_jobs.for_each_shard(functools.partial(_index, layout=layout), where, num_workers, "reading")
    parts = [part for _, part in indexed]
    index = _Index(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    finder = _Finder(where, [len(part.offsets) for part in parts], index, layout)
    return Duplicates(
        dataset_dir=str(builder.data_path),
        radius=radius,
        num_images=len(index.offsets),
        num_saying_little=int(near_duplicates.says_little(index.fingerprints).sum()),
        groups=finder.groups(radius),
    )


def _index(shard: Shard, threads: int, *, layout: RecordLayout) -> _Index:
    """Reads one shard. Hashing and reading are done in this thread: they are as fast as the disk."""
    del threads
    rows = []
    for offset, record in shards.read_placed(shard.path):
        fields = layout.parse(record)
        digest = hashlib.blake2b(fields.image, digest_size=8).digest()
        fingerprint = _fingerprint(fields.image) if fields.fingerprint is None else fields.fingerprint
        rows.append((fingerprint, int.from_bytes(digest, "big"), offset, len(record)))
    columns = zip(*rows, strict=True) if rows else ((), (), (), ())
    return _Index(*(np.array(c, t) for c, t in zip(columns, (np.int64, np.uint64, np.int64, np.int64), strict=True)))


def _fingerprint(image: bytes) -> int:
    """For datasets that tfr did not make; 0, which says nothing, for what it cannot read."""
    try:
        return images.fingerprint_of(image, images.ImageOptions())
    except images.ImageRejectedError:
        return 0


class _Finder:
    """Groups indexed images."""

    def __init__(self, where: Sequence[Shard], lengths: Sequence[int], index: _Index, layout: RecordLayout):
        self._where, self._index, self._layout = where, index, layout
        self._shard_of = np.repeat(np.arange(len(where)), lengths)

    def groups(self, radius: int) -> list[Group]:
        """All groups, the gravest first."""
        pictures = self._pictures()
        near = near_duplicates.group(self._index.fingerprints, radius)
        everything = np.arange(len(near))
        labels = near_duplicates.merge(len(near), [(everything, near), (everything, pictures)])
        found = [self._group(members, pictures) for members in _with_company(labels)]
        return sorted(found, key=lambda g: (not g.is_leak, not g.is_exact, -len(g.members), g.members))

    def _pictures(self) -> np.ndarray:
        """For each image the first one that is the very same picture."""
        same_bytes = near_duplicates.firsts(self._index.digests)
        links = [(np.arange(len(same_bytes)), same_bytes)]
        for members in _with_company(near_duplicates.firsts(self._index.fingerprints)):
            files_ = np.unique(same_bytes[members])  # one image of each file content
            if len(files_) > 1:
                pixels = near_duplicates.firsts(np.array([self._pixel_digest(i) for i in files_]))
                links.append((files_, files_[pixels]))
        return near_duplicates.merge(len(same_bytes), links)

    def _place(self, i: int) -> tuple[str, int, int]:
        return self._where[self._shard_of[i]].path, int(self._index.offsets[i]), int(self._index.lengths[i])

    def _pixel_digest(self, i: int) -> bytes:
        image = self._layout.parse(shards.read_at(*self._place(i))).image
        try:
            with Image.open(io.BytesIO(image)) as opened:
                rgb = opened.convert("RGB")
        except Exception:  # whatever Pillow raises on broken bytes, which are like no others
            return hashlib.blake2b(image, digest_size=16).digest()
        return hashlib.blake2b(repr(rgb.size).encode() + rgb.tobytes(), digest_size=16).digest()

    def _group(self, members: np.ndarray, pictures: np.ndarray) -> Group:
        names = []
        for i in members:
            path, offset, _ = place = self._place(i)
            id_ = self._layout.parse(shards.read_at(*place)).id
            names.append((self._where[self._shard_of[i]].split, f"{path}@{offset}" if id_ is None else id_))
        order = sorted(range(len(members)), key=names.__getitem__)
        members, names = members[order], [names[i] for i in order]
        numbers: dict[int, int] = {}
        codes = self._index.fingerprints[members].view(np.uint64)
        distances = np.bitwise_count(codes ^ codes[0])
        found = [
            Member(*name, numbers.setdefault(int(picture), len(numbers)), int(distance))
            for name, picture, distance in zip(names, pictures[members], distances, strict=True)
        ]
        return Group(found, [self._place(i) for i in members])


def _with_company(labels: np.ndarray) -> Iterator[np.ndarray]:
    """The indices of every label that more than one has."""
    order = np.argsort(labels, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        if len(members) > 1:
            yield members


# Showing


def text(result: Duplicates, num_groups: int) -> str:
    """The counts, and the first groups, in plain words."""
    exact = [group for group in result.groups if group.is_exact]
    near = [group for group in result.groups if not group.is_exact]
    leaks = [group for group in result.groups if group.is_leak]
    between = collections.Counter(" and ".join(group.splits) for group in leaks)
    lines = [
        f"{result.dataset_dir}: {result.num_images} images",
        f"  LEAKS across splits     {len(leaks)} groups" + "".join(f"; {n} in {s}" for s, n in sorted(between.items())),
        f"  exact duplicates        {len(exact)} groups of {_num_images(exact)} images",
        f"  near duplicates         {len(near)} groups of {_num_images(near)} images, radius {result.radius}",
    ]
    if result.num_saying_little:
        lines.append(
            f"  left out                {result.num_saying_little} images without structure (uniform, or a plain "
            "slope): only their exact duplicates are found"
        )
    for number, group in enumerate(result.groups[:num_groups], 1):
        lines += ["", f"{number}. {_kind(group)}"]
        lines += [f"   {m.split:<12}{m.distance:>3} bits  {m.id}" for m in group.members]
    if len(result.groups) > num_groups:
        lines += ["", f"... and {len(result.groups) - num_groups} more groups (--csv or --json has all)"]
    if leaks:
        lines += ["", "Keep such images in one split: tfr convert --group_near_duplicates"]
    return "\n".join(lines)


def _num_images(groups: Sequence[Group]) -> int:
    return sum(len(group.members) for group in groups)


def _kind(group: Group) -> str:
    kind = "exact duplicates" if group.is_exact else "near duplicates"
    return f"LEAK, {kind} in {' and '.join(group.splits)}" if group.is_leak else kind


def write_csv(result: Duplicates, path: str) -> None:
    """Writes a row an image: its group, whether that is exact and a leak, and the fields of Member."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(["group", "exact", "leak", *Member._fields])
    for number, group in enumerate(result.groups, 1):
        writer.writerows([number, int(group.is_exact), int(group.is_leak), *member] for member in group.members)
    files.write_text(path, output.getvalue())


def draw(result: Duplicates, path: str, output: str, num_groups: int) -> None:
    """Draws the first groups to a PNG file, a row each, with what each image is."""
    layout = record_layout.layout_of(dataset_dir.open_builder(path))
    cells: list[tuple[Image.Image, str]] = []
    for number, group in enumerate(result.groups[:num_groups], 1):
        row = itertools.islice(zip(group.members, group.places, strict=True), _COLUMNS)
        drawn = [(_thumbnail(place, layout), _caption(number, group, member)) for member, place in row]
        cells += drawn + [(Image.new("RGB", (1, 1), "white"), "")] * (_COLUMNS - len(drawn))
    contact_sheet.write(cells, output, _COLUMNS)


def _thumbnail(place: tuple[str, int, int], layout: RecordLayout) -> Image.Image:
    return contact_sheet.thumbnail(layout.parse(shards.read_at(*place)).image)


def _caption(number: int, group: Group, member: Member) -> str:
    leak = "LEAK " if group.is_leak else ""
    return f"{number}: {leak}{member.split} {member.id} ({member.distance} bits)"
