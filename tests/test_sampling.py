"""Orders: every example once a pass, labels equally often, the same from any position; weights of positives."""

import collections

import numpy as np
import pytest

from tfr.train import sampling

# Labels of 12 examples: label 0 on eight, label 1 on two of them too, label 2 on one; three carry none.
LABELS = {0: [0], 1: [0], 2: [0, 1], 3: [0], 4: [0], 5: [0], 6: [0, 1], 7: [0], 8: [2], 9: [], 10: [], 11: []}


def _pairs():
    pairs = [(place, label) for place, labels in LABELS.items() for label in labels]
    return tuple(np.array(part) for part in zip(*pairs, strict=True))


def _orders(seed=0):
    return {sample: sampling.make_order(sample, len(LABELS), _pairs, seed) for sample in ("shuffled", "balanced")}


def test_each_pass_has_every_example_once_in_another_order():
    order = sampling.Shuffled(10, seed=3)
    passes = [tuple(order(np.arange(10 * i, 10 * i + 10)).tolist()) for i in range(20)]
    assert all(sorted(each) == list(range(10)) for each in passes)
    assert len(set(passes)) == 20


def test_every_example_comes_at_every_place():
    """Chi-square of place by example over 2,000 passes; the mean is 81 and the standard deviation 12.7."""
    order = sampling.Shuffled(10, seed=0)
    places = order(np.arange(20_000)).reshape(2000, 10)
    counts = np.stack([np.bincount(column, minlength=10) for column in places.T])
    assert ((counts - 200) ** 2 / 200).sum() < 81 + 4 * 12.7


@pytest.mark.parametrize("sample", ["shuffled", "balanced"])
def test_an_order_depends_on_seed_and_position_alone(sample):
    whole = _orders()[sample](np.arange(500))
    again = _orders()[sample]
    rng = np.random.default_rng(0)
    for start in rng.permutation(50) * 10:  # parts in any order, as several hosts or a resumed run ask for them
        assert again(np.arange(start, start + 10)).tolist() == whole[start : start + 10].tolist()
    assert _orders(seed=1)[sample](np.arange(500)).tolist() != whole.tolist()


def test_balanced_draws_each_label_and_none_equally_often():
    """Of four draws in a row one is for each of the three labels and one for examples without any."""
    drawn = _orders()["balanced"](np.arange(4 * 60)).tolist()
    for four in zip(*[iter(drawn)] * 4, strict=True):
        assert 8 in four  # the only one with label 2
        assert sum(place >= 9 for place in four) == 1
        assert sum(place < 8 for place in four) == 2
    counts = collections.Counter(drawn)
    assert [counts[place] for place in (9, 10, 11)] == [20, 20, 20]
    assert [counts[place] for place in (2, 6)] == pytest.approx([30 + 60 / 8] * 2, abs=1)  # by both of their labels
    assert all(counts[place] == pytest.approx(60 / 8, abs=1) for place in (0, 1, 3, 4, 5, 7))


def test_balanced_without_any_label_is_a_shuffle():
    empty = np.array([], np.int64)
    order = sampling.Balanced(5, empty, empty, seed=0)
    assert sorted(order(np.arange(5)).tolist()) == list(range(5))


def test_balanced_is_memory_of_labels_only():
    """A million draws keep one permutation a label, however often it is reshuffled."""
    order = sampling.Balanced(12, *_pairs(), seed=0)
    order(np.arange(100_000))
    assert sum(len(members) for _, members in order._passes.values()) == len(_pairs()[0]) + 3 + 4


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("balanced", [9.0, 1 / 3, 1.0, 1.0, 100.0]), ("sqrt", [3.0, 3**-0.5, 1.0, 1.0, 1999**0.5])],
)
def test_positive_weights(mode, expected):
    positives, negatives = np.array([10, 75, 0, 5, 1]), np.array([90, 25, 100, 0, 1999])
    weights = sampling.positive_weights(positives, negatives, mode)
    assert weights.tolist() == pytest.approx(expected)
    assert sampling.positive_weights(positives, negatives, "none") is None
