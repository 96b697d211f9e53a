"""The figures of a report in words that need no knowledge of statistics."""

import dataclasses
import math

import numpy as np

from .material import Material
from .shares import Share


@dataclasses.dataclass(frozen=True)
class Statement:
    """A headline figure: '5 in 10', what that is a share of, the figure itself, and what guessing reaches."""

    number: str
    what: str
    share: Share
    guess: float | None


def in_ten(share: float) -> str:
    """A share from 0 to 1 as one would say it: '6 in 10', near the ends '97 in 100', 'All' or 'None'."""
    if not math.isfinite(share):
        return "\u2013"
    if share in (0, 1):
        return "All" if share else "None"
    if 0.05 <= share < 0.95:
        return f"{max(round(10 * share), 1)} in 10"
    return f"{min(max(round(100 * share), 1), 99)} in 100"


def statements(material: Material) -> list[Statement]:
    """The headline figures."""
    shares = material.shares
    if material.run.multi_label:
        return [
            Statement(in_ten(shares["right"].value), "of the tags it shows are right", shares["right"],
                      shares["guess_right"].value),
            Statement(in_ten(shares["found"].value), "of the tags that belong on an image are found", shares["found"],
                      shares["guess_found"].value),
            Statement(in_ten(shares["first"].value), "images: the tag it is surest of is right", shares["first"],
                      shares["guess_first"].value),
        ]  # fmt: skip
    answers = [
        Statement(
            in_ten(shares["first"].value), "images get the right label", shares["first"], shares["guess_first"].value
        )
    ]
    if math.isfinite(shares["first_three"].value):
        what = "images: the right label is among the three likeliest"
        answers.append(
            Statement(
                in_ten(shares["first_three"].value), what, shares["first_three"], shares["guess_first_three"].value
            )
        )
    return answers


def guess_sentence(material: Material) -> str:
    """What somebody would reach who does not look at the images, and whether the tagger is better."""
    shares = material.shares
    if not material.present.any():
        return f"None of these images has a {material.word}, so that little can be said."
    names = [material.run.labels[i] for i in np.flatnonzero(material.guess)]
    if material.run.multi_label:
        names.sort(key=lambda name: -material.prior[material.run.labels.index(name)])
        guess = (
            f"Somebody who puts the most frequent tags ({listed(names)}) on every image, without looking, is right "
            f"with {shares['guess_right'].value:.0%} of them and finds {shares['guess_found'].value:.0%}."
        )
    else:
        guess = (
            f"Somebody who answers {names[0]}, the most frequent label, to every image, without looking, is right for "
            f"{shares['guess_first'].value:.0%}."
        )
    gain = shares["gain"]
    tagger = "The tagger"
    if material.run.multi_label:
        f1 = shares["f1"].value
        tagger = f"Taking both together (F1: {f1:.2f} against {f1 - gain.value:.2f}), the tagger"
    if gain.low > 0:
        return f"{guess} {tagger} is better than that, and by more than chance would explain."
    if gain.high < 0:
        return f"{guess} {tagger} is worse than that."
    return f"{guess} {tagger} may be no better than that: the difference could be chance."


def sure_sentence(material: Material) -> str:
    """How sure the figures are."""
    share, number = leading_share(material), material.measured["num_examples"]
    width = max(share.high - share.value, share.value - share.low)
    sureness = "quite sure" if width <= 0.03 else "fairly sure" if width <= 0.06 else "rough"
    return (
        f"These figures are {sureness}. On {plural(number, 'other image')} of the same kind they would come out "
        "somewhat different: the thin strip over each bar is the range in which the true figure very likely lies (95% "
        "interval)."
    )


def listed(names: list[str], most: int = 4) -> str:
    """Names in a sentence: 'a, b and c'."""
    shown = names[:most] + ([f"{len(names) - most} more"] if len(names) > most else [])
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]])) if shown else "None"


def plural(number: int, noun: str) -> str:
    """A number of things: '1 group', '2 groups'."""
    digits = f"{number:,}".replace(",", "\u202f")  # a narrow space
    return f"{digits} {noun}{'' if number == 1 else 's'}"


def leading_share(material: Material) -> Share:
    """The share that stands first, or the next that is defined."""
    first, right = material.shares["first"], material.shares["right"]
    return right if material.run.multi_label and math.isfinite(right.value) else first


def duration(seconds: float) -> str:
    """A time as one would say it."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
