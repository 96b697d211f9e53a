"""What a training run works on: dataset, devices and run directory, opened and checked."""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
import tensorflow_datasets as tfds

from tfr import dataset_dir, files
from tfr.config import digest
from tfr.errors import DatasetError, UsageError

from . import automatic, checkpoints, distribution, facts, history, input_pipeline, models, records, run_dir
from .config import TrainConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """What the phases have in common; see `prepare`.

    Attributes:
      config: without open fields.
      choices: what was open in the config that `prepare` was given.
      seconds_to_embed: about how long that will take; None where it is not known.
    """

    config: TrainConfig
    choices: list[automatic.Choice]
    seconds_to_embed: float | None
    builder: tfds.core.DatasetBuilder
    strategy: tf.distribute.Strategy
    names: list[str]
    multi_label: bool
    image_size: int
    batch_size: int
    train_split: str
    validation_split: str
    history: history.History
    store: checkpoints.Store

    @property
    def steps_per_epoch(self) -> int:
        """Full global batches in one pass over the training split."""
        return input_pipeline.num_examples(self.builder, self.train_split) // self.batch_size

    @property
    def measure_on(self) -> str:
        """The split that says most of how good a run is: test, or, without one, the one that it is validated on."""
        return "test" if "test" in self.builder.info.splits else self.validation_split

    @property
    def shape(self) -> input_pipeline.BatchShape:
        """What batches of images look like."""
        return input_pipeline.BatchShape(self.image_size, self.batch_size, self.config.data.resize)


def prepare(config: TrainConfig, backbone_name: str, *, writes: bool = True) -> Task:
    """Opens everything, and says what does not fit; writes nothing yet, and without `writes` nothing ever."""
    images = not config.data.bottlenecks or bool(config.finetune_epochs)
    builder = input_pipeline.open_dataset(config.data.dataset, config.data.data_dir, images=images)
    strategy = distribution.make_strategy(config.strategy, config.num_virtual_devices)
    train_split, validation_split = _choose_splits(config, builder)
    choices: list[automatic.Choice] = []
    seconds = None
    if automatic.is_open(config):
        found = facts.gather(builder, train_split, validation_split, backbone_name, strategy)
        config, choices = automatic.choose(config, found)
        seconds = automatic.seconds_to_embed(found, config.model.image_size or found.backbone_size)
    config, more = automatic.choose_keep(config, input_pipeline.num_examples(builder, validation_split))
    choices = [*choices, *more]
    assert config.data.batch_size
    assert config.model.image_size
    _check_batch_size(config.data.batch_size, builder, train_split, strategy)
    _check_positive_weights(config, builder)
    writes = writes and distribution.is_chief(strategy)
    return Task(
        config=config,
        choices=choices,
        seconds_to_embed=seconds,
        builder=builder,
        strategy=strategy,
        names=dataset_dir.label_names(builder),
        multi_label=dataset_dir.label_key(builder) == "labels",
        image_size=config.model.image_size,
        batch_size=config.data.batch_size,
        train_split=train_split,
        validation_split=validation_split,
        history=history.History(config.run_dir, enabled=writes),
        store=checkpoints.Store(
            config.run_dir,
            {**config.content(), checkpoints.EXAMPLES: digest(dataset_dir.identity(builder))},
            every_secs=config.checkpoint_secs,
            enabled=writes,
        ),
    )


@contextlib.contextmanager
def claim(task: Task) -> Iterator[None]:
    """Makes the run directory, and keeps other trainings out of it until the block ends; see run_dir.claim."""
    mine = distribution.is_chief(task.strategy)
    with run_dir.claim(task.config.run_dir, task.config.overwrite) if mine else contextlib.nullcontext():
        distribution.from_chief(task.strategy, 0.0)  # the others wait until the directory is as it should be
        yield


def say_choices(task: Task) -> None:
    """Tells on standard error what was chosen and why, and about how long the embeddings will take."""
    if not task.choices or not distribution.is_chief(task.strategy):
        return
    print("Chosen, as no flag says otherwise:", automatic.text(task.choices), sep="\n", file=sys.stderr)
    if task.seconds_to_embed and not task.config.data.bottlenecks:
        long = f"{task.seconds_to_embed / 60:.1f} min" if task.seconds_to_embed > 60 else "a minute or less"
        print(f"Embedding will take about {long} on this machine.", file=sys.stderr, flush=True)


