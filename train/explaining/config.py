"""What `tfr explain` does, as a frozen object; importing this imports no TensorFlow."""

import dataclasses
import difflib
from collections.abc import Sequence

from tfr.errors import UsageError

TITLES = {"grad_cam": "Grad-CAM", "integrated_gradients": "integrated gradients"}  # method to its name for people
METHODS = tuple(TITLES)
BASELINES = {"black": 0.0, "grey": 127.5, "white": 255.0}  # of integrated gradients: a name to pixel values
STEPS = 64  # of integrated gradients; their source finds 20 to 300 enough


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExplainConfig:
    """Which images to explain, and how.

    Attributes:
      output: folder for the pictures.
      images: image files, folders of them, patterns, or '-' for paths on standard input; see image_sources.
      dataset: a dataset directory or TFDS name that `ids` are of; None: the one that the run was trained on.
      split: of that dataset.
      ids: ids of examples there.
      labels: names of the labels to explain; empty: the `top_k` likeliest of each image.
      methods: of METHODS.
      top_k: see `labels`.
      baseline: of integrated gradients, a key of BASELINES.
      steps: of integrated gradients.
    """

    output: str
    images: Sequence[str] = ()
    dataset: str | None = None
    split: str = "test"
    ids: Sequence[str] = ()
    labels: Sequence[str] = ()
    methods: Sequence[str] = METHODS[:1]
    top_k: int = 3
    baseline: str = "black"
    steps: int = STEPS


def label_ids(names: Sequence[str], labels: Sequence[str]) -> list[int]:
    """The places of names among a run's labels.

    Raises:
      UsageError: a name is none of them; the message has the closest.
    """
    if unknown := [name for name in names if name not in labels]:
        closest = difflib.get_close_matches(unknown[0], labels, n=1)
        hint = f" Did you mean {closest[0]!r}?" if closest else ""
        raise UsageError(
            f"--label={unknown[0]} is no label of the run.{hint} Its {len(labels)} labels: {', '.join(labels)}."
        )
    return [labels.index(name) for name in names]
