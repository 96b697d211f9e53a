"""Which of many 64-bit fingerprints differ in few bits, in time far below that of comparing every pair."""

from collections.abc import Iterable, Iterator

import numpy as np

from tfr.errors import UsageError

DEFAULT_RADIUS = 4  # bits; encoding anew and resizing change fewer, other pictures hardly ever differ in so few
MAX_RADIUS = 10  # from here on different pictures of one kind (skies, documents) become neighbours
_MIN_BITS = 6  # a fingerprint with fewer ones, or zeros, is that of a flat picture or of a plain slope
_LEAF = 4096  # fingerprints among which every pair is compared
_BLOCK = 1 << 20  # comparisons at once: what fits the processor's cache
_PAIRS_PER_FLUSH = 1 << 22


def check_radius(flag: str, radius: int) -> None:
    """Raises UsageError for a radius that makes no sense."""
    if not 0 <= radius <= MAX_RADIUS:
        raise UsageError(f"{flag} must be from 0 to {MAX_RADIUS} (of 64 bits). Received: {flag}={radius}")


def says_little(codes: np.ndarray) -> np.ndarray:
    """Which fingerprints are nearly all zeros or ones: those of pictures without structure, which all look alike.

    A uniform image has the fingerprint 0, whatever its colour; one that gets brighter from left to right, -1.

    Args:
      codes: int64 (n,).

    Returns:
      bool (n,).
    """
    ones = np.bitwise_count(codes.view(np.uint64))
    return (ones < _MIN_BITS) | (ones > 64 - _MIN_BITS)


def group(codes: np.ndarray, radius: int) -> np.ndarray:
    """Groups fingerprints: two are in one group if a chain of fingerprints, each near the next, joins them.

    Fingerprints that say little are each alone.

    Args:
      codes: int64 (n,), in any order; equal ones are near each other.
      radius: fingerprints that differ in at most so many bits are near.

    Returns:
      int64 (n,): the index of the first fingerprint of each one's group.
    """
    places = np.flatnonzero(~says_little(codes))
    unique, inverse = np.unique(codes[places].view(np.uint64), return_inverse=True)
    return merge(len(codes), [(places, _first_of(places, join(len(unique), pairs_within(unique, radius))[inverse]))])


def _first_of(places: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """For each place the first one with the same label."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return places[first][inverse]


def firsts(values: np.ndarray) -> np.ndarray:
    """For each value the index of the first one that equals it; int64."""
    return _first_of(np.arange(len(values)), values)


def merge(size: int, links: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """As `join`, but each component is named by the first of its nodes: int64 (size,)."""
    return _first_of(np.arange(size), join(size, links))


def join(size: int, links: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Connected components.

    Args:
      size: number of nodes.
      links: pairs of arrays of nodes; element by element they are connected. They are taken as they come, in memory
        that does not grow with their number.

    Returns:
      int (size,): the number of each node's component.
    """
    labels, waiting, num_waiting = np.arange(size), [], 0
    for link in links:
        waiting.append(link)
        num_waiting += len(link[0])
        if num_waiting > _PAIRS_PER_FLUSH:
            labels, waiting, num_waiting = _joined(labels, waiting), [], 0
    return _joined(labels, waiting)


def _joined(labels: np.ndarray, links: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    if not links or not len(labels):
        return labels
    from scipy.sparse import coo_array  # slow to import, and a config wants only the radius checked
    from scipy.sparse.csgraph import connected_components

    one, other = (labels[np.concatenate(side)] for side in zip(*links, strict=True))
    size = labels.max() + 1
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(size, size))
    return connected_components(graph, directed=False)[1][labels]


def pairs_within(codes: np.ndarray, radius: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields all pairs of codes that differ in at most `radius` bits, each once, as two arrays of indices.

    Pigeonhole: if 64 bits are cut into radius + 1 bands, two such codes are equal on one band at least; codes are
    compared only with those of the same value there. Large sets of equal value are cut again on their other bits.
    Source: G. S. Manku, A. Jain, A. Das Sarma, "Detecting Near-Duplicates for Web Crawling", WWW 2007, section 3. Bands
    take every (radius + 1)-th bit, since neighbouring bits of a picture without detail at one place are alike.
    A million random fingerprints took 3.6 s of one core and 200 MiB at radius 4, 23 s at radius 6.

    Args:
      codes: uint64 (n,), no two equal.
      radius: 0 or more.
    """
    yield from _pairs(codes, np.arange(len(codes)), list(range(64)), radius)


def _pairs(
    codes: np.ndarray, members: np.ndarray, bits: list[int], radius: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    if len(members) > _LEAF:  # bits that are the same everywhere tell nothing apart
        varying = int(np.bitwise_or.reduce(codes[members] ^ codes[members[0]]))
        bits = [bit for bit in bits if varying >> bit & 1]
    if len(members) <= _LEAF or len(bits) <= radius:
        yield from _compare_all(codes, members, radius)
        return
    earlier: list[np.uint64] = []
    for band in (bits[start :: radius + 1] for start in range(radius + 1)):
        mask = np.uint64(sum(1 << bit for bit in band))
        others = [bit for bit in bits if bit not in band]
        for equal in _equal_on(codes, members, mask):
            for one, other in _pairs(codes, equal, others, radius):
                different = codes[one] ^ codes[other]
                new = (
                    np.logical_and.reduce([(different & before) != 0 for before in earlier]) if earlier else slice(None)
                )
                yield one[new], other[new]
        earlier.append(mask)


def _equal_on(codes: np.ndarray, members: np.ndarray, mask: np.uint64) -> Iterator[np.ndarray]:
    """The sets of two and more members that are equal on the bits of a mask."""
    keys = codes[members] & mask
    order = np.argsort(keys, kind="stable")
    bounds = np.flatnonzero(np.diff(keys[order], prepend=~keys[order[:1]], append=~keys[order[-1:]]))
    for start in np.flatnonzero(np.diff(bounds) > 1):
        yield members[order[bounds[start] : bounds[start + 1]]]


def _compare_all(codes: np.ndarray, members: np.ndarray, radius: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    values, step = codes[members], max(1, _BLOCK // max(1, len(members)))
    for start in range(0, len(members), step):
        near = np.bitwise_count(values[start : start + step, None] ^ values[start:]) <= radius
        one, other = np.nonzero(near)
        ascending = one < other
        yield members[start:][one[ascending]], members[start:][other[ascending]]
