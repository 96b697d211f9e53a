"""What a training run works on: dataset, devices and run directory, opened and checked."""

import dataclasses
import os
from typing import Any

import keras
import tensorflow as tf
import tensorflow_datasets as tfds

from tfr import dataset_dir
from tfr.errors import DatasetError, UsageError

from . import backbones, checkpoints, distribution, history, input_pipeline, models, run_dir
from .config import TrainConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """What the phases have in common; see `prepare`."""

    config: TrainConfig
    builder: tfds.core.DatasetBuilder
    strategy: tf.distribute.Strategy
    names: list[str]
    multi_label: bool
    image_size: int
    train_split: str
    validation_split: str
    history: history.History
    store: checkpoints.Store

    @property
    def steps_per_epoch(self) -> int:
        """Full global batches in one pass over the training split."""
        return input_pipeline.num_examples(self.builder, self.train_split) // self.config.data.batch_size

    @property
    def shape(self) -> input_pipeline.BatchShape:
        """What batches of images look like."""
        return input_pipeline.BatchShape(self.image_size, self.config.data.batch_size, self.config.data.resize)


def prepare(config: TrainConfig, backbone_name: str, *, writes: bool = True) -> Task:
    """Opens everything, and says what does not fit before anything is written; without `writes`, nothing ever is."""
    builder = input_pipeline.open_dataset(config.data.dataset, config.data.data_dir)
    strategy = distribution.make_strategy(config.strategy, config.num_virtual_devices)
    distribution.per_replica_batch_size(config.data.batch_size, strategy)
    train_split, validation_split = _choose_splits(config, builder)
    _check_positive_weights(config, builder)
    is_chief = distribution.is_chief(strategy)
    writes = writes and is_chief
    if writes:
        run_dir.create(config.run_dir, config.overwrite)
    distribution.from_chief(strategy, 0.0)  # the others wait until the directory is as it should be
    return Task(
        config=config,
        builder=builder,
        strategy=strategy,
        names=dataset_dir.label_names(builder),
        multi_label=dataset_dir.label_key(builder) == "labels",
        image_size=config.model.image_size or backbones.get_backbone(backbone_name).image_size[0],
        train_split=train_split,
        validation_split=validation_split,
        history=history.History(config.run_dir, enabled=writes),
        store=checkpoints.Store(config.run_dir, config.content(), every_secs=config.checkpoint_secs, enabled=writes),
    )


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


def describe(task: Task, backbone_name: str, model: keras.Model, seconds: float) -> dict[str, Any]:
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