def say_shared(task: Task) -> None:
    """Tells on standard error where what is validated on is trained on too: the figures are then those of memory."""
    shared = records.num_shared(task.builder, task.validation_split, task.train_split)
    if shared and distribution.is_chief(task.strategy):
        print(
            f"tfr: {shared} of the {input_pipeline.num_examples(task.builder, task.validation_split)} examples of "
            f"--validation_split={task.validation_split} are in --train_split={task.train_split} too. What the run "
            "knows by heart then chooses weights and thresholds, and the figures of validation say nothing.",
            file=sys.stderr,
            flush=True,
        )


def say_memory(task: Task, num_bytes: int) -> None:
    """Tells on standard error, beside the choices, what is in memory from one epoch to the next, and what is not."""
    if not task.choices or not distribution.is_chief(task.strategy):
        return
    said = f"In memory for all epochs: the embeddings, {num_bytes / 2**20:.1f} MiB."
    if task.config.finetune_epochs:
        said += " Images are not: fine-tuning reads and decodes them anew in each."
    print(said, file=sys.stderr, flush=True)


def _choose_splits(config: TrainConfig, builder: tfds.core.DatasetBuilder) -> tuple[str, str]:
    """The training and validation split; a dataset without the latter lends the last tenth of each of the former."""
    train_split, validation_split = config.data.train_split, config.data.validation_split
    if validation_split == "validation" and "validation" not in builder.info.splits and "[" not in train_split:
        names = [*builder.info.splits] if train_split == "all" else [part.strip() for part in train_split.split("+")]
        train_split, validation_split = ("+".join(f"{name}[{part}]" for name in names) for part in (":90%", "90%:"))
    if not input_pipeline.num_examples(builder, validation_split):
        raise DatasetError(f"{builder.info.full_name}: split {validation_split!r} is empty; --validation_split?")
    return train_split, validation_split


def _check_batch_size(
    batch_size: int, builder: tfds.core.DatasetBuilder, train_split: str, strategy: tf.distribute.Strategy
) -> None:
    """Raises where it does not divide by the replicas, or an epoch has less than one batch."""
    distribution.per_replica_batch_size(batch_size, strategy)
    num_train = input_pipeline.num_examples(builder, train_split)
    if num_train < batch_size:
        raise UsageError(f"--batch_size={batch_size} is more than the {num_train} examples of {train_split!r}.")


def _check_positive_weights(config: TrainConfig, builder: tfds.core.DatasetBuilder) -> None:
    """Raises where they are asked for but have no meaning."""
    mode = config.data.positive_weights
    if mode != "none" and dataset_dir.label_key(builder) == "label":
        raise UsageError(
            f"--positive_weights={mode} is for multi-label datasets; {builder.info.full_name} has one label an image. "
            "--sample=balanced does for it."
        )


def _where(run: str, dataset: str) -> dict[str, str]:
    """Where the dataset lies, and where from the run: the two may move together."""
    beside = {"dataset_from_run": os.path.relpath(dataset, run)} if files.is_local(dataset) else {}
    return {"dataset_dir": files.absolute(dataset), **beside}


def describe(task: Task, backbone_name: str, model: keras.Model, seconds: float) -> dict[str, Any]:
    """The config, and what it was resolved to."""
    strategy = task.strategy
    return {
        **dataclasses.asdict(task.config),
        "automatic": [dataclasses.asdict(choice) for choice in task.choices],
        "resolved": {
            "backbone": backbone_name,
            "image_size": task.image_size,
            "label_mode": "multi" if task.multi_label else "single",
            "num_labels": len(task.names),
            "dataset": task.builder.info.full_name,
            **_where(task.config.run_dir, os.fspath(task.builder.data_path)),
            "train_split": task.train_split,
            "validation_split": task.validation_split,
            "num_train": input_pipeline.num_examples(task.builder, task.train_split),
            "num_validation": input_pipeline.num_examples(task.builder, task.validation_split),
            "strategy": type(strategy).__name__,
            "num_replicas": strategy.num_replicas_in_sync,
            "per_replica_batch_size": task.batch_size // strategy.num_replicas_in_sync,
            "steps_per_epoch": task.steps_per_epoch,
            "parameters": models.count_parameters(model.variables),
            "seconds": round(seconds, 1),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        },
    }
