"""Label names and their ids: one order, fixed by the conversion, the same everywhere after it."""

import collections
import csv
import dataclasses
import functools
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from tfr import files
from tfr.errors import AnnotationError, UsageError

# What cannot stand in a label: files of labels have one a line, and a byte order mark is no part of a name.
_LINE_BREAKS = re.compile(r"[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+|\ufeff")
_NOT_COMPARED = re.compile(r"[\s_\-\u00ad\u200b-\u200f\u2060]+")


@functools.lru_cache(maxsize=1 << 16)
def normalize_label(name: str) -> str:
    """A label's name as it is compared and stored: Unicode NFC, line breaks and tabs as blanks, trimmed."""
    return _LINE_BREAKS.sub(" ", unicodedata.normalize("NFC", name)).strip()


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The labels of a dataset.

    Attributes:
      names: the names in the order of their ids.
    """

    names: tuple[str, ...]

    @functools.cached_property
    def ids(self) -> dict[str, int]:
        """Name to id."""
        return {name: i for i, name in enumerate(self.names)}

    def encode(self, names: Iterable[str]) -> list[int]:
        """Ids of those names that are in the vocabulary, ascending and without repeats."""
        return sorted({self.ids[name] for name in names if name in self.ids})


def build_vocabulary(
    counts: collections.Counter[str],
    *,
    labels_file: str | None = None,
    labels: Sequence[str] = (),
    min_count: int = 1,
    exclude: Sequence[str] = (),
    first: Sequence[str] = (),
) -> Vocabulary:
    """Chooses the labels of a dataset and their order.

    Args:
      counts: how many images carry each label (normalised names).
      labels_file: a text file, one label a line, that fixes membership and order. Default: every label that
        occurs, sorted by code point.
      labels: the same as a sequence.
      min_count: labels on fewer images are left out (not applied to fixed labels).
      exclude: labels to leave out.
      first: labels that have the first ids whatever their counts, in this order.

    Raises:
      UsageError: a label to exclude does not occur.
      AnnotationError: nothing is left, or the labels file is unusable.
    """
    excluded = {normalize_label(name) for name in exclude}
    fixed = read_labels_file(labels_file) if labels_file else list(dict.fromkeys(map(normalize_label, labels)))
    if absent := sorted(excluded - counts.keys() - set(fixed)):
        raise UsageError(f"--exclude_labels: {absent} do not occur. The labels are: {_some(sorted(counts))}.")
    if fixed:
        names = [name for name in fixed if name not in excluded]
    else:
        names = sorted(name for name, count in counts.items() if count >= min_count and name not in excluded)
    if first and fixed and tuple(names[: len(first)]) != tuple(first):
        raise AnnotationError(
            f"The fixed labels must begin with those that have ids already, in order: {_some(first)}."
        )
    names = [*first, *(name for name in names if name not in set(first))]
    if not names:
        raise AnnotationError(
            f"No labels are left of the {len(counts)} that occur: check --label_columns, --min_label_count "
            f"(now {min_count}), --exclude_labels and --labels_file."
        )
    return Vocabulary(tuple(names))


def read_labels_file(path: str) -> list[str]:
    """Reads label names, one a line, in the order of their ids.

    Raises:
      AnnotationError: the file is missing or empty, or a name stands in it twice.
    """
    if not files.exists(path):
        raise AnnotationError(f"No labels file at {path}.")
    with files.open_text(path, "utf-8-sig") as file:
        names = [name for name in (normalize_label(line) for line in file) if name]
    repeats = [name for name, count in collections.Counter(names).items() if count > 1]
    if repeats or not names:
        problem = f"names that stand in it more than once: {repeats}" if repeats else "no names in it"
        raise AnnotationError(f"{path}: {problem}. Give one label a line, each once.")
    return names


@dataclasses.dataclass(frozen=True)
class LabelMap:
    """Renames labels by a table.

    Attributes:
      targets: normalised name to what it becomes; '' drops it. Names that are not in it stay.
    """

    targets: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __call__(self, name: str) -> str:
        """The normalised and renamed label; '' where it is to be dropped."""
        name = normalize_label(name)
        return self.targets.get(name, name)

    def rename(self, names: Iterable[str]) -> list[str]:
        """Several labels, in order, without those that are dropped, each once."""
        return list(dict.fromkeys(filter(None, map(self, names))))


def read_label_map(path: str) -> LabelMap:
    """Reads a table of renames: CSV with the header `from,to`; an empty `to` drops the label.

    Several labels may become one. Renames are not chained: with a -> b and b -> c, a becomes b.

    Raises:
      AnnotationError: the file is missing, has another header, or a label is renamed twice.
    """
    if not files.exists(path):
        raise AnnotationError(f"No label map at {path}.")
    targets: dict[str, str] = {}
    with files.open_text(path, "utf-8-sig") as file:
        reader = csv.reader(file)
        header = [cell.strip().lower() for cell in next(reader, [])]
        if header != ["from", "to"]:
            raise AnnotationError(f"{path}:1: the header must be from,to. Received: {','.join(header)}")
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != 2 or not row[0].strip():
                raise AnnotationError(f"{path}:{reader.line_num}: expected a label and what it becomes, got {row}.")
            source, target = map(normalize_label, row)
            if targets.setdefault(source, target) != target:
                raise AnnotationError(
                    f"{path}:{reader.line_num}: {source!r} is renamed to {targets[source]!r} already."
                )
    return LabelMap(targets)


def look_alikes(names: Iterable[str]) -> list[list[str]]:
    """Groups of different labels that are equal but for case, blanks, hyphens, underscores and invisible characters."""
    groups: dict[str, list[str]] = collections.defaultdict(list)
    for name in sorted(names):
        key = _NOT_COMPARED.sub("", unicodedata.normalize("NFKC", name).casefold())
        groups[key or name].append(name)
    return [group for group in groups.values() if len(group) > 1]


def are_bare_numbers(names: Iterable[str]) -> bool:
    """Whether all labels are integers, as if the table that names them had been left out."""
    names = list(names)
    return bool(names) and all(re.fullmatch(r"-?\d+", name) for name in names)


def _some(names: Sequence[str], limit: int = 40) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(map(repr, names[:limit])) + more
