"""Models on Beam: shards of work through RunInference. Importing this imports no TensorFlow; workers do as they start.

An element is a shard of work (a few names), never an image: the worker reads the images, runs the model over batches
of its own, and writes a file and a report. So the job is one linear chain that loses nothing on any runner, no bytes
pass between its steps, and RunInference's batching, whose last batches DaskRunner drops, has nothing to do.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import ModelHandler, RunInference

from tfr import files, progress, runners

from . import quiet

Work = Callable[[Any, Any], str]


class ShardModelHandler(ModelHandler[Any, str, Any]):
    """Loads a model once a worker process, and does shards of work with it."""

    def __init__(self, load: Callable[[], Any], work: Work):
        """Prepares.

        Args:
          load: returns the model, with TensorFlow imported already. Picklable.
          work: does one shard; takes it and the model, and returns the name of what it wrote. Picklable.
        """
        super().__init__()
        self._load, self._work = load, work

    def load_model(self) -> Any:
        """The model."""
        quiet.import_tensorflow()
        return self._load()

    def run_inference(
        self, batch: Sequence[Any], model: Any, inference_args: dict[str, Any] | None = None
    ) -> Iterator[str]:
        """Does shards of work; yields the names of what was written."""
        del inference_args  # Beam's, for other models
        return (self._work(task, model) for task in batch)

    def get_metrics_namespace(self) -> str:
        """Where RunInference counts."""
        return "tfr"


def run(
    runner: runners.Runner, handler: ShardModelHandler, tasks: Sequence[Any], shown: progress.Polled | None = None
) -> None:
    """Does all tasks on a runner, and shows progress where `shown` says how.

    Raises:
      ConversionError: the job failed; what is finished is kept.
    """

    def build(pipeline: beam.Pipeline) -> None:
        batches = [[task] for task in tasks]
        _ = pipeline | "Shards" >> beam.Create(batches) | "Inference" >> RunInference(handler.with_no_batching())

    with progress.polled(shown):
        runner.run(build)


def copy(source: str, target: str) -> None:
    """Copies a file between paths and URIs; it appears under its name when it is complete."""
    with files.open_binary(source) as from_, files.atomic_write(target) as to:
        shutil.copyfileobj(from_, to)
