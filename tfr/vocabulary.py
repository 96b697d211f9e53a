"""Label names and their ids: one order, fixed by the conversion, the same everywhere after it."""

import collections
import dataclasses
import functools
import unicodedata
from collections.abc import Iterable, Sequence

from tfr import files
from tfr.errors import AnnotationError, UsageError


@functools.lru_cache(maxsize=1 << 16)
def normalize_label(name: str) -> str:
    """A label's name as it is compared and stored: Unicode NFC, inner runs of whitespace as one blank, trimmed."""
    return " ".join(unicodedata.normalize("NFC", name).split())


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
    min_count: int = 1,
    exclude: Sequence[str] = (),
) -> Vocabulary:
    """Chooses the labels of a dataset and their order.

    Args:
      counts: how many images carry each label (normalised names).
      labels_file: a text file, one label a line, that fixes membership and order. Default: every label that
        occurs, sorted by code point.
      min_count: labels on fewer images are left out (not applied to a labels file).
      exclude: labels to leave out.

    Raises:
      UsageError: a label to exclude does not occur.
      AnnotationError: nothing is left, or the labels file is unusable.
    """
    excluded = {normalize_label(name) for name in exclude}
    if absent := sorted(excluded - counts.keys()):
        raise UsageError(f"--exclude_labels: {absent} do not occur. The labels are: {sorted(counts)}.")
    if labels_file:
        names = [name for name in read_labels_file(labels_file) if name not in excluded]
    else:
        names = sorted(name for name, count in counts.items() if count >= min_count and name not in excluded)
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


def look_alikes(names: Iterable[str]) -> list[list[str]]:
    """Groups of different labels that are equal but for case and punctuation between words."""
    groups: dict[str, list[str]] = collections.defaultdict(list)
    for name in sorted(names):
        groups["".join(c for c in name.casefold() if c.isalnum()) or name].append(name)
    return [group for group in groups.values() if len(group) > 1]
