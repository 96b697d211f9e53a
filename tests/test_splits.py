"""Splits: stable by hash, even in size, and stratified by label."""

import collections
import random

import pytest

from tfr import splits
from tfr.errors import UsageError
from tfr.stratification import Unit, stratify

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("TRAIN", "train"), (" training ", "train"), ("valid", "validation"), ("val", "validation"), ("dev", "validation"),
     ("Testing", "test"), ("Extra", "extra")],
)  # fmt: skip
def test_normalize_split(name, expected):
    assert splits.normalize_split(name) == expected


def test_parse_ratios():
    assert splits.parse_ratios("train=8,val=1, test=1").shares == pytest.approx(SHARES)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "train",
        "train=0",
        "train=-1",
        "train=nan",
        "train=inf",
        "a b=1",
        "val=1,valid=1",
        "all=1",
        "train=1,Total=1",
    ],
)
def test_parse_ratios_refuses(text):
    with pytest.raises(UsageError, match="--splits must look like train="):
        splits.parse_ratios(text)


def test_hash_is_stable():
    assert splits.stable_hash("tt0086425", "tfr:0").hex() == splits.Hasher("tfr:0")("tt0086425").hex()
    assert 0 <= splits.fraction(splits.stable_hash("tt0086425", "split:tfr:0")) < 1
    ratios = splits.SplitRatios(SHARES)
    keys = [f"im{i}.jpg" for i in range(10_000)]
    choose, choose_anew = ratios.chooser("tfr:0"), ratios.chooser("tfr:1")
    chosen = {key: choose(key) for key in keys}
    # Fixed for ever: an image that moves between splits leaks from training into tests.
    assert [chosen[key] for key in keys[:8]] == ["validation", "validation", "train", "train", "validation"] + [
        "train"
    ] * 3
    counts = collections.Counter(chosen.values())
    for name, share in SHARES.items():
        assert counts[name] == pytest.approx(share * len(keys), rel=0.1)
    assert chosen != {key: choose_anew(key) for key in keys}


def _units(num: int, seed: int = 0, sizes=(1,)) -> list[Unit]:
    """Units with up to four of 30 labels, a few common and most rare."""
    chance = random.Random(seed)
    weights = [1 / (i + 1) ** 1.3 for i in range(30)]
    units = []
    for _ in range(num):
        size = chance.choice(sizes)
        rows = [set(chance.choices(range(30), weights, k=chance.randint(0, 4))) for _ in range(size)]
        units.append(Unit(size, tuple(collections.Counter(label for row in rows for label in row).items())))
    return units


def _worst_deviation(units, chosen) -> float:
    """The largest distance, in examples, of any label's count in any split from its share."""
    totals, found = collections.Counter(), collections.Counter()
    for unit, split in zip(units, chosen, strict=True):
        for label, count in unit.labels:
            totals[label] += count
            found[label, split] += count
    return max(abs(found[label, s] - share * total) for label, total in totals.items() for s, share in SHARES.items())


@pytest.mark.parametrize(
    ("num", "sizes", "allowed"), [(3000, (1,), 1.5), (1000, (1, 2, 5), 10)], ids=["rows", "groups"]
)
def test_stratified_labels_keep_their_share(num, sizes, allowed):
    units = _units(num, sizes=sizes)
    chosen = stratify(units, SHARES)
    assert _worst_deviation(units, chosen) <= allowed
    by_chance = random.Random(1).choices(list(SHARES), SHARES.values(), k=num)
    assert _worst_deviation(units, by_chance) > 2 * allowed  # what the test would see of an arbitrary split
    sizes_of = collections.Counter()
    for unit, split in zip(units, chosen, strict=True):
        sizes_of[split] += unit.size
    total = sum(sizes_of.values())
    for name, share in SHARES.items():
        assert sizes_of[name] == pytest.approx(share * total, rel=0.05)


def test_stratify_is_deterministic():
    units = _units(500)
    assert stratify(units, SHARES) == stratify(list(units), dict(SHARES))


@pytest.mark.parametrize("num_rare", [2, 3, 10])
def test_rare_labels_are_trained_on_first(num_rare):
    units = [Unit(1, ((0, 1),))] * 200 + [Unit(1, ((0, 1), (1, 1)))] * num_rare
    chosen = stratify(units, SHARES)[200:]
    assert chosen[0] == "train"
    assert collections.Counter(chosen)["train"] >= 0.7 * num_rare


def test_stratify_without_labels_or_units():
    assert stratify([], SHARES) == []
    assert collections.Counter(stratify([Unit(1, ())] * 100, SHARES)) == {"train": 80, "validation": 10, "test": 10}
