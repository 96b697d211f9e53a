"""Models on Beam: shards of work through RunInference. Importing this imports no TensorFlow; workers do as they start.

An element is a shard of work (a few names), never an image: the worker reads the images, runs the model over batches
of its own, and writes a file and a report. So the job is one linear chain that loses nothing on any runner, no bytes
pass between its steps, and RunInference's batching, whose last batches DaskRunner drops, has nothing to do.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.ml.inference.base import ModelHandler, RunInference

from tfr import files, progress, runners

from . import quiet

if TYPE_CHECKING:
    import keras

Work = Callable[[Any, Callable], str]


class ShardModelHandler(ModelHandler[Any, str, Any]):
    """Loads a saved model once a worker process, and does shards of work with it."""

    def __init__(self, model_path: str, work: Work):
        """Prepares.

        Args:
          model_path: a .keras file, a path or URI that workers can read.
          work: does one shard; takes it and the compiled forward pass (see forward.compile_forward) of uint8 images,
            and returns the name of what it wrote. Picklable.
        """
        super().__init__()
        self._model_path, self._work = model_path, work

    def load_model(self) -> Callable:
        """The compiled forward pass."""
        quiet.import_tensorflow()
        import tensorflow as tf

        from . import forward

        return forward.compile_forward(load(self._model_path), dtype=tf.uint8)

    def run_inference(
        self, batch: Sequence[Any], model: Callable, inference_args: dict[str, Any] | None = None
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


def save(model: "keras.Model", path: str) -> None:
    """Saves a model to a path or URI where workers find it."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(local := os.path.join(folder, "model.keras"))
        with open(local, "rb") as source, files.atomic_write(path) as target:
            shutil.copyfileobj(source, target)


def load(path: str) -> "keras.Model":
    """Loads a model that `save` saved."""
    import keras

    with tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, "model.keras")
        with files.open_binary(path) as source, open(local, "wb") as target:
            shutil.copyfileobj(source, target)
        return keras.models.load_model(local, compile=False)
