"""Embedding as a Beam job, for datasets that outgrow one machine."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tfr import files, progress, runners

from . import inference_jobs
from .embedding_plan import Shard

if TYPE_CHECKING:
    import keras

    from .embedding_writer import Settings


@dataclasses.dataclass(frozen=True)
class _WriteShard:
    """Embeds a shard on a worker."""

    settings: "Settings"

    def __call__(self, shard: Shard, forward: Callable) -> str:
        from . import embedding_writer

        if not self.settings.target.finished(shard):  # by an attempt whose worker died
            embedding_writer.write_shards(self.settings, forward, [shard], show=False)
        return shard.file


def run(runner: runners.Runner, settings: "Settings", backbone: "keras.Model", todo: Sequence[Shard]) -> None:
    """Embeds shards on a runner; workers take the backbone from the plan folder.

    Raises:
      ConversionError: the job failed; finished shards are kept.
    """
    target = settings.target
    inference_jobs.save(backbone, model_path := f"{target.plan_dir}/backbone.keras")
    handler = inference_jobs.ShardModelHandler(model_path, _WriteShard(settings))

    def records_done() -> int:
        return sum(shard.num_records for shard in todo if target.finished(shard))

    shown = progress.Polled(sum(shard.num_records for shard in todo), "embedding", "images", records_done)
    inference_jobs.run(runner, handler, todo, shown if files.is_local(target.path) else None)
