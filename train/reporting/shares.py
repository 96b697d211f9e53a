"""Shares that a report says in words, with intervals."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from .. import bootstrap
from ..prediction.saved_predictions import Predictions


@dataclasses.dataclass(frozen=True)
class Share:
    """A share of something, of how much, with its 95 % interval over examples; NaN where there is nothing."""

    value: float
    low: float
    high: float
    of: float


def headline_shares(
    found: Predictions, *, known: np.ndarray, shown: np.ndarray, prior: np.ndarray, guess: np.ndarray, multi_label: bool
) -> dict[str, Share]:
    """Shares that can be said in one sentence each, with intervals by bootstrap over examples.

    Args:
      found: predictions, with num_examples and num_labels.
      known: of which pairs of an example and a label the truth is known, bool (num_examples, num_labels).
      shown: which labels are shown, same shape.
      prior: how frequent each label is, (num_labels,).
      guess: the labels that one would show on every image without looking, bool (num_labels,).
      multi_label: whether an image has any number of labels.

    Returns:
      `right`: of the tags shown, those that are there. `found`: of the tags that are there, those shown. `first`:
      images whose likeliest tag is there. `first_three`: those with one among the three likeliest, NaN where there are
      no more than three. `none_shown`: images on which nothing is shown. `guess_...`: the same for `guess`.
      `f1`: of the tags shown (multi-label). `gain`: that minus the F1 of the guess; for single-label runs, the
      difference of `first`.
    """
    present, shown = found.targets == 1, shown & known
    scores = np.where(known, found.probabilities, -1)
    guessing = np.broadcast_to(guess, present.shape) & known
    ones = np.ones(len(present))
    pairs = {
        "right": ((shown & present).sum(axis=1), shown.sum(axis=1)),
        "found": ((shown & present).sum(axis=1), present.sum(axis=1)),
        "first": (present[np.arange(len(present)), scores.argmax(axis=1)], ones),
        "none_shown": (~shown.any(axis=1), ones),
        "guess_right": ((guessing & present).sum(axis=1), guessing.sum(axis=1)),
        "guess_found": ((guessing & present).sum(axis=1), present.sum(axis=1)),
        "guess_first": (present[:, int(prior.argmax())], ones),
        "first_three": _any_of_three(present, scores),
        "guess_first_three": _any_of_three(present, np.broadcast_to(prior, present.shape)),
    }
    figures = {key: _ratio(*pair) for key, pair in pairs.items()}
    figures["gain"] = _difference("first", "guess_first", figures)
    if multi_label:
        figures["f1"] = _ratio(2 * pairs["right"][0], pairs["right"][1] + pairs["found"][1])
        guess_f1 = _ratio(2 * pairs["guess_right"][0], pairs["guess_right"][1] + pairs["found"][1])
        figures["gain"] = _difference("f1", "guess_f1", {"f1": figures["f1"], "guess_f1": guess_f1})
    return _with_intervals(found, figures, {key: float(np.sum(of)) for key, (_, of) in pairs.items()})


def _any_of_three(present: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Examples with one of their labels among the three with the highest scores; where there are that many."""
    likeliest = np.argsort(-scores, axis=1, kind="stable")[:, :3]
    enough = np.full(len(present), present.shape[1] > 3)
    return np.take_along_axis(present, likeliest, axis=1).any(axis=1) & enough, enough


def _ratio(hits: np.ndarray, of: np.ndarray) -> bootstrap.Figure:
    """The sum of `hits` over the sum of `of`, (num_examples,) each, under weights."""

    def figure(targets: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
        del targets, probabilities
        total = weights @ np.asarray(of, np.float32)
        return np.where(total > 0, (weights @ np.asarray(hits, np.float32)) / np.maximum(total, 1), np.nan)

    return figure


def _difference(one: str, other: str, figures: Mapping[str, bootstrap.Figure]) -> bootstrap.Figure:
    return lambda t, p, w: figures[one](t, p, w) - figures[other](t, p, w)


def _with_intervals(
    found: Predictions, figures: dict[str, bootstrap.Figure], of: Mapping[str, float]
) -> dict[str, Share]:
    values = bootstrap.whole(found.targets, found.probabilities, figures)
    drawn = bootstrap.resampled(found.targets, found.probabilities, figures)
    shares = {}
    for key, value in values.items():
        interval = bootstrap.interval(drawn[key], value)
        low, high = interval.low, interval.high
        if key in of and value in (0, 1):  # all resamples say the same, which does not make it sure
            low, high = wilson(value, of[key])
        shares[key] = Share(value, low, high, of.get(key, 0))
    return shares


def wilson(share: float, count: float) -> tuple[float, float]:
    """The 95 % interval of a share of `count` independent cases.

    Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    """
    z = 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)
