"""What travels through the jobs of planning, and what they report."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from tfr import files
from tfr.annotations.parts import Table
from tfr.config import ConvertConfig
from tfr.corrections import Corrections
from tfr.label_choice import LabelsFound
from tfr.vocabulary import LabelMap

Place = tuple[int, int]  # of a row: number of the part of the table, and line in it, from 1

_KEPT = {"duplicate": 1, "missing": 1, "similar": 3}  # kinds of elements of which the first few are enough


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """What the steps have in common.

    Attributes:
      config: the conversion.
      table: its annotations.
      label_map: how labels are renamed.
      work_dir: the folder of the files between jobs.
      num_partitions: files that the rows are spread over.
      corrections: of labels of some ids.
    """

    config: ConvertConfig
    table: Table
    label_map: LabelMap
    work_dir: str
    num_partitions: int
    corrections: Corrections = dataclasses.field(default_factory=Corrections)

    def path(self, kind: str, number: int) -> str:
        """The file of a kind, of a part or a partition."""
        return f"{self.work_dir}/{kind}-{number:05d}.json"


class Row(NamedTuple):
    """A row on its way; fields as in Annotation, and its image's file once that is found."""

    place: Place
    id: str
    image: str
    labels: list[str]
    unknown: list[str]
    absent: list[str] | None
    split: str | None
    group: str | None
    columns: str
    path: str | None = None
    size: int = 0
    is_split_own: bool = True  # whether the source names the split


class Rejected(NamedTuple):
    """A row that became none; the detail ends in the number of the row at `other`, where there is one."""

    place: Place
    id: str
    reason: str
    detail: str
    other: Place | None = None


class PartitionReport:
    """What there is to say of the elements of one or several partitions.

    Attributes:
      sizes: split name to [rows, bytes of their images, rows whose source names no split].
      labels: what the rows say of labels.
      others: kind of element to the elements of that kind, without it.
      num_duplicates: ids that stand on several rows.
    """

    def __init__(self) -> None:
        self.sizes: dict[str, list[int]] = {}
        self.labels = LabelsFound()
        self.others: dict[str, list] = {"part": [], "reject": [], "without_row": [], "error": []}
        self.others |= {"missing": [], "similar": [], "duplicate": [], "partition": [], "corrected": []}
        self.num_duplicates = 0

    def add_row(self, row: Row) -> None:
        """Counts a row that is to become an example."""
        self._add_size(row.split or "", [1, row.size, not row.is_split_own])

    def _add_size(self, split: str, size: list[int]) -> None:
        self.sizes[split] = [a + b for a, b in zip(self.sizes.get(split, [0, 0, 0]), size, strict=True)]

    def add(self, kind: str, values: list) -> None:
        """Takes note of an element that is no row; of some kinds the first few are enough."""
        self.others[kind].append(values)
        if kind == "duplicate":
            self.num_duplicates += 1
        if kind in _KEPT:
            self.others[kind] = sorted(self.others[kind])[: _KEPT[kind]]

    def to_json(self) -> list[Any]:
        """For `add_json`."""
        return [self.sizes, self.labels.to_json(), self.others, self.num_duplicates]

    def add_json(self, report: list[Any]) -> None:
        """Adds what `to_json` gave of another partition."""
        sizes, labels, others, num_duplicates = report
        for split, size in sizes.items():
            self._add_size(split, size)
        self.labels.add_json(labels)
        for kind, elements in others.items():
            for values in elements:
                self.add(kind, values)
        self.num_duplicates += num_duplicates - len(others["duplicate"])


def read_lines(path: str) -> Iterator[list]:
    """The values of a file of JSON lines."""
    with files.open_binary(path) as file:
        for line in file:
            yield json.loads(line)
