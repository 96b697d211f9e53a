"""`tfr predict` as one call: from what is named to a file or standard output."""

import dataclasses
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from tfr import progress
from tfr.errors import TfrError, UsageError

from .. import image_sources, quiet, run_dir
from . import rows, tags
from .output import Writer, choose_format, open_writer
from .tags import Prediction

if TYPE_CHECKING:
    from ..tagger import Tagger

_LIVE_WAIT_SECS = 0.5  # for more paths on standard input, before those that came are predicted on
_BAD_SHOWN = 20  # bad images that are named on standard error; formats for programs name all of them


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """What to predict on, what of it to give, and where.

    Attributes:
      run_dir: a finished run.
      images, images_file, column, folder: see image_sources.open_source.
      dataset: dataset directory or TFDS name to take examples of, instead of images.
      split: of the dataset; default 'test'. Without `dataset`: of the one that the run was trained on.
      targets: whether to give the dataset's own labels too.
      top_k, thresholds: which labels become tags; see tags.make_rule.
      format: one of rows.FORMATS; None: as the name of `output` says, else text.
      output: a file or URI; None: standard output.
      all_labels, embeddings: see rows.OutputOptions.
      batch_size: images per step.
    """

    run_dir: str
    images: tuple[str, ...] = ()
    images_file: str | None = None
    column: str | None = None
    folder: str = ""
    dataset: str | None = None
    split: str | None = None
    targets: bool = False
    top_k: int | None = None
    thresholds: str | float = "none"
    format: str | None = None
    output: str | None = None
    all_labels: str = "none"
    embeddings: bool = False
    batch_size: int = 32

    def __post_init__(self) -> None:
        """Checks what does not go together, before anything is read."""
        files = bool(self.images or self.images_file)
        if files and self.of_dataset:
            raise UsageError("Give images or a dataset's split (--dataset, --split), not both.")
        if not files and not self.of_dataset:
            raise UsageError(
                "There is nothing to predict on: give files, folders, patterns, '-' for paths on standard input, "
                f"--images_file or --split. ({self.run_dir} was taken for the run directory, which comes first.)"
            )
        if self.targets and not self.of_dataset:
            raise UsageError("--targets is for examples of a dataset (--dataset, --split); loose images have none.")
        if self.column is not None and self.images_file is None:
            raise UsageError(f"--column={self.column} is the column of --images_file, which is not given.")
        tags.check_thresholds(self.thresholds)
        rows.check(format=self.chosen_format, all_labels=self.all_labels, embeddings=self.embeddings)

    @property
    def of_dataset(self) -> bool:
        """Whether examples of a dataset are predicted on."""
        return self.dataset is not None or self.split is not None

    @property
    def chosen_format(self) -> str:
        """The format of the output."""
        return choose_format(self.format, self.output)


@dataclasses.dataclass(frozen=True)
class Summary:
    """How many images there were, how many of them could not be used, and seconds spent on them, without loading."""

    num_images: int
    num_bad: int
    seconds: float


def predict(config: PredictConfig) -> Summary:
    """Predicts and writes.

    Raises:
      TfrError: there is nothing to predict on, or none of it could be used.
    """
    run = run_dir.load(config.run_dir)
    options = output_options(config, run)
    source = None if config.of_dataset else open_images(config)
    quiet.import_tensorflow()
    from ..tagger import Tagger

    tagger = Tagger(run, batch_size=config.batch_size)
    total, found = _of_split(config, tagger) if source is None else _of_images(config, tagger, source)
    with open_writer(config.output, options) as writer, _bar(total, config) as bar:
        summary = _write(found, writer, bar, names_all=options.format != "text")
    if summary.num_bad == summary.num_images:
        raise TfrError(f"None of the {summary.num_images} images could be used.")
    return summary


def output_options(config: PredictConfig, run: run_dir.Run) -> rows.OutputOptions:
    """What is written of each prediction."""
    return rows.OutputOptions(
        rule=tags.make_rule(run, top_k=config.top_k, thresholds=config.thresholds),
        format=config.chosen_format,
        all_labels=config.all_labels,
        embeddings=config.embeddings,
        targets=config.targets,
    )


def open_images(config: PredictConfig) -> image_sources.ImageSource:
    """The images that a config names."""
    return image_sources.open_source(config.images, config.images_file, column=config.column, folder=config.folder)


def _of_images(
    config: PredictConfig, tagger: "Tagger", source: image_sources.ImageSource
) -> tuple[int | None, Iterator[Prediction]]:
    wait = _LIVE_WAIT_SECS if source.is_live else None
    options: dict[str, Any] = {"top_k": config.top_k, "thresholds": config.thresholds, "embeddings": config.embeddings}
    return source.total, tagger.stream(source, max_wait_secs=wait, **options)


def _of_split(config: PredictConfig, tagger: "Tagger") -> tuple[int | None, Iterator[Prediction]]:
    from .. import input_pipeline

    dataset, split = tagger.run.locate_dataset(config.dataset), config.split or "test"
    total = input_pipeline.num_examples(input_pipeline.open_dataset(dataset), split)
    options: dict[str, Any] = {"top_k": config.top_k, "thresholds": config.thresholds, "embeddings": config.embeddings}
    return total, tagger.predict_split(split, dataset=dataset, targets=config.targets, **options)


def _bar(total: int | None, config: PredictConfig) -> tqdm:
    """Progress, unless results scroll by on the same terminal."""
    bar = progress.bar(total, "predicting", "images")
    if config.output is None and sys.stdout.isatty():
        bar.disable = True
    return bar


def _write(found: Iterator[Prediction], writer: Writer, bar: tqdm, *, names_all: bool) -> Summary:
    started, num_images, num_bad = time.perf_counter(), 0, 0
    for result in found:
        writer.write(result)
        num_images += 1
        if result.error is not None:
            num_bad += 1
            if num_bad <= _BAD_SHOWN or not names_all:
                _say(bar, f"tfr: {rows.printable(result.image)}: {result.error}; skipped")
        bar.update()
    if num_bad > _BAD_SHOWN and names_all:
        _say(bar, f"tfr: and {num_bad - _BAD_SHOWN} more; see `error` in the output")
    return Summary(num_images, num_bad, time.perf_counter() - started)


def _say(bar: tqdm, line: str) -> None:
    """A line on standard error, also where there is no bar."""
    with bar.external_write_mode(file=sys.stderr):
        print(line, file=sys.stderr, flush=True)


def summary_text(summary: Summary) -> str:
    """The summary in one line."""
    rate = summary.num_images / max(summary.seconds, 1e-9)
    bad = f", {summary.num_bad} of them could not be used" if summary.num_bad else ""
    return f"{summary.num_images} images{bad}; {rate:.1f} images/s"
