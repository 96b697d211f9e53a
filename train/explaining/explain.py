"""Explaining images to people: heat maps of a run's labels over them, as PNG files."""

import dataclasses
import io
import itertools
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from tfr import dataset_dir, files, images, progress
from tfr.errors import DatasetError

from .. import image_sources, input_pipeline, pixels, run_dir
from . import drawing
from .config import TITLES, ExplainConfig, label_ids
from .explainer import Explainer


class Picture(NamedTuple):
    """An image to explain: its path or id, and the encoded image, upright; or, instead of it, why it cannot be used."""

    name: str
    data: bytes
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class LabelMap:
    """One heat map.

    Attributes:
      label: what it is of.
      probability: what the run says of the label.
      method: of config.METHODS.
      path: the PNG file.
      completeness_error: of integrated gradients, in units of the logit; see explainer.IntegratedGradients.
      logit_difference: of integrated gradients: what the attributions should sum to.
    """

    label: str
    probability: float
    method: str
    path: str
    completeness_error: float | None = None
    logit_difference: float | None = None


@dataclasses.dataclass(frozen=True)
class Explained:
    """An image, the sheet with all its maps, and the maps; or, with none, why it cannot be explained."""

    image: str
    sheet: str | None
    maps: list[LabelMap]
    error: str | None = None


def explain(run: run_dir.Run, config: ExplainConfig) -> Iterator[Explained]:
    """Draws heat maps over images and writes them to `<output>/<image>.png`, single ones to `<output>/maps/`.

    Args:
      run: a finished run.
      config: which images and labels, and how.

    Yields:
      Each image when its files are written, those that cannot be used with an `error`.

    Raises:
      UsageError: the run has no such label.
      DatasetError: there is no such dataset, split or id.
      TfrError: a folder without images.
    """
    wanted = label_ids(config.labels, run.labels)
    named = list(image_sources.open_source(config.images))
    examples = _examples(run, config) if config.ids else []
    stems = _unique_stems([*map(_name_of, named), *config.ids])
    pictures = itertools.chain(map(_read, named), examples)  # one file at a time, however many there are
    files.make_dirs(files.join(config.output, "maps"))
    explainer = Explainer(run)
    with progress.bar(len(stems), "explaining", "images") as bar:
        for picture, stem in zip(pictures, stems, strict=True):
            if picture.error is None:
                yield _explain_one(explainer, picture, stem, wanted, config)
            else:
                yield Explained(picture.name, None, [], picture.error)
            bar.update()


def _explain_one(
    explainer: Explainer, picture: Picture, stem: str, wanted: list[int], config: ExplainConfig
) -> Explained:
    seen = explainer.read([picture.data])
    probabilities = explainer.predict(seen)[0]
    ids = wanted or np.argsort(-probabilities, kind="stable")[: config.top_k].tolist()
    names = [explainer.run.labels[number] for number in ids]
    shown = drawing.open_picture(picture.data)
    maps, rows = [], []
    for method in config.methods:
        heats, extras = _heats(explainer, seen, ids, method, config)
        overlays = [drawing.overlay(shown, heat, explainer.run.resize) for heat in heats]
        for rank, (name, number, drawn, extra) in enumerate(zip(names, ids, overlays, extras, strict=True), 1):
            path = files.join(config.output, f"maps/{stem}-{rank}-{_safe(name)}-{method}.png")
            _write_png(drawn, path)
            maps.append(LabelMap(name, float(probabilities[number]), method, path, **extra))
        captions = [f"{name} {probabilities[n]:.3f} ({TITLES[method]})" for name, n in zip(names, ids, strict=True)]
        rows.append(list(zip(overlays, captions, strict=True)))
    sheet = files.join(config.output, f"{stem}.png")
    _write_png(drawing.sheet(shown, rows, os.path.basename(picture.name)), sheet)
    return Explained(picture.name, sheet, maps)


