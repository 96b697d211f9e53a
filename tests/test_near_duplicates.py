import numpy as np
import pytest

from tfr import near_duplicates
from tfr.errors import UsageError


def random_codes(number, seed=0):
    """Random fingerprints, all different, and neighbours of the first ones at one to six bits."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 1 << 64, number, dtype=np.uint64)
    near = [
        codes[i] ^ np.uint64(sum(1 << int(b) for b in rng.choice(64, 1 + i % 6, False))) for i in range(number // 5)
    ]
    return np.unique(np.concatenate([codes, np.array(near, np.uint64)]))


def brute_force(codes, radius):
    one, other = np.nonzero(np.triu(np.bitwise_count(codes[:, None] ^ codes) <= radius, 1))
    return set(zip(one.tolist(), other.tolist(), strict=True))


@pytest.mark.parametrize("radius", [0, 1, 3, 4, 6, 10])
@pytest.mark.parametrize("leaf", [60, 10_000])
@pytest.mark.parametrize("clustered", [False, True])
def test_pairs_are_those_of_comparing_all_each_once(monkeypatch, radius, leaf, clustered):
    monkeypatch.setattr(near_duplicates, "_LEAF", leaf)
    codes = random_codes(600)
    if clustered:  # most bits alike, as in pictures on white
        codes = np.unique(codes & np.uint64(0x0F0F00000000FF0F))
    found = [
        (min(pair), max(pair))
        for one, other in near_duplicates.pairs_within(codes, radius)
        for pair in zip(one.tolist(), other.tolist(), strict=True)
    ]
    assert len(found) == len(set(found))
    assert set(found) == brute_force(codes, radius)
    assert found or radius == 0


def test_groups_are_chains_named_by_their_first(monkeypatch):
    monkeypatch.setattr(near_duplicates, "_PAIRS_PER_FLUSH", 2)
    start = 0x0123456789ABCDEF
    chain = [start ^ ((1 << 3 * step) - 1) for step in range(6)]  # each three bits from the one before
    codes = np.array([chain[3], 0x7FF0F0F0F0F0F0F0, *chain, chain[3]], np.uint64).view(np.int64)
    assert near_duplicates.group(codes, 3).tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 0]
    assert near_duplicates.group(codes, 2).tolist() == [0, 1, 2, 3, 4, 0, 6, 7, 0]


def test_fingerprints_that_say_little_are_alone():
    codes = np.array([0, 0, 1, -1, -1, 31, 63, 63], np.int64)
    assert near_duplicates.says_little(codes).tolist() == [True] * 6 + [False] * 2
    assert near_duplicates.group(codes, 4).tolist() == [0, 1, 2, 3, 4, 5, 6, 6]


def test_nothing_is_no_group():
    assert near_duplicates.group(np.array([], np.int64), 4).tolist() == []


@pytest.mark.parametrize("radius", [-1, 11])
def test_a_senseless_radius_is_refused(radius):
    with pytest.raises(UsageError, match=f"--radius must be from 0 to 10 .* Received: --radius={radius}"):
        near_duplicates.check_radius("--radius", radius)


@pytest.mark.slow
def test_a_million_fingerprints_take_seconds():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 1 << 64, 900_000, dtype=np.uint64)
    codes = np.concatenate([codes, codes[:100_000] ^ np.uint64(0b10110)]).view(np.int64)
    groups = near_duplicates.group(codes, 4)
    assert (groups[900_000:] == np.arange(100_000)).all()
    assert len(np.unique(groups)) == 900_000
