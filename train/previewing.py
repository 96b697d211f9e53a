"""Training batches as a picture: what augmentation and sampling make of a dataset."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from tfr import contact_sheet, dataset_dir, files

from . import input_pipeline
from .config import DataConfig
from .preprocessing import UNKNOWN

_NUM_IMAGES = 20


class Preview(NamedTuple):
    """The PNG file that was written, and what stands under each image."""

    output: str
    captions: list[str]


def draw_batches(config: DataConfig, *, image_size: int, seed: int = 0, output: str | None = None) -> Preview:
    """Writes the first training batch of a dataset, with its labels, as a contact sheet.

    Args:
      config: what to draw and how; the batch size is the number of images, 20 where it is not given.
      image_size: side of the images in pixels.
      seed: of the order and the augmentation.
      output: PNG file; default: <name>-<split>-augmented.png in the working directory.

    Raises:
      DatasetError: the dataset cannot be used.
      UsageError: `augment` cannot be read.
    """
    builder = input_pipeline.open_dataset(config.dataset, config.data_dir)
    names = dataset_dir.label_names(builder)
    shape = input_pipeline.BatchShape(image_size, config.batch_size or _NUM_IMAGES, config.resize)
    batches = input_pipeline.for_training(
        builder, config.train_split, shape, augment=config.augment, sample=config.sample, seed=seed
    )
    images, targets = next(batches.as_numpy_iterator())
    captions = [caption(target, names) for target in targets]
    path = output or f"{builder.info.name}-{config.train_split.partition('[')[0]}-augmented.png"
    buffer = io.BytesIO()
    contact_sheet.draw([(Image.fromarray(image), text) for image, text in zip(images, captions, strict=True)]).save(
        buffer, "PNG"
    )
    with files.atomic_write(path) as file:
        file.write(buffer.getvalue())
    return Preview(path, captions)


def caption(target: np.ndarray, names: Sequence[str]) -> str:
    """The labels of a target: 'cat', 'cat 0.7' where it is a share, 'cat?' where nothing is known."""
    shares = zip(names, target.round(2).tolist(), strict=True)
    parts = [
        f"{name}?" if share == UNKNOWN else name if share == 1 else f"{name} {share:.2f}"
        for name, share in shares
        if share
    ]
    return ", ".join(parts) or "(no labels)"
