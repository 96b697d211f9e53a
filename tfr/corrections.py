"""Corrections: what a person says of single labels of single images, applied before labels and splits are chosen."""

import collections
import csv
import dataclasses
import difflib
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tfr import files, vocabulary
from tfr.errors import AnnotationError

PRESENT, ABSENT = "present", "absent"
_PRESENCE = {PRESENT: True, ABSENT: False}
_DECISIONS = {
    **dict.fromkeys(("yes", "y", "accept", "accepted", "true", "1"), True),
    **dict.fromkeys(("", "no", "n", "reject", "rejected", "false", "0"), False),
}
_SHOWN = 5

Labels = tuple[list[str], list[str], list[str] | None]  # present, unknown, absent: as in Annotation


class Correction(NamedTuple):
    """What is right of one label of one image, and the line of the file that says so."""

    label: str
    present: bool
    row: int


class Effect(NamedTuple):
    """What the corrections of a row did.

    Attributes:
      id: of the row.
      changed: labels that were changed.
      unchanged: labels that were as they should be.
      before, after: the labels that were present, and are now.
    """

    id: str
    changed: int
    unchanged: int
    before: list[str]
    after: list[str]


@dataclasses.dataclass(frozen=True)
class Corrections:
    """The corrections of a file.

    Attributes:
      path: the file; '' where there is none.
      digest: of its bytes.
      by_id: id to its corrections.
    """

    path: str = ""
    digest: str = ""
    by_id: Mapping[str, Sequence[Correction]] = dataclasses.field(default_factory=dict)

    def apply(
        self, id_: str, labels: Sequence[str], unknown: Sequence[str], absent: Sequence[str] | None
    ) -> tuple[Labels, Effect]:
        """Corrects what a row of this id says of labels, which are renamed already."""
        row: Labels = (list(labels), list(unknown), None if absent is None else list(absent))
        changed = 0
        corrections = self.by_id[id_]
        for label, present, _ in corrections:
            if _says(row, label) != present:
                row = _with(row, label, present)
                changed += 1
        return row, Effect(id_, changed, len(corrections) - changed, list(labels), row[0])


def _says(row: Labels, label: str) -> bool | None:
    """Whether a row has a label; None where it does not say."""
    labels, unknown, absent = row
    if label in labels:
        return True
    return None if label in unknown or (absent is not None and label not in absent) else False


def _with(row: Labels, label: str, present: bool) -> Labels:
    labels, unknown, absent = ([name for name in names or () if name != label] for names in row)
    if present:
        labels.append(label)
    elif row[2] is not None:
        absent.append(label)
    return labels, unknown, None if row[2] is None else absent


