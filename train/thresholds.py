"""From which probability on a tag is shown: one threshold for all labels, or one for each."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfr.errors import RunDirError

METHODS = ("auto", "global", "per_label")  # of tuning; see threshold_tuning
OBJECTIVES = ("micro_f1", "macro_f1")
DEFAULT = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Thresholds of a run.

    Attributes:
      overall: the one threshold over all labels.
      per_label: one for each label, float64 (num_labels,); all equal to `overall` where the global one is used.
      strength: positives that weigh as much as the global threshold in a label's own; infinity: global.
      tuned_on: the split they were tuned on, for people.
    """

    overall: float
    per_label: np.ndarray
    strength: float
    tuned_on: str = ""

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        """What thresholds.json holds."""
        return {
            "global": self.overall,
            "per_label": {name: float(t) for name, t in zip(names, self.per_label, strict=True)},
            "method": "global" if np.isinf(self.strength) else "per_label",
            "strength": None if np.isinf(self.strength) else self.strength,
            "tuned_on": self.tuned_on,
        }


def from_json(values: Mapping[str, Any], names: Sequence[str], where: str) -> Thresholds:
    """Reads what `to_json` wrote; files of only {"global": t} do.

    Raises:
      RunDirError: a label has no threshold.
    """
    overall = float(values.get("global", DEFAULT))
    per_label = values.get("per_label") or dict.fromkeys(names, overall)
    if missing := [name for name in names if name not in per_label]:
        raise RunDirError(f"{where}: no threshold for the labels {missing}. `tfr calibrate` makes the file anew.")
    strength = values.get("strength")
    return Thresholds(
        overall=overall,
        per_label=np.array([per_label[name] for name in names], np.float64),
        strength=np.inf if strength is None else float(strength),
        tuned_on=values.get("tuned_on", ""),
    )
