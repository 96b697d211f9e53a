"""Beam runners: a pipeline from what the user asks for, run to its end without chatter."""

import contextlib
import io
import logging
import os
from collections.abc import Callable, Iterator

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions

from tfr.config import LOSES_RECORDS, ConvertConfig
from tfr.errors import ConversionError, UsageError

# Plain DirectRunner first tries to download another runner, without a time-out (Beam 2.77).
LOCAL_RUNNER = "FnApiRunner"


class Runner:
    """A Beam runner and its options, checked. Runs any number of jobs, one after the other."""

    def __init__(self, runner: "str | beam.runners.PipelineRunner", options: list[str] | PipelineOptions):
        """Checks what it is given.

        Args:
          runner: its name, or the runner itself.
          options: arguments of Beam, as on a command line, or options made of some.

        Raises:
          UsageError: Beam does not know the runner, or refuses its options.
        """
        self._runner = runner
        self._options = options
        self._make_pipeline()  # what Beam refuses, it refuses now

    def run(self, build: Callable[[beam.Pipeline], object]) -> None:
        """Runs a job to its end.

        Args:
          build: adds the job's steps to an empty pipeline.

        Raises:
          ConversionError: the job failed.
        """
        with quiet_beam():
            pipeline = self._make_pipeline()
            build(pipeline)
            try:
                state = pipeline.run().wait_until_finish()
            except Exception as err:  # whatever a runner raises; it is named below and chained
                raise ConversionError(
                    f"The Beam job failed: {type(err).__name__}: {_last_line(err)}. Finished shards are kept: run "
                    "the same command again to go on. --verbosity=1 shows the whole error."
                ) from err
        if state not in (None, "DONE"):
            raise ConversionError(f"The Beam job ended in state {state}. Run the same command again to go on.")

    def _make_pipeline(self) -> beam.Pipeline:
        """An empty pipeline."""
        usage = io.StringIO()
        with quiet_beam(), contextlib.redirect_stderr(usage):
            try:
                options = self._options
                if isinstance(options, list):
                    options = PipelineOptions(options)  # a list, always: without one it reads sys.argv
                options.get_all_options()  # or argparse would end the process when one is first asked for
                if options.view_as(DirectOptions).direct_running_mode == "multi_threading":
                    raise UsageError(LOSES_RECORDS)
                pipeline = beam.Pipeline(runner=self._runner, options=options)
            except SystemExit as err:
                message = usage.getvalue().strip().rpartition("error: ")[2]
                raise UsageError(f"A Beam option is wrong: {message}") from err
            except (ValueError, ImportError, AttributeError) as err:
                raise UsageError(f"--runner={self._runner}: Beam refuses it: {' '.join(str(err).split())}") from err
        os.rmdir(pipeline.local_tempdir)  # for cross-language steps only; a killed process would leave it behind
        return pipeline


def prepare(config: ConvertConfig) -> Runner:
    """The runner that a config names.

    Raises:
      UsageError: Beam does not know the runner, or refuses its options.
    """
    arguments = [f"--runner={config.runner}", *config.beam_args]
    if config.runner == LOCAL_RUNNER and not any("direct_num_workers" in argument for argument in arguments):
        arguments.append("--direct_num_workers=1")
    return Runner(config.runner, arguments)


def _last_line(err: Exception) -> str:
    lines = [line for line in str(err).splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


@contextlib.contextmanager
def quiet_beam() -> Iterator[None]:
    """Silences Beam's chatter, and its own report of an error that is raised as well, unless warnings are wanted."""
    logger = logging.getLogger("apache_beam")
    level = logger.level
    logger.setLevel(max(level, logging.WARNING if logger.isEnabledFor(logging.WARNING) else logging.CRITICAL))
    try:
        yield
    finally:
        logger.setLevel(level)