def _heats(
    explainer: Explainer, seen: np.ndarray, ids: list[int], method: str, config: ExplainConfig
) -> tuple[np.ndarray, list[dict[str, float]]]:
    """Maps of one image, (k, side, side), and what there is to say of each besides."""
    if method == "grad_cam":
        return explainer.grad_cam(seen, ids)[0], [{} for _ in ids]
    found = explainer.integrated_gradients(seen, ids, baseline=config.baseline, steps=config.steps)
    errors, differences = found.completeness_error[0].tolist(), found.differences[0].tolist()
    extras = [
        {"completeness_error": error, "logit_difference": difference}
        for error, difference in zip(errors, differences, strict=True)
    ]
    return found.maps[0], extras


# Images


def _read(image: str | image_sources.Unusable) -> Picture:
    """An image file, verified and normalised as the conversion does."""
    if isinstance(image, image_sources.Unusable):
        return Picture(image.name, b"", image.reason)
    try:
        return Picture(image, images.prepare_image(pixels.read_file(image), images.ImageOptions()).data)
    except images.ImageRejectedError as err:
        return Picture(image, b"", str(err))


def _examples(run: run_dir.Run, config: ExplainConfig) -> list[Picture]:
    """The examples of a dataset with these ids, in the order of the ids."""
    builder = input_pipeline.open_dataset(run.locate_dataset(config.dataset))
    if "id" not in builder.info.features:
        raise DatasetError(f"{builder.info.full_name} has no feature 'id'. Give image files with --image.")
    missing, found = set(config.ids), {}
    examples = dataset_dir.read_split(builder, config.split)
    for example in progress.count(examples, f"looking for ids in {config.split}", "examples"):
        name = example["id"].decode("utf-8") if isinstance(example["id"], bytes) else str(example["id"])
        if name in missing:
            found[name] = Picture(name, example["image"])
            missing.remove(name)
        if not missing:
            break
    if missing:
        raise DatasetError(
            f"{builder.info.full_name}: split {config.split!r} has no example with the id {min(missing)!r}. "
            f"--split is one of {list(builder.info.splits)}."
        )
    return [found[name] for name in config.ids]


def first_pixels(run: run_dir.Run, split: str, count: int, dataset: str | None = None) -> np.ndarray:
    """The first examples of a split as the model sees them, uint8 (n, image_size, image_size, 3).

    Args:
      run: a finished run.
      split: a split, or a slice of one.
      count: how many at most.
      dataset: a dataset directory or TFDS name; default: the one of the training.
    """
    builder = input_pipeline.open_dataset(run.locate_dataset(dataset))
    shape = input_pipeline.BatchShape(run.image_size, count, run.resize)
    return next(iter(input_pipeline.for_evaluation(builder, split, shape)))["image"].numpy()


# Names and files


def _name_of(image: str | image_sources.Unusable) -> str:
    return image if isinstance(image, str) else image.name


def _unique_stems(names: list[str]) -> list[str]:
    """File names without an extension for images, no two alike."""
    stems: list[str] = []
    for name in names:
        stem = base = _safe(os.path.splitext(os.path.basename(name))[0]) or "image"
        number = 1
        while stem.casefold() in (other.casefold() for other in stems):
            number += 1
            stem = f"{base}-{number}"
        stems.append(stem)
    return stems


def _safe(name: str) -> str:
    """A name without what a file name may not have."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._")[:80]


def _write_png(image: Image.Image, path: str) -> None:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    with files.atomic_write(path) as file:
        file.write(buffer.getvalue())


def text(explained: Explained) -> str:
    """What was explained and where it is, a line a map."""
    lines = [f"{explained.image}: {explained.sheet}"]
    width = max((len(item.label) for item in explained.maps), default=0)
    for item in explained.maps:
        line = f"  {item.label:<{width}}  {item.probability:.4f}  {item.path}"
        if item.completeness_error is not None:
            line += f"  (off by {item.completeness_error:.3f} of a difference of {item.logit_difference:.3f})"
        lines.append(line)
    return "\n".join(lines)
