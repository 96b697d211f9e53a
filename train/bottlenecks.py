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
    embeddings: Embeddings,
    batch_size: int,
    seed: int,
    *,
    sample: str = "shuffled",
    start_step: int = 0,
    input_context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Endless batches of (embedding, target) from memory, in the order of input_pipeline.for_training.

    The arguments are those of for_training.
    """
    present = embeddings.targets == 1
    order = sampling.make_order(sample, len(embeddings.values), lambda: np.nonzero(present), seed)
    values, targets = tf.constant(embeddings.values), tf.constant(embeddings.targets)
    hosts = input_context.num_input_pipelines if input_context else 1
    first = batch_size // hosts * input_context.input_pipeline_id if input_context else 0

    def gather(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        positions = step * batch_size + first + tf.range(batch_size // hosts, dtype=tf.int64)
        places = tf.numpy_function(order, [positions], tf.int64, stateful=False)
        places = tf.ensure_shape(places, (batch_size // hosts,))
        return tf.gather(values, places), tf.gather(targets, places)

    dataset = tf.data.Dataset.range(start_step, input_pipeline.ENDLESS).map(gather)
    if input_context:
        dataset = dataset.unbatch().batch(batch_size // input_context.num_replicas_in_sync, drop_remainder=True)
    return dataset.prefetch(2)
