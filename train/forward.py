"""Running a model over batches: a compiled forward pass, its outputs as arrays, with progress."""

from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from tfr import progress

Batch = dict[str, np.ndarray]


def run(model: keras.Model, dataset: tf.data.Dataset, *, total: int | None, description: str) -> Iterator[Batch]:
    """Applies a model to the images of every batch.

    Args:
      model: takes `image`.
      dataset: yields dicts of tensors with `image`, e.g. from input_pipeline.for_evaluation.
      total: examples in all, for the progress bar.
      description: what the bar says.

    Yields:
      Each batch as arrays, without `image`, plus `output`: what the model gives, float32 (n, ...).
    """
    forward = compile_forward(model)
    with progress.bar(total, description, "images") as bar:
        for batch in dataset:
            output = forward(batch.pop("image")).numpy()
            yield {**{key: value.numpy() for key, value in batch.items()}, "output": output}
            bar.update(len(output))


def compile_forward(model: keras.Model) -> tf.types.experimental.PolymorphicFunction:
    """The model in inference mode as a graph. Not by XLA, which on CPUs is many times slower for depthwise networks;
    with one signature for all batch sizes, so that the short last batch is not traced anew."""
    shape = (None, *model.input_shape[1:])
    signature = tf.TensorSpec(shape, tf.float32)
    return tf.function(lambda images: model(images, training=False), input_signature=[signature], jit_compile=False)


def collect(batches: Iterator[Batch]) -> Batch:
    """All batches, end to end."""
    listed = list(batches)
    return {key: np.concatenate([batch[key] for batch in listed]) for key in listed[0]} if listed else {}
