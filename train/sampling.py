"""Which example comes at which position of the endless training stream, and how much a positive weighs.

An order is a function from positions in the stream to places in the split. It depends on the seed and the position
alone: the position of a killed run is one number, any host or process can work out its share without talking to the
others, and going on at step one million costs what starting costs.
"""

from collections.abc import Callable, Sequence

import numpy as np

Order = Callable[[np.ndarray], np.ndarray]

_MAX_WEIGHT = 100.0  # a label with a handful of positives would otherwise drown all others


class Shuffled:
    """Every example once in each pass over the split, in a new random order each pass."""

    def __init__(self, num_examples: int, seed: int):
        self._size, self._seed = num_examples, seed
        self._passes: dict[int, tuple[int, np.ndarray]] = {}  # group (here the whole) to its latest pass

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Places, int64 (n,), of positions, int64 (n,)."""
        numbers, draws = np.divmod(positions, self._size)
        places = np.empty_like(positions)
        for number in np.unique(numbers).tolist():
            places[numbers == number] = self._pass(0, self._size, number)[draws[numbers == number]]
        return places

    def _pass(self, group: int, size: int, number: int) -> np.ndarray:
        """The members of a group, from 0 to `size`, in the order of a pass over it."""
        cached = self._passes.get(group)  # a cache alone: another thread may replace it at any time
        if cached is None or cached[0] != number:
            order = np.random.default_rng((self._seed, group, number)).permutation(size).astype(np.int32)
            cached = self._passes[group] = (number, order)
        return cached[1]


class Balanced(Shuffled):
    """Each draw picks a label, then an example that carries it: all labels as often, whatever their frequency.

    With k labels in use, k draws in a row pick each of them once, in random order; the examples of one label take
    turns, in a new random order each round. Examples without any label are a group like that of a label, so that
    they come too. Nothing is drawn and thrown away. An example with several labels comes by each of them.

    In memory are the places of the examples of each label, twice: 8 bytes for each label that an example carries,
    however large the examples.
    """

    def __init__(self, num_examples: int, carriers: np.ndarray, labels: np.ndarray, seed: int):
        """`carriers` and `labels`, integers (n,) each: the example at a place, in stored order, carries a label."""
        super().__init__(num_examples, seed)
        by_label = np.argsort(labels, kind="stable")
        _, starts = np.unique(labels[by_label], return_index=True)
        groups = np.split(carriers[by_label].astype(np.int32), starts[1:]) if len(labels) else []
        bare = np.setdiff1d(np.arange(num_examples, dtype=np.int32), carriers)
        self._groups = [*groups, bare] if len(bare) else groups

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Places, int64 (n,), of positions, int64 (n,)."""
        return np.array([self._draw(position) for position in positions.tolist()], dtype=np.int64)

    def _draw(self, position: int) -> int:
        round_, draw = divmod(position, len(self._groups))
        number = int(self._pass(0, len(self._groups), round_)[draw])
        group = self._groups[number]
        turn, draw = divmod(round_, len(group))
        return int(group[self._pass(1 + number, len(group), turn)[draw]])


def make_order(
    sample: str, num_examples: int, carriers_and_labels: Callable[[], Sequence[np.ndarray]], seed: int
) -> Order:
    """The order of a value of --sample; `carriers_and_labels` (see Balanced) is called where it is needed only."""
    if sample == "balanced":
        carriers, labels = carriers_and_labels()
        return Balanced(num_examples, carriers, labels, seed)
    return Shuffled(num_examples, seed)


def positive_weights(positives: np.ndarray, negatives: np.ndarray, mode: str) -> np.ndarray | None:
    """How much the positives of each label weigh in a binary loss, a negative weighing 1.

    Args:
      positives, negatives: examples of the training split that carry each label, and that are known not to, (n,).
      mode: 'none'; 'balanced': negatives / positives, which makes both sides of a label weigh the same; 'sqrt': the
        square root of that, half-way.

    Returns:
      float32 (n,), from 1/100 to 100; 1 for a label that lacks one of the two. None for 'none'.
    """
    if mode == "none":
        return None
    both = (positives > 0) & (negatives > 0)
    ratios = np.where(both, negatives / np.maximum(positives, 1), 1.0)
    exponent = {"balanced": 1.0, "sqrt": 0.5}[mode]
    return np.clip(ratios**exponent, 1 / _MAX_WEIGHT, _MAX_WEIGHT).astype(np.float32)


def prior(targets: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """What share of the known targets of each label are positive, counted by the weights of the loss.

    Args:
      targets: (num_examples, num_labels) of 1, 0 and preprocessing.UNKNOWN.
      weights: of the positives, see positive_weights.
    """
    positives = (targets == 1).sum(axis=0) * (1.0 if weights is None else weights)
    return positives / np.maximum(positives + (targets == 0).sum(axis=0), 1e-9)
