"""Annotation rows in a temporary SQLite file: joined with images, counted and sorted in flat memory."""

import collections
import functools
import itertools
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from tfr import splits, stratification
from tfr.annotations import Annotation, Event, LabelSet, Note, RejectedRow, Source
from tfr.errors import AnnotationError
from tfr.image_join import ImageJoin
from tfr.manifests import dump
from tfr.vocabulary import LabelMap, Vocabulary

_SCHEMA = """
CREATE TABLE sources (file INTEGER PRIMARY KEY, name TEXT UNIQUE);
CREATE TABLE label_sets (label_set INTEGER PRIMARY KEY, labels TEXT, unknown TEXT, absent TEXT, fields TEXT);
CREATE TABLE rows (
    seq INTEGER PRIMARY KEY, id TEXT, hash BLOB, image TEXT, label_set INTEGER, split TEXT, grp TEXT, columns TEXT,
    file INTEGER, row INTEGER, path TEXT, size INTEGER NOT NULL DEFAULT 0);
CREATE TABLE rejects (file INTEGER, row INTEGER, id TEXT, reason TEXT, detail TEXT);
"""
_BATCH = 20_000


class LabelsOfRow(NamedTuple):
    """What a row says of labels; `absent` as in Annotation."""

    seq: int
    labels: list[str]
    unknown: list[str]
    absent: list[str] | None
    source: Source


class GroupedRow(NamedTuple):
    """A row's image (its path, and its bytes where known), and the group that the source names."""

    seq: int
    path: str
    size: int
    group: str | None


class Reject(NamedTuple):
    """One row that became no example, and why."""

    source: Source
    id: str
    reason: str
    detail: str


