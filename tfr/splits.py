"""Which split an example goes to: by what the source says, or by a stable hash of its id or group."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping

from tfr.errors import UsageError

# What annotation files and folders call the three splits, in lower case.
_ALIASES = {
    "train": "train", "training": "train",
    "validation": "validation", "validate": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "test": "test", "testing": "test",
}  # fmt: skip


# TFDS's word for all splits together, and the heads of the other columns of label_counts.csv.
TAKEN_NAMES = ("all", "label", "total")


def stable_hash(text: str, salt: str) -> bytes:
    """Eight bytes that depend on salt and text alone; as big-endian numbers they are uniform over 2**64."""
    return hashlib.blake2b(text.encode("utf-8"), digest_size=8, key=salt.encode("utf-8")[:64]).digest()


class Hasher:
    """`stable_hash` with one salt, made ready once."""

    def __init__(self, salt: str):
        self._salt = salt
        self._keyed = hashlib.blake2b(digest_size=8, key=salt.encode("utf-8")[:64])

    def __call__(self, text: str) -> bytes:
        """The hash of a text."""
        hasher = self._keyed.copy()
        hasher.update(text.encode("utf-8"))
        return hasher.digest()

    def __reduce__(self) -> tuple[type["Hasher"], tuple[str]]:
        return Hasher, (self._salt,)


def fraction(hash_: bytes) -> float:
    """A hash as a number in [0, 1)."""
    return int.from_bytes(hash_[:6], "big") / (1 << 48)


def normalize_split(name: str) -> str:
    """A split's name in TFDS's words: 'TRAIN' -> 'train', 'valid' -> 'validation'; others in lower case."""
    lower = name.strip().lower()
    return _ALIASES.get(lower, lower)


def can_be_name(name: str) -> bool:
    """Whether a split can have a name: TFDS opens a dataset with it, and it means nothing else."""
    return name.isidentifier() and name not in TAKEN_NAMES


def unit_key(id_: str, group: str | None) -> str:
    """What is hashed for the split of a row: its group, all of which goes to one split, or the row alone."""
    return id_ if group is None else f"group:{group}"


@dataclasses.dataclass(frozen=True)
class SplitRatios:
    """Shares of the splits, in order; they sum to 1 after construction.

    Adding images never moves an image to another split: its place depends on the hash of its id alone.
    """

    shares: Mapping[str, float]

    def chooser(self, salt: str) -> Callable[[str], str]:
        """The function from the key of an example (or group) to its split."""
        *others, (last, _) = self.shares.items()
        hash_key = Hasher("split:" + salt)

        def choose(key: str) -> str:
            place = fraction(hash_key(key))
            for name, share in others:
                place -= share
                if place < 0:
                    return name
            return last

        return choose if others else lambda _: last


DEFAULT_RATIOS = SplitRatios({"train": 0.8, "validation": 0.1, "test": 0.1})


def parse_ratios(text: str) -> SplitRatios:
    """Reads 'train=0.8,validation=0.1,test=0.1'; numbers are relative ('8,1,1' shares work as well).

    Raises:
      UsageError: not of this form, a share that is not positive, or a name twice.
    """
    shares: dict[str, float] = {}
    for entry in text.split(","):
        name, equals, number = entry.partition("=")
        name = normalize_split(name)
        try:
            share = float(number)
        except ValueError:
            share = -1.0
        if not equals or not can_be_name(name) or not 0 < share < float("inf") or name in shares:
            raise UsageError(
                "--splits must look like train=0.8,validation=0.1,test=0.1 with positive shares and each name once, "
                f"none of them {', '.join(TAKEN_NAMES)}. Received: --splits={text}"
            )
        shares[name] = share
    total = sum(shares.values())
    return SplitRatios({name: share / total for name, share in shares.items()})