def read(path: str) -> Corrections:
    """Reads corrections from a CSV file with a header, in one of two forms.

    By hand: `id,label,present`, `present` being yes, no, true, false, 1, 0, present or absent. Reviewed: the
    `label_issues.csv` of `tfr errors`, with `id`, `label`, `suggested` ('present' or 'absent') and `decision`; rows
    with another decision than yes (y, accept, true, 1) are left out. In both a column `replaces` may name a label that
    goes when `label` comes: the way to change the one label of an image. Other columns are not looked at.

    Raises:
      AnnotationError: the file is missing or not such a one, two rows contradict each other, or none says anything.
    """
    if not files.exists(path):
        raise AnnotationError(f"No corrections at {path}.")
    data = files.read_bytes(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise AnnotationError(f"{path}: not UTF-8 (byte {err.start}). Save it as CSV in UTF-8.") from err
    by_id: dict[str, dict[str, Correction]] = collections.defaultdict(dict)
    delimiter = max(",;\t", key=text.partition("\n")[0].count)  # spreadsheets write what their country does
    for id_, correction in _rows(path, _cells(path, text, delimiter)):
        first = by_id[id_].setdefault(correction.label, correction)
        if first.present != correction.present:
            raise AnnotationError(
                f"{path}:{correction.row}: label {correction.label!r} of {id_!r} is to be "
                f"{ABSENT if first.present else PRESENT}, but row {first.row} says the opposite. Remove one of them."
            )
    if not by_id:
        raise AnnotationError(
            f"{path}: no row asks for a change. Write 'yes' into `decision` where a suggestion is right."
        )
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    return Corrections(path, digest, {id_: list(found.values()) for id_, found in by_id.items()})


def _cells(path: str, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV table, each with the number of its last line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        yield from ((reader.line_num, cells) for cells in reader)
    except csv.Error as err:
        raise AnnotationError(f"{path}:{reader.line_num}: not CSV: {err}.") from err


def _rows(path: str, table: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[str, Correction]]:
    header = [cell.strip().lower() for cell in next(table, (1, []))[1]]
    form = ("suggested", "decision") if "decision" in header else ("present",)
    if missing := [name for name in ("id", "label", *form) if name not in header]:
        raise AnnotationError(
            f"{path}:1: no column {', '.join(missing)}. Corrections have the columns id, label, present; or id, label, "
            f"suggested, decision. Received: {','.join(header)}"
        )
    replaced: dict[tuple[str, str], Correction] = {}
    for number, cells in table:
        if not any(cell.strip() for cell in cells):
            continue
        where = f"{path}:{number}"
        if len(cells) != len(header):
            raise AnnotationError(f"{where}: {len(cells)} cells, but the header has {len(header)}.")
        row = dict(zip(header, cells, strict=True))
        if form[0] == "suggested" and not _choice(where, "decision", row, _DECISIONS):
            continue
        present = _choice(where, form[0], row, _PRESENCE if form[0] == "suggested" else _PRESENCE | _YES_NO)
        label, old = (vocabulary.normalize_label(row.get(name, "")) for name in ("label", "replaces"))
        if not row["id"] or not label:
            raise AnnotationError(f"{where}: the {'label' if row['id'] else 'id'} is empty; a correction names both.")
        correction = Correction(label, present, number)
        yield row["id"], correction
        if old and present:
            other = replaced.setdefault((row["id"], old), correction)
            if other.label != label:
                raise AnnotationError(
                    f"{where}: {old!r} of {row['id']!r} is replaced by {other.label!r} in row {other.row} already. "
                    "Remove one of them."
                )
            yield row["id"], Correction(old, False, number)


_YES_NO = {text: value for text, value in _DECISIONS.items() if text}


def _choice(where: str, column: str, row: Mapping[str, str], allowed: Mapping[str, bool]) -> bool:
    text = row[column].strip().lower()
    if text not in allowed:
        names = ", ".join(name for name in allowed if name)
        raise AnnotationError(f"{where}: {column} must be one of {names}. Received: {row[column]!r}")
    return allowed[text]


class Applied:
    """What corrections did to the rows, added up, and checks that all of them meant something.

    Attributes:
      num_changed, num_unchanged: labels that were changed, and that were as they should be.
    """

    def __init__(self, corrections: Corrections):
        self._corrections = corrections
        self._ids: set[str] = set()
        self._added: collections.Counter[str] = collections.Counter()
        self._removed: collections.Counter[str] = collections.Counter()
        self._resized: collections.Counter[int] = collections.Counter()  # labels now, of rows that had one
        self.num_changed = self.num_unchanged = 0

    def add(self, effect: Effect) -> None:
        """Counts what was done to a row."""
        before, after = set(effect.before), set(effect.after)
        self._ids.add(effect.id)
        self._added.update(after - before)
        self._removed.update(before - after)
        self.num_changed += effect.changed
        self.num_unchanged += effect.unchanged
        if len(before) == 1 != len(after):
            self._resized[len(after)] += 1

    def check_ids(self) -> None:
        """Raises AnnotationError where corrections name ids that are on no row."""
        absent = {id_: rows[0].row for id_, rows in self._corrections.by_id.items() if id_ not in self._ids}
        if absent:
            listed = ", ".join(f"{id_!r} (row {row})" for id_, row in list(absent.items())[:_SHOWN])
            more = ", ..." if len(absent) > _SHOWN else ""
            raise AnnotationError(
                f"{self._corrections.path}: ids that are on no row of the annotations ({len(absent)} in all): {listed}"
                f"{more}. Mend or remove them; ids are those of the dataset's records."
            )

    def check_labels(self, counts: Mapping[str, int], fixed: Iterable[str]) -> None:
        """Raises AnnotationError where corrections name labels that nothing else does.

        Args:
          counts: label to rows that carry it now; also those that are declared, or only known to be absent.
          fixed: labels that the dataset has in any case.
        """
        fixed = set(fixed)
        for id_, rows in self._corrections.by_id.items():
            for label, _, row in rows:
                others = counts.get(label, 0) - self._added[label] + self._removed[label]
                if others <= 0 and label not in fixed and (label not in counts or self._added[label]):
                    names = sorted(counts.keys() - self._added.keys() | fixed)
                    close = difflib.get_close_matches(label, names, n=1)
                    hint = f" Did you mean {close[0]!r}?" if close else ""
                    raise AnnotationError(
                        f"{self._corrections.path}:{row}: nothing is labelled {label!r} but by this correction of "
                        f"{id_!r}.{hint} A label that is new has to be named in --labels_file."
                    )

    def check_label_mode(self, label_mode: str, per_row: Mapping[int, int], is_partial: bool) -> None:
        """Raises AnnotationError where images of a single-label dataset would have another number of labels.

        Args:
          label_mode: of the config; 'auto': single where rows have one label each but for corrected ones.
          per_row: number of labels to rows with so many, after the corrections.
          is_partial: whether some labels of a row are known and others are not; then 'auto' is not single.
        """
        rest = {num for num, num_rows in per_row.items() if num_rows > self._resized[num]}
        looks_single = label_mode == "auto" and rest == {1} and not is_partial
        if self._resized and (label_mode == "single" or looks_single):
            raise AnnotationError(
                f"{self._corrections.path}: images have one label each, but corrected ones would have another number "
                f"({self._resized.total()} of them). Name the label that goes in a column `replaces`, or say "
                "--label_mode=multi."
            )

    def to_json(self) -> dict[str, Any]:
        """What conversion.json says; empty where there is no file."""
        if not self._corrections.path:
            return {}
        return {
            "file": self._corrections.path,
            "digest": self._corrections.digest,
            "images": len(self._ids),
            "changed": self.num_changed,
            "unchanged": self.num_unchanged,
        }
