"""The images of a report: those that the tagger got right, and its most confident mistakes."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from tfr import html_page

from .. import input_pipeline, records, run_dir
from ..explaining import drawing
from ..explaining.explainer import Explainer
from .material import Material

_IMAGE_HEIGHT = 200  # pixels
_A_LABEL = 2  # examples of one label in a row of them


@dataclasses.dataclass(frozen=True)
class Tag:
    """A tag of an example: what the tagger says, and what is true (None: not known)."""

    name: str
    probability: float
    is_shown: bool
    is_there: bool | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """An image with what was said of it.

    Attributes:
      id: of the image; '' where the dataset has none.
      label: the label that it is an example of.
      tags: shown ones, then those that are there and were not shown; likeliest first.
      image: the image as a data URI; '' where it cannot be decoded.
      overlay: where the network looked for `label`, over the image, as a data URI; '' where nobody asked.
    """

    id: str
    label: str
    tags: list[Tag]
    image: str
    overlay: str = ""


# Kinds of examples: a title, and what they are. With one label an image, what is missed is what is wrong.
_MULTI = {
    "right": ("Right", "Images on which every tag is as it should be, the surest first."),
    "wrong": (
        "Wrong: shown where it is not",
        "The tag in bold is shown with a high probability though the annotations do not have it. Some of these may be "
        "errors of the annotations.",
    ),
    "missed": (
        "Wrong: missed",
        "The tag in bold is in the annotations, and the tagger thinks it most unlikely. Some of these may be errors of "
        "the annotations.",
    ),
}
_SINGLE = {
    "right": ("Right", "Right answers, the surest first."),
    "wrong": (
        "Wrong",
        "Wrong answers, the surest first, and the label that the annotations have. Some of these may be errors of the "
        "annotations.",
    ),
}

Explain = Callable[[bytes, int], str]  # an encoded image and a label: where the network looked for it, as a data URI


@dataclasses.dataclass(frozen=True)
class Examples:
    """Examples of one kind, with what they are."""

    title: str
    text: str
    examples: list[Example]


def choose(material: Material, number: int, explain: Explain | None = None) -> list[Examples]:
    """Picks examples and reads their images.

    Args:
      material: see there.
      number: how many of each kind.
      explain: makes overlays, such as `heat_maps`; None: none.
    """
    shown, present, known = material.given, material.present, material.known
    probabilities = material.found.probabilities
    all_right = (shown == present).all(axis=1, where=known) & (shown & present).any(axis=1)
    scores = {
        "right": np.where(all_right[:, None] & shown & present, probabilities, -1.0),
        "wrong": np.where(shown & known & ~present, probabilities, -1.0),
        "missed": np.where(present & ~shown, 1 - probabilities, -1.0),
    }
    kinds = [(*words, scores[key]) for key, words in (_MULTI if material.run.multi_label else _SINGLE).items()]
    picked = [(title, text, _pick(scores, number)) for title, text, scores in kinds]
    return [
        Examples(title, text, _read(material, places, labels, explain))
        for title, text, (places, labels) in picked
        if len(places)
    ]


def heat_maps(run: run_dir.Run) -> Explain:
    """Overlays by Grad-CAM, the model loaded once. Raises RunDirError where that fails."""
    explainer = Explainer(run)

    def explain(image: bytes, label: int) -> str:
        heat = explainer.grad_cam(explainer.read([image]), [label])[0, 0]
        drawn = drawing.overlay(drawing.open_picture(image), heat, run.resize)
        return html_page.picture_uri(drawn, _IMAGE_HEIGHT)

    return explain


def _pick(scores: np.ndarray, number: int) -> tuple[list[int], list[int]]:
    """Examples and labels with the highest scores of at least 0; no example twice, no label more than twice at first.

    Args:
      scores: (num_examples, num_labels); negative where it is not to be picked.
      number: how many.
    """
    places: list[int] = []
    labels: list[int] = []
    order = np.argsort(-scores, axis=None, kind="stable")[: int((scores >= 0).sum())]
    for most in (_A_LABEL, number):
        for flat in order.tolist():
            place, label = divmod(flat, scores.shape[1])
            if len(places) < number and place not in places and labels.count(label) < most:
                places.append(place)
                labels.append(label)
    return places, labels


def _read(material: Material, places: Sequence[int], labels: Sequence[int], explain: Explain | None) -> list[Example]:
    images = records.StoredImages(input_pipeline.open_dataset(material.dataset_dir), material.split).read(places)
    ids = material.found.ids or [""] * len(material.found.targets)
    return [
        Example(
            id=ids[place],
            label=material.run.labels[label],
            tags=_tags(material, place),
            image=html_page.thumbnail_uri(image, _IMAGE_HEIGHT),
            overlay=explain(image, label) if explain else "",
        )
        for place, label, image in zip(places, labels, images, strict=True)
    ]


def _tags(material: Material, place: int) -> list[Tag]:
    probabilities, shown = material.found.probabilities[place], material.given[place]
    present, known = material.present[place], material.known[place]
    chosen = [i for i in np.argsort(-probabilities, kind="stable").tolist() if shown[i] or present[i]]
    tags = [
        Tag(material.run.labels[i], float(probabilities[i]), bool(shown[i]), bool(present[i]) if known[i] else None)
        for i in chosen
    ]
    return sorted(tags, key=lambda tag: not tag.is_shown)
