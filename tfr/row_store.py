"""Annotation rows and image listings in a temporary SQLite file: joined, counted and sorted in flat memory."""

import collections
import functools
import itertools
import json
import os
import sqlite3
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from tfr import files, splits, stratification
from tfr.annotations import Annotation, Event, LabelSet, Note, RejectedRow, Source
from tfr.errors import AnnotationError
from tfr.vocabulary import Vocabulary, normalize_label

_SCHEMA = """
CREATE TABLE sources (file INTEGER PRIMARY KEY, name TEXT UNIQUE);
CREATE TABLE rows (
    seq INTEGER PRIMARY KEY, id TEXT, hash BLOB, image TEXT, labels TEXT, unknown TEXT, absent TEXT,
    split TEXT, grp TEXT, columns TEXT, file INTEGER, row INTEGER, path TEXT, size INTEGER NOT NULL DEFAULT 0);
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
    absent: list[str] | None  # as in Annotation
    columns: dict[str, str]
    source: Source


class LabelsOfRow(NamedTuple):
    """What a row says of labels; `absent` as in Annotation."""

    seq: int
    labels: list[str]
    unknown: list[str]
    absent: list[str] | None
    source: Source


class Reject(NamedTuple):
    """One row that became no example, and why."""

    source: Source
    id: str
    reason: str
    detail: str


class RowStore:
    """The rows of one conversion. Use as a context manager: its file is removed at the end."""

    def __init__(self, salt: str, rename: Callable[[str], str] = normalize_label):
        """Opens an empty store.

        Args:
          salt: goes into the hash that orders the rows.
          rename: from a label as it is read to the one that is stored; '' drops it.
        """
        self._salt, self._rename = salt, rename
        self._sources: dict[str, int] = {}
        self._hash_id = splits.Hasher(salt)
        # Rows share few sets of labels; each is renamed and written as JSON once.
        self._dump_labels = functools.lru_cache(maxsize=1 << 16)(self._rename_and_dump)
        self.declared_labels: set[str] = set()
        self.notes: list[str] = []
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
            rows = [event for event in batch if type(event) is Annotation]
            self._insert(rows)
            others = [event for event in batch if type(event) is not Annotation] if len(rows) < len(batch) else []
            rejected = [Reject(r.source, r.id, r.reason, r.detail) for r in others if isinstance(r, RejectedRow)]
            self.reject(rejected)
            declared = (name for event in others if isinstance(event, LabelSet) for name in event.names)
            self.declared_labels.update(filter(None, map(self._rename, declared)))
            self.notes += [event.text for event in others if isinstance(event, Note)]
            total += len(rows) + len(rejected)
        self._db.execute("CREATE INDEX rows_by_id ON rows (id)")
        return total

    def _insert(self, rows: list[Annotation]) -> None:
        dump, hash_id = self._dump_labels, self._hash_id
        try:
            values = [
                (
                    a.id, hash_id(a.id), a.image, dump(a.labels), dump(a.unknown),
                    None if a.absent is None else dump(a.absent), a.split, a.group,
                    _dump(a.columns) if a.columns else "{}", self._file(a.source[0]), a.source[1],
                )
                for a in rows
            ]  # fmt: skip
        except UnicodeEncodeError as err:  # only a DataFrame can hold such text
            raise AnnotationError(f"An id holds half of a character: {err.object[:80]!r}. Mend it.") from err
        self._db.executemany(
            "INSERT INTO rows (id, hash, image, labels, unknown, absent, split, grp, columns, file, row) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            values,
        )

    def _rename_and_dump(self, labels: tuple[str, ...]) -> str:
        return _dump(list(dict.fromkeys(filter(None, map(self._rename, labels)))))

    def add_images(self, images: Iterable[files.ListedFile]) -> int:
        """Stores the listing of the image folder; returns how many image files it has."""
        self._db.executemany(
            "INSERT OR IGNORE INTO images VALUES (?, ?, ?)",
            # Only images are found by their stem: a.txt beside a.jpg is not what a row means by 'a'.
            ((path, os.path.splitext(path)[0] if files.is_image_name(path) else None, size) for path, size in images),
        )
        self._db.execute("CREATE INDEX images_by_stem ON images (stem)")
        return sum(files.is_image_name(path) for (path,) in self._db.execute("SELECT path FROM images"))

    def _file(self, name: str) -> int:
        if name not in self._sources:
            self._sources[name] = len(self._sources)
            self._db.execute("INSERT INTO sources VALUES (?, ?)", (self._sources[name], name))
        return self._sources[name]

    # Duplicates

    def find_duplicates(self) -> int:
        """Lists the ids that stand on several rows; returns how many there are."""
        self._db.execute("CREATE TEMP TABLE repeats AS SELECT id FROM rows GROUP BY id HAVING count(*) > 1 ORDER BY id")
        return self._db.execute("SELECT count(*) FROM repeats").fetchone()[0]

    def duplicate_groups(self) -> Iterator[list[LabelsOfRow]]:
        """For each id that `find_duplicates` listed its rows in file order; the store may be changed meanwhile."""
        query = (
            "SELECT id, seq, labels, unknown, absent, name, row FROM rows JOIN sources USING (file) WHERE id IN "
            "(SELECT id FROM repeats WHERE rowid > ? AND rowid <= ?) ORDER BY id, seq"
        )
        (last,) = self._db.execute("SELECT coalesce(max(rowid), 0) FROM repeats").fetchone()
        for start in range(0, last, _BATCH):
            found = self._db.execute(query, (start, start + _BATCH)).fetchall()
            for _, group in itertools.groupby(found, key=lambda values: values[0]):
                yield [
                    LabelsOfRow(seq, json.loads(labels), json.loads(unknown), _load(absent), Source(name, row))
                    for _, seq, labels, unknown, absent, name, row in group
                ]

    def replace_labels(self, seq: int, labels: list[str], unknown: list[str], absent: list[str] | None) -> None:
        """Gives a row other labels."""
        self._db.execute(
            "UPDATE rows SET labels = ?, unknown = ?, absent = ? WHERE seq = ?",
            (_dump(labels), _dump(unknown), None if absent is None else _dump(absent), seq),
        )

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
        self._take_record_images()
        self._db.execute(
            "UPDATE rows SET (path, size) = (SELECT path, size FROM images WHERE images.path = rows.image)"
            " WHERE path IS NULL AND image IN (SELECT path FROM images)"
        )
        self._db.execute(
            "UPDATE rows SET (path, size) = (SELECT path, size FROM images WHERE stem = rows.image)"
            " WHERE path IS NULL AND 1 = (SELECT count(*) FROM images WHERE stem = rows.image)"
        )

    def _take_record_images(self) -> None:
        """Images inside TFRecord files are where the row says."""
        self._db.create_function("record_size", 1, lambda uri: int(uri.rpartition("+")[2]), deterministic=True)
        pattern = f"{files.RECORD_SCHEME}*"
        self._db.execute("UPDATE rows SET path = image, size = record_size(image) WHERE image GLOB ?", (pattern,))

    def join_similar_images(self) -> list[tuple[str, str]]:
        """Joins what is left where names differ only by case, Unicode form or slashes, and one row and one file do so.

        Returns:
          The first few of (image as the row has it, file).
        """
        if self._db.execute("SELECT 1 FROM rows WHERE path IS NULL LIMIT 1").fetchone() is None:
            return []
        self._db.create_function("fold", 1, _fold, deterministic=True)
        for statement in _JOIN_SIMILAR:
            self._db.execute(statement)
        query = "SELECT image, path FROM similar JOIN rows USING (seq, path) ORDER BY seq LIMIT 3"
        return self._db.execute(query).fetchall()

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

    def labels(self) -> Iterator[tuple[int, list[str], list[str], list[str] | None]]:
        """(seq, labels, unknown, absent) of every row."""
        load = functools.lru_cache(maxsize=1 << 16)(_load)  # rows share few sets of labels
        for seq, *values in self._db.execute("SELECT seq, labels, unknown, absent FROM rows ORDER BY seq"):
            labels, unknown, absent = map(load, values)
            yield seq, labels, unknown, absent

    def take_own_splits(self) -> None:
        """Puts the splits that the source names into TFDS's words; a row without one follows its group.

        Raises:
          AnnotationError: the source puts rows of one group into several splits.
        """
        self._db.create_function("own_split", 1, splits.normalize_split, deterministic=True)
        self._db.execute("UPDATE rows SET split = own_split(split) WHERE split IS NOT NULL")
        if self._db.execute("SELECT 1 FROM rows WHERE grp IS NOT NULL LIMIT 1").fetchone() is None:
            return
        self._db.execute("CREATE INDEX rows_by_group ON rows (grp)")
        if spread := self._spread_groups():
            examples = "; ".join(f"{group!r} in {names}" for group, names in spread[:5])
            raise AnnotationError(
                f"{len(spread)} groups are in several splits by the split that the source names: {examples}. Mend the "
                "source, leave --group_column out, or forget its splits with --ignore_splits."
            )
        self._db.execute(
            "UPDATE rows SET split = (SELECT r.split FROM rows r WHERE r.grp = rows.grp AND r.split IS NOT NULL)"
            " WHERE split IS NULL AND grp IS NOT NULL"
        )

    def _spread_groups(self) -> list[tuple[str, str]]:
        """Groups that the source itself puts into several splits: (group, the splits)."""
        query = (
            "SELECT grp, group_concat(DISTINCT split) FROM rows WHERE grp IS NOT NULL GROUP BY grp"
            " HAVING count(DISTINCT split) > 1 ORDER BY grp"
        )
        return self._db.execute(query).fetchall()

    def hash_splits(self, ratios: splits.SplitRatios) -> int:
        """Gives each row without a split the one that the hash of its group or id gives; returns how many."""
        self._db.create_function("hash_split", 1, lambda key: ratios.choose(key, self._salt), deterministic=True)
        query = f"UPDATE rows SET split = hash_split({_UNIT}) WHERE split IS NULL"
        return self._db.execute(query).rowcount

    def stratify_splits(self, ratios: splits.SplitRatios, chosen: Vocabulary) -> int:
        """Gives the rows without a split one such that each label keeps its share; returns how many rows."""
        self._db.create_function("unit_hash", 1, self._hash_id, deterministic=True)
        query = f"SELECT {_UNIT} AS unit, labels FROM rows WHERE split IS NULL ORDER BY unit_hash(unit), unit"
        encode = functools.lru_cache(maxsize=1 << 16)(lambda labels: chosen.encode(json.loads(labels)))
        names, units = [], []
        for name, group in itertools.groupby(self._db.execute(query), key=lambda values: values[0]):
            names.append(name)
            units.append(_unit([encode(labels) for _, labels in group]))
        self._db.execute("CREATE TEMP TABLE placed (unit TEXT PRIMARY KEY, split TEXT) WITHOUT ROWID")
        placed = zip(names, stratification.stratify(units, ratios.shares), strict=True)
        self._db.executemany("INSERT INTO placed VALUES (?, ?)", placed)
        query = f"UPDATE rows SET split = (SELECT split FROM placed WHERE unit = {_UNIT}) WHERE split IS NULL"
        return self._db.execute(query).rowcount

    def split_sizes(self) -> dict[str, tuple[int, int]]:
        """Split name to (rows, bytes of their image files)."""
        query = "SELECT split, count(*), sum(size) FROM rows GROUP BY split ORDER BY split"
        return {split: (count, size) for split, count, size in self._db.execute(query)}

    def in_hash_order(self, split: str) -> Iterator[tuple[bytes, Row]]:
        """The rows of a split with their hashes, in the order of the hash."""
        query = (
            "SELECT hash, seq, id, path, size, labels, unknown, absent, columns, name, row"
            " FROM rows JOIN sources USING (file) WHERE split = ? ORDER BY hash, id"
        )
        parse = functools.lru_cache(maxsize=1 << 14)(json.loads)  # the same few label sets come again and again
        for hash_, seq, id_, path, size, labels, unknown, absent, columns, file, row in self._db.execute(
            query, (split,)
        ):
            sets = parse(labels), parse(unknown), _load(absent)
            yield hash_, Row(seq, id_, path, size, *sets, parse(columns), Source(file, row))


# What goes to one split as a whole: the group, or the row alone.
_UNIT = "CASE WHEN grp IS NULL THEN id ELSE 'group:' || grp END"

# Rows and files that are left over and alone in having their folded name. Statements and no script: a script commits.
_JOIN_SIMILAR = (
    "CREATE TEMP TABLE lone_rows AS SELECT fold(image) AS key, min(seq) AS seq FROM rows WHERE path IS NULL"
    " GROUP BY key HAVING count(*) = 1",
    "CREATE TEMP TABLE free_images AS SELECT * FROM images"
    " WHERE path NOT IN (SELECT path FROM rows WHERE path IS NOT NULL)",
    "CREATE TEMP TABLE folded AS SELECT fold(path) AS key, path, size FROM free_images"
    " UNION SELECT fold(stem), path, size FROM free_images WHERE stem IS NOT NULL",
    "CREATE INDEX temp.folded_by_key ON folded (key)",
    "CREATE TEMP TABLE similar AS SELECT seq, min(path) AS path, size FROM lone_rows JOIN folded USING (key)"
    " GROUP BY seq HAVING count(*) = 1",
    "CREATE INDEX temp.similar_by_seq ON similar (seq)",
    "UPDATE rows SET (path, size) = (SELECT path, size FROM similar WHERE similar.seq = rows.seq)"
    " WHERE seq IN (SELECT seq FROM similar)",
)


def _unit(rows: list[list[int]]) -> stratification.Unit:
    counts = collections.Counter(itertools.chain.from_iterable(rows))
    return stratification.Unit(len(rows), tuple(counts.items()))


def _fold(path: str) -> str:
    """A path as it is compared when case, Unicode form and the kind of slash are not."""
    return unicodedata.normalize("NFC", path).casefold().replace("\\", "/")


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _load(text: str | None) -> list[str]:
    return None if text is None else json.loads(text)  # type: ignore[return-value]


def _batched(items: Iterable) -> Iterator[list]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, _BATCH)):
        yield batch
