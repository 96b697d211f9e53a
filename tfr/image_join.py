"""Rows and the files of the image folder joined by path, by stem, and by names that are alike (SQLite, or a group)."""

import collections
import itertools
import os
import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tfr import files

_BATCH = 20_000


class JoinedGroup(NamedTuple):
    """What `join_group` found for each image name: its file and whether that is one under a similar name.

    `stems` maps a stem to the files that have it, `without_row` has the image files that no name asks for.
    """

    paths: list[str | None]
    similar: list[bool]
    stems: dict[str, list[str]]
    without_row: list[str]


def group_key(path: str) -> str:
    """A key that a name shares with every file that it may mean: folded, without extensions of images."""
    key = _fold(path)
    while files.is_image_name(key):
        key = os.path.splitext(key)[0]
    return key


def join_group(names: Sequence[str], images: Mapping[str, int]) -> JoinedGroup:
    """Joins the image names of all rows of one group with all files of that group, as `ImageJoin` joins all of them.

    Args:
      names: what the rows call their images.
      images: path to size of the files.
    """
    stems: dict[str, list[str]] = collections.defaultdict(list)
    for path in sorted(images):
        if (stem := _image_stem(path)) is not None:
            stems[stem].append(path)
    paths = [_exact(name, images, stems) for name in names]
    left, taken = [i for i, path in enumerate(paths) if path is None], set(paths)
    similar = [False] * len(names)
    folded: dict[str, set[str]] = collections.defaultdict(set)
    for path in images.keys() - taken if left else ():
        for alias in (path, _image_stem(path)):
            if alias is not None:
                folded[_fold(alias)].add(path)
    num_folded = collections.Counter(_fold(names[i]) for i in left)
    for i in left:
        found = folded.get(_fold(names[i]), set())
        if len(found) == 1 and num_folded[_fold(names[i])] == 1:
            (paths[i],), similar[i] = found, True
    without_row = [path for path in sorted(images.keys() - set(paths)) if files.is_image_name(path)]
    return JoinedGroup(paths, similar, stems, without_row)


def _exact(name: str, images: Mapping[str, int], stems: Mapping[str, list[str]]) -> str | None:
    if name in images or name.startswith(files.RECORD_SCHEME):
        return name
    return stems[name][0] if len(stems.get(name, ())) == 1 else None


def size_of(path: str, images: Mapping[str, int]) -> int:
    """The bytes of an image file of a group, or of an image inside a file of records."""
    return images[path] if path in images else _record_size(path)


def _record_size(uri: str) -> int:
    return int(uri.rpartition("+")[2])


