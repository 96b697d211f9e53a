"""Several people's answers for one image: what they agree on, and what they do not."""

from collections.abc import Sequence


def agree(answers: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(present, unknown): labels that everyone chose, and labels that only some chose."""
    chosen = dict.fromkeys(label for answer in answers for label in answer)
    everyone = [set(answer) for answer in answers]
    present = tuple(label for label in chosen if all(label in answer for answer in everyone))
    return present, tuple(label for label in chosen if label not in present)


def disagreement_note(path: str, count: int) -> str:
    """What to say of rows on which people disagree."""
    return f"{path}: annotators disagree on {count} images; labels that only some of them chose are unknown"
