"""Bottlenecks: the embeddings of a split, computed once, so that a head trains on them in seconds."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from . import forward, input_pipeline, sampling


@dataclasses.dataclass(frozen=True)
class Embeddings:
    """Embeddings, float32 (num_examples, embedding_size), and targets, float32 (num_examples, num_labels)."""

    values: np.ndarray
    targets: np.ndarray


def embed(
    backbone: keras.Model, builder: tfds.core.DatasetBuilder, split: str, *, batch_size: int, resize: str
) -> Embeddings:
    """Embeds every example of a split, in stored order."""
    shape = input_pipeline.BatchShape(backbone.input_shape[1], batch_size, resize)
    dataset = input_pipeline.for_evaluation(builder, split, shape)
    total = input_pipeline.num_examples(builder, split)
    found = forward.collect(forward.run(backbone, dataset, total=total, description=f"embedding {split}"))
    return Embeddings(found["output"], found["target"])


def training_batches(
    embeddings: Embeddings, batch_size: int, seed: int, *, sample: str = "shuffled", start_step: int = 0
) -> tf.data.Dataset:
    """Endless batches of (embedding, target) from memory, in the order of input_pipeline.for_training."""
    present = embeddings.targets == 1
    order = sampling.make_order(sample, len(embeddings.values), lambda: np.nonzero(present), seed)
    values, targets = tf.constant(embeddings.values), tf.constant(embeddings.targets)

    def gather(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        positions = step * batch_size + tf.range(batch_size, dtype=tf.int64)
        places = tf.ensure_shape(tf.numpy_function(order, [positions], tf.int64, stateful=False), (batch_size,))
        return tf.gather(values, places), tf.gather(targets, places)

    return tf.data.Dataset.range(start_step, input_pipeline.ENDLESS).map(gather).prefetch(2)