class ImageJoin:
    """The image folder's files beside the table `rows` of a RowStore, whose `path` and `size` it fills in."""

    def __init__(self, db: sqlite3.Connection):
        """Makes the tables for the images in the row store's database."""
        self._db = db
        db.execute("CREATE TABLE images (path TEXT PRIMARY KEY, size INTEGER) WITHOUT ROWID")
        db.create_function("fold", 1, _fold, deterministic=True)
        db.create_function("stem", 1, _image_stem, deterministic=True)
        db.create_function("record_size", 1, _record_size, deterministic=True)

    def add(self, listed: Iterable[files.ListedFile]) -> int:
        """Stores the listing of the image folder; returns how many image files it has."""
        num_images, iterator = 0, iter(listed)
        while batch := list(itertools.islice(iterator, _BATCH)):
            self._db.executemany("INSERT OR IGNORE INTO images VALUES (?, ?)", batch)
            num_images += sum(files.is_image_name(path) for path, _ in batch)
        return num_images

    def join(self) -> None:
        """Finds each row's image: the file of that very path, or the only one that has it as its stem."""
        # Images inside TFRecord files are where the row says.
        pattern = f"{files.RECORD_SCHEME}*"
        self._db.execute("UPDATE rows SET path = image, size = record_size(image) WHERE image GLOB ?", (pattern,))
        self._db.execute(
            "UPDATE rows SET path = images.path, size = images.size FROM images"
            " WHERE images.path = rows.image AND rows.path IS NULL"
        )
        if not self._is_complete():
            # Only images are found by their stem: a.txt beside a.jpg is not what a row means by 'a'.
            self._db.execute(
                "CREATE TABLE stems AS SELECT stem(path) AS stem, path, size FROM images WHERE stem(path) IS NOT NULL"
            )
            self._db.execute("CREATE INDEX stems_by_stem ON stems (stem)")
            self._db.execute(
                "UPDATE rows SET (path, size) = (SELECT path, size FROM stems WHERE stem = rows.image)"
                " WHERE path IS NULL AND 1 = (SELECT count(*) FROM stems WHERE stem = rows.image)"
            )

    def join_similar(self) -> list[tuple[str, str]]:
        """Joins what is left where names differ only by case, Unicode form or slashes, and one row and one file do so.

        Returns:
          The first few of (image as the row has it, file).
        """
        if self._is_complete():
            return []
        for statement in _JOIN_SIMILAR:
            self._db.execute(statement)
        query = "SELECT image, path FROM similar JOIN rows USING (seq, path) ORDER BY seq LIMIT 3"
        return self._db.execute(query).fetchall()

    def use_names(self) -> None:
        """Takes the image names as they stand, for folders that are not listed."""
        self._db.execute("UPDATE rows SET path = image")

    def rows_without(self) -> Iterator[tuple[int, str, list[str]]]:
        """Rows whose image was not found: (seq, image name, files that have it as their stem)."""
        rows = self._db.execute("SELECT seq, image FROM rows WHERE path IS NULL ORDER BY seq").fetchall()
        for seq, image in rows:
            stems = self._db.execute("SELECT path FROM stems WHERE stem = ? ORDER BY path", (image,))
            yield seq, image, [path for (path,) in stems]

    def without_row(self) -> Iterator[str]:
        """Image files that no row names, in order."""
        query = (
            "SELECT path FROM images WHERE path NOT IN (SELECT path FROM rows WHERE path IS NOT NULL)"
            " AND path NOT IN (SELECT image FROM rows)"
            f" AND path NOT IN ({_RECORD_IDS}) AND coalesce(stem(path), path) NOT IN ({_RECORD_IDS}) ORDER BY path"
        )
        return (path for (path,) in self._db.execute(query) if files.is_image_name(path))

    def _is_complete(self) -> bool:
        return self._db.execute("SELECT 1 FROM rows WHERE path IS NULL LIMIT 1").fetchone() is None


# Ids whose images lie in records: those were made from the files of that name, where there are any.
_RECORD_IDS = f"SELECT id FROM rows WHERE image GLOB '{files.RECORD_SCHEME}*'"

# Rows and files that are left over and alone in having their folded name. Statements and no script: a script commits.
_JOIN_SIMILAR = (
    "CREATE TEMP TABLE lone_rows AS SELECT fold(image) AS key, min(seq) AS seq FROM rows WHERE path IS NULL"
    " GROUP BY key HAVING count(*) = 1",
    "CREATE TEMP TABLE free_images AS SELECT path, size FROM images"
    " WHERE path NOT IN (SELECT path FROM rows WHERE path IS NOT NULL)",
    "CREATE TEMP TABLE folded AS SELECT fold(path) AS key, path, size FROM free_images"
    " UNION SELECT fold(stem(path)), path, size FROM free_images WHERE stem(path) IS NOT NULL",
    "CREATE INDEX temp.folded_by_key ON folded (key)",
    "CREATE TEMP TABLE similar AS SELECT seq, min(path) AS path, size FROM lone_rows JOIN folded USING (key)"
    " GROUP BY seq HAVING count(*) = 1",
    "CREATE INDEX temp.similar_by_seq ON similar (seq)",
    "UPDATE rows SET (path, size) = (SELECT path, size FROM similar WHERE similar.seq = rows.seq)"
    " WHERE seq IN (SELECT seq FROM similar)",
)


def _image_stem(path: str) -> str | None:
    """The path of an image file without its extension; None for other files."""
    return os.path.splitext(path)[0] if files.is_image_name(path) else None


def _fold(path: str) -> str:
    """A path as it is compared when case, Unicode form and the kind of slash are not."""
    return unicodedata.normalize("NFC", path).casefold().replace("\\", "/")
