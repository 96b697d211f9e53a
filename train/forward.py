"""Running a model over batches: a compiled forward pass, its outputs as arrays, with progress."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from tfr import progress

Batch = dict[str, np.ndarray]


def run(
    model: keras.Model, dataset: tf.data.Dataset, *, total: int | None, description: str, freeze: bool = True
) -> Iterator[Batch]:
    """Applies a model to the images of every batch.

    Args:
      model: takes `image`.
      dataset: yields dicts of tensors with `image`, e.g. from input_pipeline.for_evaluation.
      total: examples in all, for the progress bar.
      description: what the bar says.
      freeze: see compile_forward.

    Yields:
      Each batch as arrays, without `image`, plus `output`: what the model gives, float32 (n, ...).
    """
    forward = compile_forward(model, freeze=freeze, dtype=dataset.element_spec["image"].dtype)
    return run_compiled(forward, dataset, total=total, description=description)


def run_compiled(
    forward: Callable[[tf.Tensor], tf.Tensor], dataset: tf.data.Dataset, *, total: int | None, description: str
) -> Iterator[Batch]:
    """As `run`, with what compile_forward returned: for models that are run again and again."""
    with progress.bar(total, description, "images") as bar:
        for batch in dataset:
            output = forward(batch.pop("image")).numpy()
            yield {**{key: value.numpy() for key, value in batch.items()}, "output": output}
            bar.update(len(output))


def compile_forward(
    model: keras.Model, *, freeze: bool = True, dtype: tf.DType = tf.float32
) -> Callable[[tf.Tensor], Any]:
    """The model in inference mode as a graph, for images of any batch size.

    Not compiled by XLA, which on CPUs is many times slower for depthwise networks.

    Args:
      model: takes one batch of images.
      freeze: whether to make the weights constants, so that batch normalisation is folded into the convolutions: a
        quarter less work for a second of preparation. What changes the model afterwards is then not seen.
      dtype: of the images; other than float32 they are cast on the model's device.

    Returns:
      A function from a batch to the model's output, or to the list of its outputs if it has several.
    """
    signature = tf.TensorSpec((None, *model.input_shape[1:]), dtype)
    forward = tf.function(
        lambda images: model(tf.cast(images, tf.float32), training=False),
        input_signature=[signature],
        jit_compile=False,
    )
    if not freeze or len(tf.config.list_logical_devices()) > 1:  # mirrored variables cannot be made constants
        return forward
    frozen = convert_variables_to_constants_v2(forward.get_concrete_function())
    return frozen if len(model.outputs) > 1 else lambda images: frozen(images)[0]


def collect(batches: Iterator[Batch]) -> Batch:
    """All batches, end to end."""
    listed = list(batches)
    return {key: np.concatenate([batch[key] for batch in listed]) for key in listed[0]} if listed else {}
