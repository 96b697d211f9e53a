"""`tfr predict --runner` as one call: millions of images on Beam, a file of predictions a shard, resumable by shard.

A shard is one of the dataset's, or a chunk of the list of images. Importing this imports no TensorFlow.
"""

import dataclasses
import hashlib
import itertools
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tfr import dataset_dir, files, folder_lock, progress, runners
from tfr.config import digest
from tfr.errors import TfrError, UsageError

from .. import image_sources, inference_jobs, quiet, run_dir
from ..embedding import plan
from . import output, rows
from .directory import FORMATS, PredictionDir, Report, Shard
from .predict import PredictConfig, Summary, open_images, output_options
from .tags import Prediction

if TYPE_CHECKING:
    from ..tagger import Tagger

_RUN_FILES = (run_dir.MODEL_FILE, run_dir.LABELS_FILE, run_dir.CONFIG_FILE, run_dir.THRESHOLDS_FILE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobConfig:
    """A prediction as a Beam job.

    Attributes:
      predict: what to predict on, and what to give; its `output` is a folder.
      runner, num_workers, beam_args: see tfr.runners.
      images_per_shard: images of a list that make one shard.
      overwrite: whether to replace predictions that were made otherwise.
    """

    predict: PredictConfig
    runner: str
    num_workers: int | None = None
    beam_args: tuple[str, ...] = ()
    images_per_shard: int = 10_000
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Checks what does not go together, before anything is read."""
        if self.predict.output is None:
            raise UsageError("--runner writes many files: give --output=FOLDER.")
        if self.predict.chosen_format not in FORMATS:
            raise UsageError(f"--runner writes {', '.join(FORMATS)}. Received: --format={self.predict.format}")
        if image_sources.STDIN in self.predict.images:
            raise UsageError("--runner needs images that can be read again: a list, a folder, a pattern or a dataset.")

    @property
    def places(self) -> dict[str, str]:
        """Flag to path of what workers read and write."""
        config = self.predict
        named = {"IMAGE": next(iter(config.images), None), "--images": config.folder, "--dataset": config.dataset}
        return {"--output": str(config.output), **{flag: path for flag, path in named.items() if path}}


def predict(config: JobConfig) -> Summary:
    """Predicts on a runner; shards that are there already, made of the same by the same, stay.

    Raises:
      ConversionError: the job failed; finished shards are kept.
      TfrError: there is nothing to predict on, or none of it could be used; or the folder holds something else.
    """
    started = time.perf_counter()
    run = run_dir.load(config.predict.run_dir)
    options = output_options(config.predict, run)
    runner = runners.prepare(config)
    target = PredictionDir(str(config.predict.output).rstrip("/"))
    recipe = _recipe(config.predict, run, options)
    target.check(recipe, config.overwrite)
    with folder_lock.hold(target.plan_dir, "prediction", target.path):
        target.start(recipe)
        planned = _plan_dataset(config, run) if config.predict.of_dataset else _plan_images(config, target)
        target.remove_all_but({shard.file for shard in planned})
        todo = [shard for shard in planned if not target.finished(shard)]
        if todo:
            _run_job(config, runner, target, options, run, todo)
        reports = target.publish(recipe, planned)
    summary = Summary(
        sum(report.num_images for report in reports),
        sum(report.num_bad for report in reports),
        time.perf_counter() - started,
    )
    if summary.num_bad == summary.num_images:
        raise TfrError(f"None of the {summary.num_images} images could be used; `error` in {target.path} says why.")
    return summary


def _recipe(config: PredictConfig, run: run_dir.Run, options: rows.OutputOptions) -> dict[str, Any]:
    """What predictions depend on beside the images, as JSON values."""
    with open(os.path.join(run.path, run_dir.MODEL_FILE), "rb") as file:
        model = hashlib.file_digest(file, "blake2b").hexdigest()
    return {
        "model": model,
        "limits": digest([float(limit) for limit in options.rule.limits]),
        "top_k": options.rule.top_k,
        "thresholds": str(config.thresholds),
        "format": options.format,
        "all_labels": options.all_labels,
        "embeddings": options.embeddings,
        "targets": options.targets,
    }


def _plan_dataset(config: JobConfig, run: run_dir.Run) -> list[Shard]:
    """A shard for each of a split's."""
    where = run.locate_dataset(config.predict.dataset)
    quiet.import_tensorflow()
    from .. import input_pipeline

    builder, split = input_pipeline.open_dataset(where), config.predict.split or "test"
    if split not in builder.info.splits:
        raise UsageError(
            f"--split={split}: a job takes whole splits, and {builder.info.full_name} has {list(builder.info.splits)}."
        )
    found = [shard for shard in plan.plan(builder, builder.name) if shard.split == split]
    firsts = itertools.accumulate((shard.num_records for shard in found), initial=0)
    return [
        Shard(
            file=f"{split}-{shard.index:05d}.{config.predict.chosen_format}",
            source=shard.source,
            num_images=shard.num_records,
            items=os.fspath(builder.data_path),
            split=split,
            index=shard.index,
            first=first,
        )
        for shard, first in zip(found, firsts, strict=False)
    ]


def _plan_images(config: JobConfig, target: PredictionDir) -> list[Shard]:
    """A shard for each chunk of the images that are named; the chunks are written to the plan folder."""
    planned: list[Shard] = []
    items = iter(progress.count(open_images(config.predict), "listing images", "images"))
    while chunk := list(itertools.islice(items, config.images_per_shard)):
        index = len(planned)
        lines = [json.dumps([item] if isinstance(item, str) else [item.name, item.reason]) for item in chunk]
        path = f"{target.plan_dir}/images-{index:05d}.jsonl"
        files.write_text(path, "\n".join(lines) + "\n")
        planned.append(
            Shard(
                file=f"predictions-{index:05d}.{config.predict.chosen_format}",
                source=digest(lines),
                num_images=len(chunk),
                items=path,
            )
        )
    return planned


def _run_job(
    config: JobConfig,
    runner: runners.Runner,
    target: PredictionDir,
    options: rows.OutputOptions,
    run: run_dir.Run,
    todo: Sequence[Shard],
) -> None:
    """Workers take the run from the plan folder."""
    for name in _RUN_FILES:
        if os.path.exists(local := os.path.join(run.path, name)):
            inference_jobs.copy(local, f"{target.plan_dir}/{name}")
    load = _LoadTagger(target.plan_dir, config.predict.batch_size)
    handler = inference_jobs.ShardModelHandler(load, _WriteShard(target, config.predict, options))

    def images_done() -> int:
        return sum(shard.num_images for shard in todo if target.finished(shard))

    shown = progress.Polled(sum(shard.num_images for shard in todo), "predicting", "images", images_done)
    inference_jobs.run(runner, handler, todo, shown if files.is_local(target.path) else None)


@dataclasses.dataclass(frozen=True)
class _LoadTagger:
    """Loads a run on a worker, from a folder or URI."""

    folder: str
    batch_size: int

    def __call__(self) -> "Tagger":
        from ..tagger import Tagger

        with tempfile.TemporaryDirectory() as local:
            for name in _RUN_FILES:
                if files.exists(path := f"{self.folder}/{name}"):
                    inference_jobs.copy(path, os.path.join(local, name))
            return Tagger(run_dir.load(local), batch_size=self.batch_size)


@dataclasses.dataclass(frozen=True)
class _WriteShard:
    """Writes the predictions of a shard on a worker."""

    target: PredictionDir
    config: PredictConfig
    options: rows.OutputOptions

    def __call__(self, shard: Shard, tagger: "Tagger") -> str:
        if self.target.finished(shard):  # by an attempt whose worker died
            return shard.file
        counts = _Counts()
        path = f"{self.target.path}/{shard.file}"
        output.write(counts.counted(self._predictions(shard, tagger)), path, self.options)
        self.target.write_report(
            Report(
                **{**dataclasses.asdict(shard), "num_images": counts.num_images},
                num_bad=counts.num_bad,
                file_bytes=files.size(path) or 0,
            )
        )
        return shard.file

    def _predictions(self, shard: Shard, tagger: "Tagger") -> Iterable[Prediction]:
        config = self.config
        options: dict[str, Any] = {
            "top_k": config.top_k, "thresholds": config.thresholds, "embeddings": config.embeddings,
        }  # fmt: skip
        if not shard.split:
            return tagger.stream(_read_items(shard.items), **options)
        if not shard.num_images:
            return ()
        part = f"{shard.split}[{shard.index}shard:{shard.index + 1}shard]"
        found = tagger.predict_split(part, dataset=shard.items, targets=config.targets, **options)
        has_ids = "id" in dataset_dir.open_builder(shard.items).info.features
        return found if has_ids else _numbered(found, shard)


def _numbered(found: Iterable[Prediction], shard: Shard) -> Iterator[Prediction]:
    """Examples without ids by their number in the split, not in the shard."""
    for number, result in enumerate(found, shard.first):
        yield dataclasses.replace(result, image=f"{shard.split}:{number}")


def _read_items(path: str) -> Iterator[str | image_sources.Unusable]:
    with files.open_text(path) as file:
        for line in file:
            item = json.loads(line)
            yield item[0] if len(item) == 1 else image_sources.Unusable(*item)


class _Counts:
    """Counts predictions as they pass."""

    def __init__(self) -> None:
        self.num_images = self.num_bad = 0

    def counted(self, found: Iterable[Prediction]) -> Iterator[Prediction]:
        """The same predictions."""
        for result in found:
            self.num_images += 1
            self.num_bad += result.error is not None
            yield result
