"""The whole way in one call: from annotations and images to a measured tagger and its report."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

from tfr import files
from tfr.config import ConvertConfig
from tfr.errors import UsageError

from . import one_command_stages as stages
from . import run_dir
from .config import TrainConfig
from .pipeline import Pipeline

RECORD_FILE = "stages.json"
CHECKS_FILE = "checks.txt"
STATISTICS_FILE = "statistics.html"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneCommandConfig:
    """The whole way.

    Attributes:
      dir: the folder of everything that is made.
      convert: the conversion; it may write anywhere, `data_dir(dir)` is a good place.
      train: the training on what the conversion writes; it may write anywhere, `run_path(dir)` is a good place.
      evaluate: further arguments of evaluation.evaluate; `split` is by default test, or, without such a split, the one
        that the training validated on.
      report: further arguments of report.write_report; its `split` is by default the same.
    """

    dir: str
    convert: ConvertConfig
    train: TrainConfig
    evaluate: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    report: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks that the parts fit together."""
        if not files.is_local(self.dir):
            raise UsageError(f"--dir must be a folder on this machine. Received: --dir={self.dir}")
        if os.path.isfile(self.dir):
            raise UsageError(f"--dir={self.dir} is a file; give a folder.")
        if self.train.data.dataset != self.convert.dataset_dir:
            raise UsageError(
                f"The training must read what the conversion writes, {self.convert.dataset_dir}. Received: "
                f"--dataset={self.train.data.dataset}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneCommandResult:
    """Where everything is.

    Attributes:
      dataset_dir, run_dir, report: the paths of the dataset, of the trained run, and of its report.
      split: the split that was measured.
      metrics: of that split; see evaluation.evaluate.
      ran: stage name to whether it ran, or was done already.
    """

    dataset_dir: str
    run_dir: str
    report: str
    split: str
    metrics: dict[str, Any]
    ran: dict[str, bool]


def data_dir(folder: str) -> str:
    """The root of the dataset below the folder of the whole way."""
    return os.path.join(folder, "data")


def run_path(folder: str) -> str:
    """The run directory below the folder of the whole way."""
    return os.path.join(folder, run_dir.PLAIN_FOLDER)


def make_pipeline(config: OneCommandConfig) -> Pipeline:
    """The stages; its `plan` says what there is to do."""
    dataset, run = config.convert.dataset_dir, config.train.run_dir
    return Pipeline(
        [
            stages.Check(config.convert, config.train.data, os.path.join(config.dir, CHECKS_FILE)),
            stages.Convert(config.convert),
            stages.Statistics(dataset, os.path.join(config.dir, STATISTICS_FILE)),
            stages.Train(config.train),
            stages.Evaluate(run, dataset, config.evaluate),
            stages.Report(run, dataset, config.evaluate, config.report),
        ],
        os.path.join(config.dir, RECORD_FILE),
    )


def run(config: OneCommandConfig, say: Callable[[str], None] = lambda _: None) -> OneCommandResult:
    """Goes the whole way: checks, converts, counts, trains, evaluates, and writes the report.

    The same call again does what is left of it, or nothing; a changed setting or input repeats the stages that it
    changes anything for.

    Args:
      config: what to do.
      say: takes what is to be told on the way, a paragraph at a time.

    Returns:
      Where everything is, and how good the tagger became.

    Raises:
      TfrError: one of its children, where something is wrong that can be mended.
    """
    ran = make_pipeline(config).run(say)
    dataset, path = config.convert.dataset_dir, config.train.run_dir
    split = stages.measured_split(path, dataset, config.evaluate)
    return OneCommandResult(
        dataset_dir=dataset,
        run_dir=path,
        report=stages.report_path(path, config.report),
        split=split,
        metrics=stages.read_metrics(path)[split],
        ran=ran,
    )


def summary(result: OneCommandResult) -> str:
    """Where everything is and what to type next, in plain words."""
    return f"""== Done
The report, for any browser: {result.report}

  the tagger  {result.run_dir}
  its data    {result.dataset_dir}

Next:
  tfr predict {result.run_dir} --image=PHOTO.jpg     the tags of a new image
  tfr inspect {result.dataset_dir}     the images that it learnt from"""
