"""Embedding as a Beam job, for datasets that outgrow one machine."""

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tfr import files, progress, runners

from .. import inference_jobs
from .plan import Shard

_BACKBONE_FILE = "backbone.keras"

if TYPE_CHECKING:
    import keras

    from .writer import Settings


@dataclasses.dataclass(frozen=True)
class _LoadBackbone:
    """Loads the backbone on a worker, from a path or URI."""

    path: str

    def __call__(self) -> Callable:
        import keras
        import tensorflow as tf

        from .. import forward

        with tempfile.TemporaryDirectory() as folder:
            inference_jobs.copy(self.path, local := f"{folder}/{_BACKBONE_FILE}")
            return forward.compile_forward(keras.models.load_model(local, compile=False), dtype=tf.uint8)


@dataclasses.dataclass(frozen=True)
class _WriteShard:
    """Embeds a shard on a worker."""

    settings: "Settings"

    def __call__(self, shard: Shard, forward: Callable) -> str:
        from . import writer

        if not self.settings.target.finished(shard):  # by an attempt whose worker died
            writer.write_shards(self.settings, forward, [shard], show=False)
        return shard.file


def run(runner: runners.Runner, settings: "Settings", backbone: "keras.Model", todo: Sequence[Shard]) -> None:
    """Embeds shards on a runner; workers take the backbone from the plan folder.

    Raises:
      ConversionError: the job failed; finished shards are kept.
    """
    target = settings.target
    path = f"{target.plan_dir}/{_BACKBONE_FILE}"
    with tempfile.TemporaryDirectory() as folder:
        backbone.save(local := f"{folder}/{_BACKBONE_FILE}")
        inference_jobs.copy(local, path)
    handler = inference_jobs.ShardModelHandler(_LoadBackbone(path), _WriteShard(settings))

    def records_done() -> int:
        return sum(shard.num_records for shard in todo if target.finished(shard))

    shown = progress.Polled(sum(shard.num_records for shard in todo), "embedding", "images", records_done)
    inference_jobs.run(runner, handler, todo, shown if files.is_local(target.path) else None)
