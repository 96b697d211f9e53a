"""Prediction: the likeliest tags of loose images."""

import concurrent.futures
import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from tfr import files, images, shard_writer

from . import forward, input_pipeline, run_dir


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The tags of one image, likeliest first, as (label, probability); or, with no tags, why it could not be read."""

    path: str
    tags: list[tuple[str, float]]
    error: str | None = None


def expand(paths: Iterable[str]) -> list[str]:
    """Paths, with each folder replaced by the image files anywhere below it, in order."""
    expanded: list[str] = []
    for path in paths:
        if files.is_dir(path):
            expanded += sorted(files.join(path, found.path) for found in files.list_images(path))
        else:
            expanded.append(path)
    return expanded


def predict_files(path: str, image_paths: list[str], *, top_k: int = 10, batch_size: int = 32) -> Iterator[Prediction]:
    """Tags images.

    Args:
      path: the run directory.
      image_paths: image files of any format that the conversion takes; they are verified and normalised like there.
      top_k: how many tags to give for each.
      batch_size: images per step.

    Yields:
      A Prediction for each path, in order; files that cannot be used have an `error` and no tags.

    Raises:
      RunDirError: it is no finished run.
    """
    run = run_dir.load(path)
    errors: dict[int, str] = {}

    def readable() -> Iterator[bytes]:
        for index, loaded in enumerate(_load_ahead(image_paths)):
            if isinstance(loaded, str):
                errors[index] = loaded
            else:
                yield loaded

    shape = input_pipeline.BatchShape(run.image_size, batch_size, run.resize)
    batches = input_pipeline.for_files(readable, shape)
    outputs = forward.run(run.load_model(), batches, total=len(image_paths), description="predicting")
    position = 0
    for batch in outputs:
        for probabilities in batch["output"]:
            while position in errors:  # filled before the batch that follows
                yield Prediction(image_paths[position], [], errors[position])
                position += 1
            yield Prediction(image_paths[position], _top(probabilities, run.labels, top_k))
            position += 1
    for rest in range(position, len(image_paths)):
        yield Prediction(image_paths[rest], [], errors[rest])


def _top(probabilities: np.ndarray, names: list[str], top_k: int) -> list[tuple[str, float]]:
    order = np.argsort(-probabilities, kind="stable")[:top_k]
    return [(names[i], float(probabilities[i])) for i in order]


def _load_ahead(paths: Iterable[str], threads: int = 2, window: int = 64) -> Iterator[bytes | str]:
    """The encoded images in order, read and verified a bounded number ahead; a text where one cannot be used."""
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        yield from shard_writer.map_ahead(pool, _load, paths, window)


def _load(path: str) -> bytes | str:
    try:
        return images.prepare_image(files.read_bytes(path), images.ImageOptions()).data
    except images.ImageRejectedError as err:
        return str(err)
    except OSError as err:
        return f"unreadable: {err.strerror or err}"


def text(prediction: Prediction, run: run_dir.Run) -> str:
    """The tags of an image, one a line; a star marks those that are shown by the run's thresholds."""
    width = max((len(name) for name, _ in prediction.tags), default=0)
    limits = dict(zip(run.labels, run.thresholds.per_label, strict=True))
    lines = [f"  {'*' if p >= limits[name] else ' '} {name:<{width}}  {p:.4f}" for name, p in prediction.tags]
    return "\n".join([prediction.path, *lines])
