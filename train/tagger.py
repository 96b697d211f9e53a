"""A trained tagger in memory: loads the model once and predicts on images of any kind."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfr.images import ImageOptions, ImageRejectedError

from . import forward, input_pipeline, models, reading_ahead, run_dir
from .image_sources import Unusable
from .pixels import AnyImage, PixelReader
from .prediction import saved_predictions, tags
from .prediction.tags import Prediction

_THREADS = max(2, os.cpu_count() or 2)
_REMOTE_THREADS = 16  # where most of the time an object store is waited for
_BATCHES_AHEAD = 3  # of images that are read ahead of the network


def load_tagger(path: str, *, batch_size: int = 32) -> "Tagger":
    """Loads the tagger of a finished run.

        tagger = tfr.load_tagger("runs/posters")
        for found in tagger.predict(["a.jpg", "gs://bucket/b.png"], thresholds="run"):
            print(found.image, found.error or found.tags)

    Args:
      path: the run directory.
      batch_size: images per step.

    Raises:
      RunDirError: it is no finished run.
    """
    return Tagger(run_dir.load(path), batch_size=batch_size)


class Tagger:
    """The model of a run, its labels and its thresholds. Any number of threads may use one tagger.

    Images are paths or URIs, contents of image files as bytes, pictures of Pillow's, or arrays, uint8
    (height, width, 3) or (height, width).

    Attributes:
      run: the run directory.
      labels: label names in the order of the probabilities.
    """

    def __init__(self, run: run_dir.Run, *, batch_size: int = 32, limits: ImageOptions | None = None):
        """Loads the model, which takes a second or more. `limits` are those of images."""
        self.run, self.labels, self._batch_size = run, run.labels, batch_size
        self._model = run.load_model()
        self._reader = PixelReader(run.image_size, run.resize, limits)

    def rule(self, **options: Any) -> tags.TagRule:
        """The rule by which labels become tags; see tags.make_rule for the arguments."""
        return tags.make_rule(self.run, **options)

    def predict(self, images: Iterable[AnyImage | Unusable], **options: Any) -> list[Prediction]:
        """Tags images; see `stream` for the arguments. One that cannot be used has an `error` and no tags."""
        return list(self.stream(images, **options))

    def predict_one(self, image: AnyImage, **options: Any) -> Prediction:
        """Tags an image; see `stream` for the arguments."""
        return self.predict([image], **options)[0]

    def stream(
        self,
        images: Iterable[AnyImage | Unusable],
        *,
        top_k: int | None = None,
        thresholds: str | float = "none",
        embeddings: bool = False,
        max_wait_secs: float | None = None,
    ) -> Iterator[Prediction]:
        """Tags images as they come, in order, in little memory however many there are.

        Args:
          images: what to tag; taken in a thread of their own, a few batches ahead.
          top_k, thresholds: which tags to give; see tags.make_rule.
          embeddings: whether to give embeddings too.
          max_wait_secs: how long a batch that has begun may wait to become full; None: until the images end.

        Yields:
          A Prediction for each image.

        Raises:
          UsageError: `thresholds` makes no sense.
        """
        rule = self.rule(top_k=top_k, thresholds=thresholds)
        named = ((_name_of(image, number), image) for number, image in enumerate(images))
        window = self._batch_size * _BATCHES_AHEAD
        with reading_ahead.ReadAhead(named, self._load, threads=_threads_for(images), window=window) as ahead:
            for batch in ahead.batches(self._batch_size, max_wait_secs):
                yield from self._predict_loaded(batch, rule, embeddings)

    def predict_split(
        self,
        split: str,
        *,
        dataset: str | None = None,
        top_k: int | None = None,
        thresholds: str | float = "none",
        embeddings: bool = False,
        targets: bool = False,
    ) -> Iterator[Prediction]:
        """Tags the examples of a dataset, in stored order.

        Args:
          split: a split, or a slice of one.
          dataset: dataset directory or TFDS name; default: the one that the run was trained on.
          top_k, thresholds, embeddings: see `stream`.
          targets: whether to give the true labels too.

        Raises:
          DatasetError: no such dataset or split.
          RunDirError: targets are asked for, and the run's labels are not those of the dataset.
        """
        rule = self.rule(top_k=top_k, thresholds=thresholds)
        builder = input_pipeline.open_dataset(self.run.locate_dataset(dataset))
        if targets:
            saved_predictions.check_labels(self.run, builder)
        shape = input_pipeline.BatchShape(self.run.image_size, self._batch_size, self.run.resize)
        number = 0
        for batch in input_pipeline.for_evaluation(builder, split, shape):
            found = self.predict_pixels(batch["image"], embeddings=embeddings)
            ids = batch["id"].numpy() if "id" in batch else None
            for row, result in enumerate(self._results(*found, rule)):
                image = f"{split}:{number}" if ids is None else ids[row].decode("utf-8")
                target = batch["target"][row].numpy() if targets else None
                yield dataclasses.replace(result, image=image, target=target)
                number += 1

    def read_pixels(self, image: AnyImage) -> np.ndarray:
        """An image as the model takes it: uint8 (image_size, image_size, 3).

        Raises:
          ImageRejectedError: it cannot be used.
        """
        return self._reader.read(image)

    def predict_pixels(
        self, pixels: np.ndarray | tf.Tensor, *, embeddings: bool = False
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The bare forward pass.

        Args:
          pixels: uint8 (n, image_size, image_size, 3).
          embeddings: whether to give embeddings too.

        Returns:
          Probabilities, float32 (n, num_labels), and embeddings, float32 (n, embedding_size), or None.
        """
        if embeddings:
            probabilities, embedded = self._forward_both(tf.convert_to_tensor(pixels))
            return probabilities.numpy(), embedded.numpy().astype(np.float32)
        return self._forward(tf.convert_to_tensor(pixels)).numpy(), None

    @functools.cached_property
    def _forward(self) -> Callable[[tf.Tensor], tf.Tensor]:
        return forward.compile_forward(self._model, dtype=tf.uint8)

    @functools.cached_property
    def _forward_both(self) -> Callable[[tf.Tensor], list[tf.Tensor]]:
        return forward.compile_forward(models.with_embeddings(self._model), dtype=tf.uint8)

    def _load(self, named: tuple[str, AnyImage | Unusable]) -> tuple[str, np.ndarray | str]:
        """Name and pixels, or why there are none."""
        name, image = named
        if isinstance(image, Unusable):
            return name, image.reason
        try:
            return name, self.read_pixels(image)
        except ImageRejectedError as err:
            return name, str(err)

    def _predict_loaded(
        self, batch: list[tuple[str, np.ndarray | str]], rule: tags.TagRule, embeddings: bool
    ) -> Iterator[Prediction]:
        pixels = [loaded for _, loaded in batch if not isinstance(loaded, str)]
        results: Iterator[Prediction] = iter(())
        if pixels:
            results = self._results(*self.predict_pixels(np.stack(pixels), embeddings=embeddings), rule)
        for name, loaded in batch:
            if isinstance(loaded, str):
                yield Prediction(image=name, error=loaded)
            else:
                yield dataclasses.replace(next(results), image=name)

    def _results(
        self, probabilities: np.ndarray, embeddings: np.ndarray | None, rule: tags.TagRule
    ) -> Iterator[Prediction]:
        for row, values in enumerate(probabilities):
            embedding = None if embeddings is None else embeddings[row]
            yield Prediction(image="", tags=rule.tags(values), probabilities=values, embedding=embedding)


def _threads_for(images: Iterable[Any]) -> int:
    """How many threads to read with."""
    listed = images if isinstance(images, (list, tuple)) else ()
    remote = getattr(images, "is_remote", False) or any(isinstance(image, str) and "://" in image for image in listed)
    return _REMOTE_THREADS if remote else _THREADS


def _name_of(image: AnyImage | Unusable, number: int) -> str:
    if isinstance(image, Unusable):
        return image.name
    return os.fspath(image) if isinstance(image, (str, os.PathLike)) else str(number)
