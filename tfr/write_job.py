"""The Beam job that writes the shards of a plan, and its progress on the terminal."""

import collections
import concurrent.futures
import contextlib
import os
from collections.abc import Iterator

import apache_beam as beam

from tfr import files, planning, progress, runners, shard_writer
from tfr.shard_writer import WriteSettings


class WriteShardDoFn(beam.DoFn):
    """Writes the shard of a ShardPlan; emits its file name. Everything else travels in the report it writes.

    Counters tell who watches a remote runner how far it is. Nothing relies on them: not every runner has them.
    """

    def __init__(self, settings: WriteSettings):
        self._settings = settings
        self._records, self._rejects, self._bytes = (
            beam.metrics.Metrics.counter("tfr", name) for name in ("records", "rejects", "record_bytes")
        )

    def setup(self) -> None:
        """Starts the thread that waits for the disk while the next shard is written."""
        self._disk = concurrent.futures.ThreadPoolExecutor(1)

    def start_bundle(self) -> None:
        """No shard is on its way."""
        self._finishing: collections.deque[concurrent.futures.Future] = collections.deque()

    def process(self, plan: planning.ShardPlan) -> Iterator[str]:
        """Writes one shard; it is finished before the next one is, or before the bundle is."""
        try:
            self._finishing.append(self._disk.submit(shard_writer.begin_shard(plan, self._settings)))
            self._count_finished(len(self._finishing) - 1)
        except BaseException:
            concurrent.futures.wait(self._finishing)  # a job that has failed writes nothing any more
            raise
        yield plan.file

    def finish_bundle(self) -> None:
        """Waits for the last shard."""
        self._count_finished(len(self._finishing))

    def _count_finished(self, num_shards: int) -> None:
        for _ in range(num_shards):
            report = self._finishing.popleft().result()
            self._records.inc(report.num_records)
            self._rejects.inc(len(report.rejects))
            self._bytes.inc(report.num_bytes)

    def teardown(self) -> None:
        """Ends the thread."""
        self._disk.shutdown()


def build_pipeline(pipeline: beam.Pipeline, plans: list[planning.ShardPlan], settings: WriteSettings) -> None:
    """Adds the job to a pipeline: one linear chain with one leaf, no image bytes between its steps."""
    # Spreading the shards over one worker would only cost the time to set that up: half of what Beam takes.
    shards = beam.Create(plans, reshuffle=not runners.has_one_worker(pipeline))
    (
        pipeline | "Shards" >> shards | "WriteShard" >> beam.ParDo(WriteShardDoFn(settings))  #
    )


def run(runner: runners.Runner, plan: planning.Plan, settings: WriteSettings) -> None:
    """Writes the shards of a plan.

    Raises:
      ConversionError: the job failed; the shards that are finished are kept.
    """
    with progress.polled(_progress(plan, settings.plan_dir)):
        num_images = sum(shard.num_rows for shard in plan.shards)
        runner.run(lambda pipeline: build_pipeline(pipeline, plan.shards, settings), num_images)


def _progress(plan: planning.Plan, plan_dir: str) -> progress.Polled | None:
    """How many images are done, by what the workers of a local runner leave in the plan folder."""
    if not files.is_local(plan_dir):
        return None
    total = sum(shard.num_rows for shard in plan.shards)

    def poll() -> tuple[int, str]:
        done, rejected = _rows_done(plan, plan_dir)
        return done, f"{rejected} rejected"

    return progress.Polled(total, "converting", "images", poll)


def _rows_done(plan: planning.Plan, plan_dir: str) -> tuple[int, int]:
    done = rejected = 0
    for shard in plan.shards:
        with contextlib.suppress(OSError, ValueError):
            if os.path.exists(shard_writer.report_path(plan_dir, shard.file)):
                done += shard.num_rows
            else:
                with open(f"{plan_dir}/{shard.file}.progress", encoding="utf-8") as file:
                    rows, rejects = map(int, file.read().split())
                done, rejected = done + rows, rejected + rejects
    return done, rejected
