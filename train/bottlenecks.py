"""Bottlenecks: the embeddings of a split, computed once, so that a head trains on them in seconds."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from . import forward, input_pipeline


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


def training_batches(embeddings: Embeddings, batch_size: int, seed: int) -> tf.data.Dataset:
    """Endless shuffled batches of (embedding, target) from memory; replicas get equal shares."""
    dataset = tf.data.Dataset.from_tensor_slices((embeddings.values, embeddings.targets))
    dataset = dataset.shuffle(len(embeddings.values), seed)  # the whole of it: a new order each epoch
    dataset = dataset.repeat()
    return dataset.batch(batch_size, drop_remainder=True).prefetch(2)