class RowStore:
    """The rows of one conversion. Use as a context manager: its file is removed at the end."""

    def __init__(self, salt: str, label_map: LabelMap | None = None):
        """Opens an empty store.

        Args:
          salt: goes into the hash that orders the rows.
          label_map: how labels are renamed before they are stored.
        """
        self._salt, self._rename = salt, (label_map or LabelMap()).rename
        self._sources: dict[str, int] = {}
        self._hash_id = splits.Hasher(salt)
        # Rows share few sets of labels; each is renamed and stored once, or once more where there are very many.
        self._label_set = functools.lru_cache(maxsize=1 << 16)(self._add_label_set)
        self._num_label_sets = 0
        self._new_label_sets: list[tuple] = []
        self.declared_labels: set[str] = set()
        self.notes: list[str] = []
        # Without a name: SQLite keeps it in memory as long as the cache holds it, then in a file that it unlinks at
        # once, so that a killed process leaves none.
        self._db = sqlite3.connect("", isolation_level=None)
        # Nothing here outlives the process: no journal, no syncing, one transaction.
        self._db.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536;")
        self._db.executescript(_SCHEMA)
        self._db.execute("BEGIN")
        self.images = ImageJoin(self._db)

    def __enter__(self) -> "RowStore":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._db.close()

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
            self.declared_labels.update(self._rename(declared))
            self.notes += [event.text for event in others if isinstance(event, Note)]
            total += len(rows) + len(rejected)
        self._db.execute("CREATE INDEX rows_by_id ON rows (id)")
        return total

    def _insert(self, rows: list[Annotation]) -> None:
        hash_id, label_set, file = self._hash_id, self._label_set, self._file
        try:
            values = [
                (
                    a.id, hash_id(a.id), a.image, label_set(a.labels, a.unknown, a.absent), a.split, a.group,
                    dump(a.columns) if a.columns else "{}", file(a.source[0]), a.source[1],
                )
                for a in rows
            ]  # fmt: skip
            self._store_label_sets()
            self._db.executemany(
                "INSERT INTO rows (id, hash, image, label_set, split, grp, columns, file, row) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )
        except UnicodeEncodeError as err:  # only a DataFrame can hold such text
            raise AnnotationError(f"A row holds half of a character: {err.object[:80]!r}. Mend it.") from err

    def _add_label_set(self, labels: tuple[str, ...], unknown: tuple[str, ...], absent: tuple[str, ...] | None) -> int:
        """The number of what a row says of labels, renamed; `_store_label_sets` stores it."""
        sets = (None if names is None else dump(self._rename(names)) for names in (labels, unknown, absent))
        self._new_label_sets.append((self._num_label_sets, *sets))
        self._num_label_sets += 1
        return self._num_label_sets - 1

    def _store_label_sets(self) -> None:
        self._db.executemany("INSERT INTO label_sets VALUES (?, ?, ?, ?, NULL)", self._new_label_sets)
        self._new_label_sets.clear()

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
            "SELECT id, seq, labels, unknown, absent, name, row FROM rows JOIN sources USING (file)"
            " JOIN label_sets USING (label_set)"
            " WHERE id IN (SELECT id FROM repeats WHERE rowid > ? AND rowid <= ?) ORDER BY id, seq"
        )
        (last,) = self._db.execute("SELECT coalesce(max(rowid), 0) FROM repeats").fetchone()
        for start in range(0, last, _BATCH):
            found = self._db.execute(query, (start, start + _BATCH)).fetchall()
            for _, group in itertools.groupby(found, key=lambda values: values[0]):
                yield [
                    LabelsOfRow(seq, json.loads(labels), json.loads(unknown), _load(absent), Source(name, row))
                    for _, seq, labels, unknown, absent, name, row in group
                ]

    def rows_of_ids(self, ids: Iterable[str]) -> Iterator[tuple[str, LabelsOfRow]]:
        """The rows of those ids that there are, with their ids; rows that were given may be changed meanwhile."""
        query = (
            "SELECT seq, labels, unknown, absent, name, row FROM rows JOIN sources USING (file)"
            " JOIN label_sets USING (label_set) WHERE id = ? ORDER BY seq"
        )
        for id_ in ids:
            for seq, labels, unknown, absent, name, row in self._db.execute(query, (id_,)).fetchall():
                yield id_, LabelsOfRow(seq, json.loads(labels), json.loads(unknown), _load(absent), Source(name, row))

    def replace_labels(self, seq: int, labels: list[str], unknown: list[str], absent: list[str] | None) -> None:
        """Gives a row other labels, renamed already."""
        sets = (None if names is None else dump(names) for names in (labels, unknown, absent))
        self._db.execute("INSERT INTO label_sets VALUES (?, ?, ?, ?, NULL)", (self._num_label_sets, *sets))
        self._db.execute("UPDATE rows SET label_set = ? WHERE seq = ?", (self._num_label_sets, seq))
        self._num_label_sets += 1

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

    # Labels and splits

    def label_sets(self) -> Iterator[tuple[int, list[str], list[str], list[str] | None]]:
        """What rows say of labels: (number of rows, labels, unknown, absent), possibly the same several times."""
        query = (
            "SELECT num, labels, unknown, absent FROM label_sets JOIN"
            " (SELECT label_set, count(*) AS num FROM rows GROUP BY label_set) USING (label_set)"
        )
        for num_rows, labels, unknown, absent in self._db.execute(query):
            yield num_rows, json.loads(labels), json.loads(unknown), _load(absent)

    def rows_of_other_size(self, chosen: Vocabulary, num_labels: int) -> Iterator[tuple[int, list[str], int]]:
        """Rows that have not this number of the chosen labels: (seq, all labels, number of chosen ones)."""
        self._db.create_function("num_chosen", 1, lambda text: len(chosen.encode(json.loads(text))), deterministic=True)
        query = (
            "SELECT seq, labels, num FROM rows JOIN (SELECT label_set, labels, num_chosen(labels) AS num FROM"
            " label_sets) USING (label_set) WHERE num != ? ORDER BY seq"
        )
        for seq, labels, num in self._db.execute(query, (num_labels,)):
            yield seq, json.loads(labels), num

    def num_rows(self) -> int:
        """How many rows there are."""
        return self._db.execute("SELECT count(*) FROM rows").fetchone()[0]

    def grouped_rows(self) -> Iterator[GroupedRow]:
        """All rows in the order of their images' paths."""
        query = "SELECT seq, path, size, grp FROM rows ORDER BY path, seq"
        return (GroupedRow(*values) for values in self._db.execute(query))

    def set_groups(self, groups: Iterable[tuple[str, int]]) -> None:
        """Gives rows, named by (group, seq), another group."""
        self._db.executemany("UPDATE rows SET grp = ? WHERE seq = ?", groups)

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
                "source, leave --group_column or --group_near_duplicates out, or forget its splits with "
                "--ignore_splits (records of --append_to keep theirs)."
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
        self._db.create_function("hash_split", 1, ratios.chooser(self._salt), deterministic=True)
        query = f"UPDATE rows SET split = hash_split({_UNIT}) WHERE split IS NULL"
        return self._db.execute(query).rowcount

    def stratify_splits(self, ratios: splits.SplitRatios, chosen: Vocabulary) -> int:
        """Gives the rows without a split one such that each label keeps its share; returns how many rows."""
        self._db.create_function("unit_hash", 1, self._hash_id, deterministic=True)
        query = (
            f"SELECT {_UNIT} AS unit, labels FROM rows JOIN label_sets USING (label_set) WHERE split IS NULL"
            " ORDER BY unit_hash(unit), unit"
        )
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

    def limit_splits(self, limit: int | None) -> None:
        """Leaves so many rows of each split, the first ones in the order of their hashes; None leaves all."""
        if limit is None:
            return
        query = "SELECT seq, row_number() OVER (PARTITION BY split ORDER BY hash, id) AS place FROM rows"
        rest = self._db.execute(f"SELECT seq FROM ({query}) WHERE place > ? ORDER BY seq", (limit,)).fetchall()
        detail = f"not among the first {limit} of its split (--max_examples_per_split)"
        self.reject_rows([(seq, "over_limit", detail) for (seq,) in rest])

    def split_sizes(self) -> dict[str, tuple[int, int]]:
        """Split name to (rows, bytes of their image files)."""
        query = "SELECT split, count(*), sum(size) FROM rows GROUP BY split ORDER BY split"
        return {split: (count, size) for split, count, size in self._db.execute(query)}

    def encode_labels(self, encode: Callable[..., str]) -> None:
        """Turns what rows say of labels (labels, unknown, absent) into the text that `in_hash_order` gives."""

        def fields(labels: str, unknown: str, absent: str | None) -> str:
            return encode(json.loads(labels), json.loads(unknown), _load(absent))

        self._db.create_function("encode_labels", 3, fields, deterministic=True)
        self._db.execute("UPDATE label_sets SET fields = encode_labels(labels, unknown, absent)")

    def in_hash_order(self, split: str) -> Iterator[tuple[bytes, str, str, int, str, str, str, int]]:
        """The rows of a split in the order of their hashes.

        Yields:
          (hash, id, path, bytes of the image file, text of the labels, JSON of the columns, file, row).
        """
        query = (
            "SELECT hash, id, path, size, fields, columns, name, row FROM rows JOIN sources USING (file)"
            " JOIN label_sets USING (label_set) WHERE split = ? ORDER BY hash, id"
        )
        return self._db.execute(query, (split,))


# What goes to one split as a whole, as splits.unit_key has it.
_UNIT = "CASE WHEN grp IS NULL THEN id ELSE 'group:' || grp END"


def _unit(rows: list[list[int]]) -> stratification.Unit:
    counts = collections.Counter(itertools.chain.from_iterable(rows))
    return stratification.Unit(len(rows), tuple(counts.items()))


def _load(text: str | None) -> list[str]:
    return None if text is None else json.loads(text)  # type: ignore[return-value]


def _batched(items: Iterable) -> Iterator[list]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, _BATCH)):
        yield batch
