"""Probabilities for examples that a run was trained on, from heads that were not.

A run has learnt the labels of its training split, wrong ones too. So the split is divided into folds, and the examples
of each are judged by a head trained on the other folds, over embeddings of the backbone as it was before the run: a
fine-tuned one has seen all labels.
"""

import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from sklearn.model_selection import KFold

from tfr import progress

from . import backbones, bottlenecks, forward, input_pipeline, losses, models, optimizers, run_dir
from .loop import Loop
from .prediction.saved_predictions import Predictions
from .preprocessing import UNKNOWN

# One small network, trained for a fixed time: no split is left to stop early by. On the posters it ranks labels like
# the ensemble that `tfr train` makes, in half the time.
_HIDDEN_UNITS, _DROPOUT = (256,), 0.7
_EPOCHS, _MIN_STEPS, _BATCH_SIZE = 20, 300, 64
_LEARNING_RATE, _WEIGHT_DECAY = 2e-3, 0.1


def predict(
    run: run_dir.Run,
    builder: tfds.core.DatasetBuilder,
    split: str,
    *,
    num_folds: int = 5,
    batch_size: int = 32,
    seed: int = 0,
) -> Predictions:
    """Out-of-sample predictions for every example of a split that a run was trained on.

    Args:
      run: gives backbone, image size and label mode.
      builder: an open dataset with the run's labels.
      split: a split, or a slice of one.
      num_folds: parts that the split is divided into.
      batch_size: images per step of the backbone.
      seed: of the division and of the heads.

    Returns:
      The probabilities of the heads, in stored order, beside targets and ids.
    """
    keras.utils.set_random_seed(seed)
    weights = None if run.config["model"]["weights"] == "none" else run.config["model"]["weights"]
    size = (run.image_size, run.image_size)
    backbone = backbones.build_backbone(run.config["resolved"]["backbone"], weights=weights, image_size=size)
    images = input_pipeline.for_evaluation(builder, split, input_pipeline.BatchShape(size[0], batch_size, run.resize))
    total = input_pipeline.num_examples(builder, split)
    found = forward.collect(forward.run(backbone, images, total=total, description=f"embedding {split}"))
    embeddings = bottlenecks.Embeddings(found["output"], found["target"])
    probabilities = out_of_fold(embeddings, run.multi_label, num_folds=num_folds, seed=seed)
    return Predictions(found["target"], probabilities, [value.decode("utf-8") for value in found.get("id", [])])


def out_of_fold(
    embeddings: bottlenecks.Embeddings, multi_label: bool, *, num_folds: int = 5, seed: int = 0
) -> np.ndarray:
    """Probabilities, float32 (num_examples, num_labels), each from a head that was not trained on its example."""
    probabilities = np.zeros_like(embeddings.targets)
    folds = KFold(min(num_folds, len(probabilities)), shuffle=True, random_state=seed).split(probabilities)
    activate = keras.activations.sigmoid if multi_label else keras.activations.softmax
    for others, fold in progress.count(folds, "cross-validating", "folds"):
        part = bottlenecks.Embeddings(embeddings.values[others], embeddings.targets[others])
        logits = _train_head(part, multi_label, seed)(embeddings.values[fold], training=False)
        probabilities[fold] = keras.ops.convert_to_numpy(activate(keras.ops.mean(logits, axis=1)))
    return probabilities


def _train_head(part: bottlenecks.Embeddings, multi_label: bool, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    head = models.build_head(
        part.values.shape[1],
        part.targets.shape[1],
        hidden_units=_HIDDEN_UNITS,
        dropout=_DROPOUT,
        mean=part.values.mean(axis=0),
        variance=part.values.var(axis=0),
        prior=(part.targets == 1).sum(axis=0) / np.maximum((part.targets != UNKNOWN).sum(axis=0), 1),
    )
    batch_size = min(_BATCH_SIZE, len(part.values))
    num_steps = max(_EPOCHS * (len(part.values) // batch_size), _MIN_STEPS)
    schedule = optimizers.Schedule(_LEARNING_RATE, total_steps=num_steps)
    optimizer = optimizers.make_optimizer("adamw", schedule, head.trainable_variables, weight_decay=_WEIGHT_DECAY)
    loop = Loop(head, losses.TaggerLoss(multi_label), optimizer, tf.distribute.get_strategy())
    batches = loop.distribute(
        lambda start_step, _: bottlenecks.training_batches(part, batch_size, seed, start_step=start_step), 0
    )
    loop.run(batches, num_steps)
    return head
