"""Annotation rows and image listings in a temporary SQLite file: joined, counted and sorted in flat memory."""

import itertools
import json
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tfr import files, splits
from tfr.annotations import Annotation, Event, LabelSet, RejectedRow, Source
from tfr.vocabulary import normalize_label

_SCHEMA = """
CREATE TABLE sources (file INTEGER PRIMARY KEY, name TEXT UNIQUE);
CREATE TABLE rows (
    seq INTEGER PRIMARY KEY, id TEXT, hash BLOB, image TEXT, labels TEXT, unknown TEXT, split TEXT, grp TEXT,
    columns TEXT, file INTEGER, row INTEGER, path TEXT, size INTEGER NOT NULL DEFAULT 0);
CREATE TABLE images (path TEXT PRIMARY KEY, stem TEXT, size INTEGER) WITHOUT ROWID;
CREATE TABLE rejects (file INTEGER, row INTEGER, id TEXT, reason TEXT, detail TEXT);
"""
_BATCH = 20_000


class Row(NamedTuple):
    """One row that is to become an example; `path` is its image's file, `size` that file's bytes (0: not known)."""

    seq: int
    id: str
    path: str
    size: int
    labels: list[str]
    unknown: list[str]
    columns: dict[str, str]
    source: Source


class Reject(NamedTuple):
    """One row that became no example, and why."""

    source: Source
    id: str
    reason: str
    detail: str


