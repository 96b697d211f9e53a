"""Training: a head on the frozen backbone's embeddings, then optionally the whole network."""

import dataclasses
import os
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tfr import dataset_dir
from tfr.errors import DatasetError, UsageError

from . import (
    backbones,
    bottlenecks,
    callbacks,
    distribution,
    forward,
    input_pipeline,
    losses,
    metrics,
    models,
    plots,
    run_dir,
    sampling,
    threshold_tuning,
)
from .config import TrainConfig

_EMBED_BATCH = 32  # larger batches spill a CPU's caches, see benchmarks


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a run came to.

    Attributes:
      run_dir: the run directory.
      metrics: of the validation split, by the weights that were kept; see metrics.compute_metrics.
      epochs: epochs run, by phase.
      seconds: wall time.
    """

    run_dir: str
    metrics: dict[str, Any]
    epochs: dict[str, int]
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Task:
    """What the phases have in common."""

    config: TrainConfig
    builder: tfds.core.DatasetBuilder
    strategy: tf.distribute.Strategy
    names: list[str]
    multi_label: bool
    image_size: int
    train_split: str
    validation_split: str
    history: callbacks.History

    @property
    def steps_per_epoch(self) -> int:
        """Full global batches in one pass over the training split."""
        return input_pipeline.num_examples(self.builder, self.train_split) // self.config.data.batch_size


def train(config: TrainConfig) -> TrainResult:
    """Trains a tagger and writes its run directory.

    The head phase embeds every image once with the frozen backbone and trains the head on the embeddings. The
    fine-tuning phase, if it has epochs, goes on from there on images, over all layers but BatchNormalization.

    Args:
      config: what to train on and how.

    Returns:
      Where the run is and how good it is on the validation split.

    Raises:
      UsageError: the config does not fit together, or `run_dir` is taken.
      DatasetError: the dataset cannot be used.
    """
    started = time.monotonic()
    backbone_name = config.model.backbone or backbones.default_backbone()
    row = backbones.get_backbone(backbone_name)
    builder = input_pipeline.open_dataset(config.data.dataset, config.data.data_dir)
    strategy = distribution.make_strategy(config.strategy, config.num_virtual_devices)
    distribution.per_replica_batch_size(config.data.batch_size, strategy)
    train_split, validation_split = _choose_splits(config, builder)
    _check_positive_weights(config, builder)
    image_size = config.model.image_size or row.image_size[0]
    run_dir.create(config.run_dir, config.overwrite)
    keras.utils.set_random_seed(config.seed)
    task = _Task(
        config=config,
        builder=builder,
        strategy=strategy,
        names=dataset_dir.label_names(builder),
        multi_label=dataset_dir.label_key(builder) == "labels",
        image_size=image_size,
        train_split=train_split,
        validation_split=validation_split,
        history=callbacks.History(config.run_dir),
    )
    with strategy.scope():
        weights = None if config.model.weights == "none" else config.model.weights
        backbone = backbones.build_backbone(backbone_name, weights=weights, image_size=(image_size, image_size))
        models.set_trainable(backbone, False)
    train_set, validation = (
        bottlenecks.embed(backbone, builder, split, batch_size=_EMBED_BATCH, resize=config.data.resize)
        for split in (train_split, validation_split)
    )
    targets = validation.targets
    positives, negatives = ((train_set.targets == value).sum(axis=0) for value in (1, 0))
    positive_weights = sampling.positive_weights(positives, negatives, config.data.positive_weights)
    head, probabilities = _train_head(task, train_set, validation, positive_weights)
    with strategy.scope():
        logits_model = models.join(backbone, head)
    if config.finetune_epochs:
        probabilities = _finetune(task, backbone, logits_model, targets, positive_weights)
    return _finish(task, backbone_name, logits_model, probabilities, targets, time.monotonic() - started)


def _choose_splits(config: TrainConfig, builder: tfds.core.DatasetBuilder) -> tuple[str, str]:
    """The training and validation split; a dataset without the latter lends the last tenth of the former."""
    train_split, validation_split = config.data.train_split, config.data.validation_split
    if validation_split == "validation" and "validation" not in builder.info.splits and "[" not in train_split:
        train_split, validation_split = f"{train_split}[:90%]", f"{train_split}[90%:]"
    num_train = input_pipeline.num_examples(builder, train_split)
    if not input_pipeline.num_examples(builder, validation_split):
        raise DatasetError(f"{builder.info.full_name}: split {validation_split!r} is empty; --validation_split?")
    if num_train < config.data.batch_size:
        raise UsageError(
            f"--batch_size={config.data.batch_size} is more than the {num_train} examples of {train_split!r}."
        )
    return train_split, validation_split


def _check_positive_weights(config: TrainConfig, builder: tfds.core.DatasetBuilder) -> None:
    """Raises where they are asked for but have no meaning."""
    mode = config.data.positive_weights
    if mode != "none" and dataset_dir.label_key(builder) == "label":
        raise UsageError(
            f"--positive_weights={mode} is for multi-label datasets; {builder.info.full_name} has one label an image. "
            "--sample=balanced does for it."
        )


def _prior(targets: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """What share of the known targets of each label are positive, counted by the weights of the loss."""
    positives = (targets == 1).sum(axis=0) * (1.0 if weights is None else weights)
    return positives / np.maximum(positives + (targets == 0).sum(axis=0), 1e-9)


def _train_head(
    task: _Task, train_set: bottlenecks.Embeddings, validation: bottlenecks.Embeddings, weights: np.ndarray | None
) -> tuple[keras.Model, np.ndarray]:
    """The head phase: returns the head, and its probabilities on the validation split."""
    config = task.config
    with task.strategy.scope():
        head = models.build_head(
            train_set.values.shape[1],
            len(task.names),
            hidden_units=config.model.hidden_units,
            num_members=config.model.ensemble_size,
            dropout=config.model.dropout,
            mean=train_set.values.mean(axis=0),
            variance=train_set.values.var(axis=0),
            prior=_prior(train_set.targets, weights),
        )
    activate = keras.activations.sigmoid if task.multi_label else keras.activations.softmax

    def predict() -> np.ndarray:
        return activate(head(validation.values, training=False).numpy().mean(axis=1)).numpy()

    batches = bottlenecks.training_batches(train_set, config.data.batch_size, config.seed, sample=config.data.sample)
    _fit(task, "head", head, batches, predict, validation.targets, weights)
    return head, predict()


def _finetune(
    task: _Task, backbone: keras.Model, logits_model: keras.Model, targets: np.ndarray, weights: np.ndarray | None
) -> np.ndarray:
    """The fine-tuning phase: returns the validation probabilities of the weights that were kept."""
    config = task.config
    shape = input_pipeline.BatchShape(task.image_size, config.data.batch_size, config.data.resize)
    batches = input_pipeline.for_training(
        task.builder,
        task.train_split,
        shape,
        augment=config.data.augment,
        sample=config.data.sample,
        seed=config.seed,
    )
    with task.strategy.scope():
        models.set_trainable(backbone, True)
        tagger = models.with_probabilities(logits_model, task.multi_label)

    def predict() -> np.ndarray:
        validation = input_pipeline.for_evaluation(task.builder, task.validation_split, shape)
        return forward.collect(
            forward.run(tagger, validation, total=len(targets), description="validating", freeze=False)
        )["output"]

    _fit(task, "finetune", logits_model, batches, predict, targets, weights)
    return predict()


def _fit(
    task: _Task,
    phase: str,
    model: keras.Model,
    batches: tf.data.Dataset,
    predict: Callable[[], np.ndarray],
    targets: np.ndarray,
    weights: np.ndarray | None,
) -> None:
    """Trains one phase and leaves the model with the weights of its best epoch."""
    config, finetuning = task.config, phase == "finetune"
    epochs = config.finetune_epochs if finetuning else config.epochs
    rate = config.finetune_learning_rate if finetuning else config.learning_rate
    steps = task.steps_per_epoch
    with task.strategy.scope():
        schedule = keras.optimizers.schedules.CosineDecay(rate, epochs * steps)
        optimizer = keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        loss = losses.TaggerLoss(task.multi_label, positive_weights=weights)
        model.compile(optimizer, loss, jit_compile=False)
    task.history.phase = phase
    logs = os.path.join(config.run_dir, "tensorboard", phase)
    model.fit(
        batches,
        epochs=epochs,
        steps_per_epoch=steps,
        verbose=0,
        callbacks=[
            callbacks.Validation(predict, targets, task.names, task.multi_label),
            callbacks.StopOnNaN(phase),
            callbacks.Progress(phase, config.monitor),
            task.history,
            keras.callbacks.TensorBoard(logs, write_graph=False),
            keras.callbacks.EarlyStopping(
                config.monitor,
                mode="min" if config.monitor == "val_loss" else "max",
                patience=config.patience,
                restore_best_weights=True,
            ),
        ],
    )


def _finish(
    task: _Task,
    backbone_name: str,
    logits_model: keras.Model,
    probabilities: np.ndarray,
    targets: np.ndarray,
    seconds: float,
) -> TrainResult:
    """Writes everything that a run directory holds; model.keras, which marks it as finished, comes last."""
    config = task.config
    tuned = threshold_tuning.tune(targets, probabilities, tuned_on=task.validation_split)
    measured = metrics.compute_metrics(
        targets, probabilities, task.names, threshold=tuned.per_label, multi_label=task.multi_label
    )
    epochs = {phase: sum(row["phase"] == phase for row in task.history.rows) for phase in ("head", "finetune")}
    run_dir.write_text(config.run_dir, run_dir.LABELS_FILE, "".join(f"{name}\n" for name in task.names))
    run_dir.write_json(config.run_dir, run_dir.THRESHOLDS_FILE, tuned.to_json(task.names))
    run_dir.write_json(config.run_dir, run_dir.CONFIG_FILE, _describe(task, backbone_name, logits_model, seconds))
    run_dir.update_metrics(config.run_dir, "validation", measured)
    plots.draw_history(task.history.rows, os.path.join(config.run_dir, "plots"))
    tagger = models.with_probabilities(logits_model, task.multi_label)
    temporary = os.path.join(config.run_dir, ".tmp-model.keras")
    tagger.save(temporary)
    os.replace(temporary, os.path.join(config.run_dir, run_dir.MODEL_FILE))
    return TrainResult(run_dir=config.run_dir, metrics=measured, epochs=epochs, seconds=seconds)


def _describe(task: _Task, backbone_name: str, model: keras.Model, seconds: float) -> dict[str, Any]:
    """The config, and what it was resolved to."""
    strategy = task.strategy
    return {
        **dataclasses.asdict(task.config),
        "resolved": {
            "backbone": backbone_name,
            "image_size": task.image_size,
            "label_mode": "multi" if task.multi_label else "single",
            "num_labels": len(task.names),
            "dataset": task.builder.info.full_name,
            "dataset_dir": os.path.abspath(os.fspath(task.builder.data_path)),
            "train_split": task.train_split,
            "validation_split": task.validation_split,
            "num_train": input_pipeline.num_examples(task.builder, task.train_split),
            "num_validation": input_pipeline.num_examples(task.builder, task.validation_split),
            "strategy": type(strategy).__name__,
            "num_replicas": strategy.num_replicas_in_sync,
            "per_replica_batch_size": task.config.data.batch_size // strategy.num_replicas_in_sync,
            "steps_per_epoch": task.steps_per_epoch,
            "parameters": models.count_parameters(model.variables),
            "seconds": round(seconds, 1),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        },
    }


def summary(result: TrainResult) -> str:
    """How a run went, in plain words."""
    shown = ("macro_map", "micro_map", "macro_roc_auc", "micro_f1", "accuracy")
    figures = ", ".join(f"{key} {result.metrics[key]:.4f}" for key in shown if key in result.metrics)
    epochs = ", ".join(f"{count} {phase}" for phase, count in result.epochs.items() if count)
    return (
        f"Trained in {result.seconds:.0f} s ({epochs} epochs): {result.run_dir}\n"
        f"  validation: {figures}\n"
        f"  next: tfr evaluate {result.run_dir} --split=test\n"
        f"        tfr predict {result.run_dir} --image=FILE"
    )
