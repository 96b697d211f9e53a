"""Splits in which every label keeps its share: iterative stratification of multi-label data.

The method is that of Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data" (ECML PKDD 2011):
the rarest label first, each of its examples to the split that lacks that label most. Here a unit is one example or a
whole group of them, labels are kept sparse, and ties go by the order of the units instead of chance, so that the
result is the same every time. (The packages that have it work on dense matrices and know no groups.)
"""

import heapq
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Unit(NamedTuple):
    """What must not be torn apart: its size in examples, and how many of them carry each label."""

    size: int
    labels: tuple[tuple[int, int], ...]  # (label id, examples)


def stratify(units: Sequence[Unit], shares: Mapping[str, float]) -> list[str]:
    """Chooses a split for each unit so that sizes and label counts of the splits come close to their shares.

    Args:
      units: in an order that does not depend on the file's, such as that of a hash: ties are broken by it.
      shares: split name to share; they sum to 1.

    Returns:
      The split of each unit.
    """
    return _Stratifier(units, shares).run()


class _Stratifier:
    def __init__(self, units: Sequence[Unit], shares: Mapping[str, float]):
        self._units, self._names = units, list(shares)
        self._chosen: list[int] = [-1] * len(units)
        with_label: dict[int, list[int]] = {}
        totals: dict[int, int] = {}
        for i, unit in enumerate(units):
            for label, count in unit.labels:
                with_label.setdefault(label, []).append(i)
                totals[label] = totals.get(label, 0) + count
        self._with_label, self._left = with_label, {label: len(members) for label, members in with_label.items()}
        num_examples = sum(unit.size for unit in units)
        # What each split still lacks, of all examples and of each label.
        self._lacks = [share * num_examples for share in shares.values()]
        self._lacks_label = {label: [share * total for share in shares.values()] for label, total in totals.items()}

    def run(self) -> list[str]:
        """Places the units label by label, then those without labels, where there is most room."""
        heap = [(count, label) for label, count in self._left.items()]
        heapq.heapify(heap)
        while heap:
            count, label = heapq.heappop(heap)
            if count != self._left[label]:  # units of it were placed for a rarer label meanwhile
                heapq.heappush(heap, (self._left[label], label)) if self._left[label] else None
                continue
            self._place_label(label)
        for i in self._largest_first(range(len(self._units))):
            if self._chosen[i] < 0:
                self._place(i, max(range(len(self._lacks)), key=lambda j: self._lacks[j]))
        return [self._names[j] for j in self._chosen]

    def _place_label(self, label: int) -> None:
        lacks = self._lacks_label[label]
        for i in self._largest_first(self._with_label[label]):
            if self._chosen[i] < 0:
                self._place(i, max(range(len(lacks)), key=lambda j: (lacks[j], self._lacks[j])))

    def _largest_first(self, members: Sequence[int]) -> list[int]:
        """Large groups while there is still room everywhere; the order of the units otherwise."""
        return sorted(members, key=lambda i: -self._units[i].size)

    def _place(self, i: int, split: int) -> None:
        unit = self._units[i]
        self._chosen[i] = split
        self._lacks[split] -= unit.size
        for label, count in unit.labels:
            self._left[label] -= 1
            self._lacks_label[label][split] -= count