class RowStore:
    """The rows of one conversion. Use as a context manager: its file is removed at the end."""

    def __init__(self, salt: str):
        """Opens an empty store; `salt` goes into the hash that orders the rows."""
        self._salt = salt
        self._sources: dict[str, int] = {}
        self.declared_labels: set[str] = set()
        handle, self._path = tempfile.mkstemp(prefix="tfr-plan-", suffix=".sqlite")
        os.close(handle)
        self._db = sqlite3.connect(self._path, isolation_level=None)
        # Nothing here outlives the process: no journal, no syncing, one transaction.
        self._db.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536;")
        self._db.executescript(_SCHEMA)
        self._db.execute("BEGIN")

    def __enter__(self) -> "RowStore":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._db.close()
        os.unlink(self._path)

    # Filling

    def add_annotations(self, events: Iterable[Event]) -> int:
        """Stores all rows, rejected ones as rejects; returns how many there were."""
        total = 0
        for batch in _batched(events):
            self.declared_labels.update(
                n for e in batch if isinstance(e, LabelSet) for n in map(normalize_label, e.names)
            )
            total += sum(not isinstance(event, LabelSet) for event in batch)
            rejected = [(r.source, r.id, r.reason, r.detail) for r in batch if isinstance(r, RejectedRow)]
            self.reject(Reject(*values) for values in rejected)
            self._db.executemany(
                "INSERT INTO rows (id, hash, image, labels, unknown, split, grp, columns, file, row) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [self._values(a) for a in batch if isinstance(a, Annotation)],
            )
        self._db.execute("CREATE INDEX rows_by_id ON rows (id)")
        return total

    def _values(self, a: Annotation) -> tuple[object, ...]:
        labels = list(dict.fromkeys(filter(None, map(normalize_label, a.labels))))
        unknown = [n for n in dict.fromkeys(filter(None, map(normalize_label, a.unknown))) if n not in labels]
        return (
            a.id, splits.stable_hash(a.id, self._salt), a.image, _dump(labels), _dump(unknown), a.split, a.group,
            _dump(a.columns), self._file(a.source.file), a.source.row,
        )  # fmt: skip

    def add_images(self, images: Iterable[files.ListedFile]) -> int:
        """Stores the listing of the image folder; returns how many image files it has."""
        self._db.executemany(
            "INSERT OR IGNORE INTO images VALUES (?, ?, ?)",
            ((path, os.path.splitext(path)[0], size) for path, size in images),
        )
        self._db.execute("CREATE INDEX images_by_stem ON images (stem)")
        return sum(files.is_image_name(path) for (path,) in self._db.execute("SELECT path FROM images"))

    def _file(self, name: str) -> int:
        if name not in self._sources:
            self._sources[name] = len(self._sources)
            self._db.execute("INSERT INTO sources VALUES (?, ?)", (self._sources[name], name))
        return self._sources[name]

    # Duplicates

    def duplicate_groups(self) -> Iterator[list[tuple[int, list[str], list[str], Source]]]:
        """For each id that stands on several rows: (seq, labels, unknown, source) of its rows, in file order."""
        query = (
            "SELECT id, seq, labels, unknown, name, row FROM rows JOIN sources USING (file) WHERE id IN "
            "(SELECT id FROM rows GROUP BY id HAVING count(*) > 1) ORDER BY id, seq"
        )
        for _, group in itertools.groupby(self._db.execute(query), key=lambda values: values[0]):
            yield [(s, json.loads(x), json.loads(u), Source(name, row)) for _, s, x, u, name, row in group]

    def replace_labels(self, seq: int, labels: list[str], unknown: list[str]) -> None:
        """Gives a row other labels."""
        self._db.execute("UPDATE rows SET labels = ?, unknown = ? WHERE seq = ?", (_dump(labels), _dump(unknown), seq))

    # Rejects

    def reject(self, rejects: Iterable[Reject]) -> None:
        """Lists rows (by their source) as rejected; it does not remove them from the rows."""
        self._db.executemany(
            "INSERT INTO rejects VALUES (?, ?, ?, ?, ?)",
            [(self._file(r.source.file), r.source.row, r.id, r.reason, r.detail) for r in rejects],
        )

    def reject_rows(self, rows: Iterable[tuple[int, str, str]]) -> None:
        """Removes rows, given as (seq, reason, detail), and lists them as rejected."""
        for seq, reason, detail in rows:
            self._db.execute(
                "INSERT INTO rejects SELECT file, row, id, ?, ? FROM rows WHERE seq = ?",
                (reason, detail, seq),
            )
            self._db.execute("DELETE FROM rows WHERE seq = ?", (seq,))

    def rejects(self) -> Iterator[Reject]:
        """Everything rejected so far, in the order of the sources."""
        query = "SELECT name, row, id, reason, detail FROM rejects JOIN sources USING (file) ORDER BY file, row, reason"
        for name, row, id_, reason, detail in self._db.execute(query):
            yield Reject(Source(name, row), id_, reason, detail)

    # Joining with the images

    def join_images(self) -> None:
        """Finds each row's image: the file of that very path, or the only one that has it as its stem."""
        self._db.execute(
            "UPDATE rows SET (path, size) = (SELECT path, size FROM images WHERE images.path = rows.image)"
            " WHERE image IN (SELECT path FROM images)"
        )
        self._db.execute(
            "UPDATE rows SET (path, size) = (SELECT path, size FROM images WHERE stem = rows.image)"
            " WHERE path IS NULL AND 1 = (SELECT count(*) FROM images WHERE stem = rows.image)"
        )

    def use_image_names(self) -> None:
        """Takes the image names as they stand, for folders that are not listed."""
        self._db.execute("UPDATE rows SET path = image")

    def rows_without_image(self) -> Iterator[tuple[int, str, list[str]]]:
        """Rows whose image was not found: (seq, image name, files that have it as their stem)."""
        rows = self._db.execute("SELECT seq, image FROM rows WHERE path IS NULL ORDER BY seq").fetchall()
        for seq, image in rows:
            stems = self._db.execute("SELECT path FROM images WHERE stem = ? ORDER BY path", (image,))
            yield seq, image, [path for (path,) in stems]

    def images_without_row(self) -> Iterator[str]:
        """Image files that no row names, in order."""
        query = (
            "SELECT path FROM images WHERE path NOT IN (SELECT path FROM rows WHERE path IS NOT NULL)"
            " AND path NOT IN (SELECT image FROM rows) ORDER BY path"
        )
        return (path for (path,) in self._db.execute(query) if files.is_image_name(path))

    # Labels and splits

    def labels(self) -> Iterator[tuple[int, list[str], list[str]]]:
        """(seq, labels, unknown) of every row."""
        for seq, labels, unknown in self._db.execute("SELECT seq, labels, unknown FROM rows ORDER BY seq"):
            yield seq, json.loads(labels), json.loads(unknown)

    def assign_splits(self, ratios: splits.SplitRatios) -> int:
        """Fills in the split of each row: its own in TFDS's words, or the one that its id's or group's hash gives.

        Returns how many rows the hash placed.
        """
        self._db.create_function("own_split", 1, splits.normalize_split, deterministic=True)
        self._db.create_function("hash_split", 1, lambda key: ratios.choose(key, self._salt), deterministic=True)
        self._db.execute("UPDATE rows SET split = own_split(split) WHERE split IS NOT NULL")
        query = "UPDATE rows SET split = hash_split(coalesce('group:' || grp, id)) WHERE split IS NULL"
        return self._db.execute(query).rowcount

    def split_sizes(self) -> dict[str, tuple[int, int]]:
        """Split name to (rows, bytes of their image files)."""
        query = "SELECT split, count(*), sum(size) FROM rows GROUP BY split ORDER BY split"
        return {split: (count, size) for split, count, size in self._db.execute(query)}

    def spread_groups(self) -> list[tuple[str, str]]:
        """Groups that the source itself puts into several splits: (group, the splits)."""
        query = (
            "SELECT grp, group_concat(DISTINCT split) FROM rows WHERE grp IS NOT NULL GROUP BY grp"
            " HAVING count(DISTINCT split) > 1 ORDER BY grp"
        )
        return self._db.execute(query).fetchall()

    def in_hash_order(self, split: str) -> Iterator[tuple[bytes, Row]]:
        """The rows of a split with their hashes, in the order of the hash."""
        query = (
            "SELECT hash, seq, id, path, size, labels, unknown, columns, name, row"
            " FROM rows JOIN sources USING (file) WHERE split = ? ORDER BY hash, id"
        )
        for hash_, seq, id_, path, size, labels, unknown, columns, file, row in self._db.execute(query, (split,)):
            labels, unknown, columns = json.loads(labels), json.loads(unknown), json.loads(columns)
            yield hash_, Row(seq, id_, path, size, labels, unknown, columns, Source(file, row))


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _batched(items: Iterable) -> Iterator[list]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, _BATCH)):
        yield batch
