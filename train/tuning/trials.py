"""Running the trials of a search: heads on embeddings computed once, or whole runs where fine-tuning is searched."""

import dataclasses
import math
import os
import time
from typing import Any, NamedTuple

import keras
import numpy as np

from tfr import progress
from tfr.errors import TfrError

from .. import automatic, bottlenecks, metrics, run_dir, training
from .. import task as task_lib
from ..config import TrainConfig
from ..embedding import embed
from ..embedding.config import EmbedConfig
from ..prediction import saved_predictions
from ..task import Task
from .config import TuneConfig

EMBEDDINGS = "embeddings"  # folder of a search


class Outcome(NamedTuple):
    """What a trial came to on the validation split.

    Attributes:
      score: the metric of the search.
      targets, probabilities: what it is of, float32 (num_examples, num_labels); see metrics.compute_metrics.
      seconds: of training; embeddings, which are there for all trials, not included.
    """

    score: float
    targets: np.ndarray
    probabilities: np.ndarray
    seconds: float


class Bench:
    """Where trials run.

    Attributes:
      task: of the first backbone.
    """

    def __init__(self, config: TuneConfig):
        """Opens the dataset. Raises UsageError or DatasetError where it does not fit the config."""
        self._config = config
        self.task = self._prepare(config.train_config({}, ""))
        self._made: dict[str, str] = {}
        self._loaded: dict[str, tuple[Task, bottlenecks.Embeddings, bottlenecks.Embeddings]] = {}

    def _prepare(self, config: TrainConfig) -> Task:
        return task_lib.prepare(config, config.model.backbone or "", writes=False)

    def fill(self, config: TrainConfig) -> TrainConfig:
        """The same run without open fields: what it leaves open is what was chosen for the first backbone."""
        return automatic.fill(config, self.task.config)

    def with_bottlenecks(self, config: TrainConfig) -> TrainConfig:
        """The same run, filled, on embeddings that are kept with the search; they are made if they are not there."""
        config = self.fill(config)
        backbone, data = config.model.backbone or "", config.data
        if backbone not in self._made:
            path = os.path.join(self._config.output, EMBEDDINGS, backbone)
            wanted = EmbedConfig(
                dataset=data.dataset,
                data_dir=data.data_dir,
                output=path,
                backbone=backbone,
                weights=config.model.weights,
                image_size=config.model.image_size,
                features=config.model.features or "last",
                resize=data.resize,
                dtype="float32",  # the very numbers that training without them has
                seed=config.seed,
                overwrite=True,
            )
            self._made[backbone] = embed.embed(wanted).output
        return dataclasses.replace(config, data=dataclasses.replace(data, bottlenecks=self._made[backbone]))

    def run(self, config: TrainConfig) -> Outcome:
        """Runs a trial. One that fine-tunes leaves its run directory.

        Args:
          config: the trial, `with_bottlenecks`.

        Raises:
          TfrError: it came to nothing, such as a loss that is no number.
        """
        if not config.finetune_epochs:
            self._load(config)
        started = time.monotonic()
        with progress.hidden():
            targets, probabilities = self._finetune(config) if config.finetune_epochs else self._fit_head(config)
        seconds = time.monotonic() - started
        measured: dict[str, Any] = metrics.compute_metrics(
            targets, probabilities, self.task.names, multi_label=self.task.multi_label
        )
        score = float(measured[self._config.metric])
        if not math.isfinite(score):
            raise TfrError(f"{self._config.metric} is not defined on {self.task.validation_split!r}.")
        return Outcome(score, targets, probabilities, seconds)

    def _load(self, config: TrainConfig) -> tuple[Task, bottlenecks.Embeddings, bottlenecks.Embeddings]:
        """The task and the embeddings of the training and the validation split, kept in memory."""
        backbone = config.model.backbone or ""
        if backbone not in self._loaded:
            task = self._prepare(config)
            self._loaded[backbone] = (task, *training.embed(task, backbone)[1:])
        return self._loaded[backbone]

    def _fit_head(self, config: TrainConfig) -> tuple[np.ndarray, np.ndarray]:
        task, train_set, validation = self._load(config)
        keras.utils.clear_session()  # else hundreds of trials leave their graphs behind
        probabilities = training.fit_head(dataclasses.replace(task, config=config), train_set, validation)
        return validation.targets, probabilities

    def _finetune(self, config: TrainConfig) -> tuple[np.ndarray, np.ndarray]:
        keras.utils.clear_session()
        training.train(config)
        found = saved_predictions.of_split(run_dir.load(config.run_dir), split=self.task.validation_split)
        return found.targets, found.probabilities
