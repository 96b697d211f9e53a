"""Beam runners: which one, with which options and how many workers; and running a job on it without chatter."""

import contextlib
import dataclasses
import functools
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineRunner, create_runner

from tfr import beam_options, engines
from tfr.beam_in_notebooks import as_in_a_script
from tfr.errors import ConversionError, JobElsewhereError, MissingDependencyError, UsageError

# Beam's names for what the engines run. Its own DirectRunner first tries to download another one (Beam 2.77).
_ALIASES = {"fnapirunner": "in_process", "directrunner": "in_process", "direct": "in_process", "daskrunner": "dask"}
_JOB_SERVICE_RUNNERS = ("PortableRunner", "FlinkRunner", "SparkRunner")  # their services have options of their own

# Two seconds and more to start workers, against half of one process's time for the images.
_IMAGES_WORTH_PROCESSES = 20_000


class JobConfig(Protocol):
    """What a config says of the job that it wants run.

    Attributes:
      runner: 'in_process', 'dask', 'portable', or any runner of Beam by name.
      num_workers: processes, where tfr starts them; None: as fits.
      beam_args: Beam's own options.
      places: flag to path of what workers read and write, which has to be where they are.
    """

    @property
    def runner(self) -> str: ...
    @property
    def num_workers(self) -> int | None: ...
    @property
    def beam_args(self) -> Sequence[str]: ...
    @property
    def places(self) -> Mapping[str, str]: ...


@dataclasses.dataclass(frozen=True)
class Job:
    """A JobConfig of its own; see there."""

    runner: str
    num_workers: int | None
    beam_args: Sequence[str]
    places: Mapping[str, str]


class Runner:
    """A Beam runner with its options, checked. Runs any number of jobs, one after the other."""

    def __init__(
        self, engine: engines.Engine, arguments: list[str], choose_num_workers: Callable[[int], int] = lambda _: 1
    ):
        """`prepare` makes the right one.

        Args:
          engine: starts what the runner needs; see tfr.engines.
          arguments: Beam options.
          choose_num_workers: from number of images to number of workers.
        """
        self._engine = engine
        self._arguments = arguments
        self._choose_num_workers = choose_num_workers

    def run(self, build: Callable[[beam.Pipeline], object], num_images: int = 0) -> None:
        """Runs a job to its end.

        Args:
          build: adds the job's steps to an empty pipeline.
          num_images: how much there is to do; where the user leaves it open, the number of workers depends on it.

        Raises:
          ConversionError: the job failed.
          JobElsewhereError: only the job's template was written.
          UsageError: what the options name is not there, such as a cluster.
        """
        num_workers = self._choose_num_workers(num_images)
        with quiet_beam(), as_in_a_script(), self._engine(self._arguments, num_workers) as (runner, arguments):
            pipeline = _make_pipeline(runner, arguments)
            build(pipeline)
            _run_to_end(pipeline)
            if place := pipeline.options.view_as(GoogleCloudOptions).template_location:
                raise JobElsewhereError(
                    f"The job's template is at {place}; it has not run. Run it on Dataflow, then give this command "
                    "without --template_location, which checks and publishes what it wrote."
                )


def prepare(config: JobConfig) -> Runner:
    """The runner that a config names.

    Raises:
      UsageError: Beam does not know the runner or an option, refuses them, or would lose data with them.
      MissingDependencyError: the runner needs a package that is not installed.
    """
    name = config.runner.removeprefix("apache_beam.runners.dask.dask_runner.")
    name = _ALIASES.get(name.lower(), name)
    engine_makers = {"in_process": _prepare_in_process, "dask": _prepare_dask, "portable": _prepare_portable}
    with quiet_beam():
        return engine_makers.get(name, _prepare_by_name)(config, list(config.beam_args))


def create(name: str) -> PipelineRunner:
    """A runner of Beam by its name; 'in_process' and all of Beam's names for its local runner are one.

    Raises:
      UsageError: Beam does not know the runner.
    """
    if _ALIASES.get(name.lower(), name) == "in_process":
        return FnApiRunner()
    with _beam_refusals(name):
        return create_runner(name)


def of_beam(runner: str | PipelineRunner | None, options: PipelineOptions | None) -> Runner:
    """A runner as Beam's own Python interface has it.

    Args:
      runner: its name, or the runner itself; None: the one that the options name, else the local one.
      options: Beam's options; None: none, and not those that this process was called with, as Beam would have it.

    Raises:
      UsageError: Beam does not know the runner, refuses its options, or would lose data with them.
    """
    options = PipelineOptions([]) if options is None else options
    beam_options.refuse_lossy(options)
    if runner is None:
        runner = options.view_as(StandardOptions).runner or "in_process"
    if isinstance(runner, str):
        runner = create(runner)

    @contextlib.contextmanager
    def engine(arguments: list[str], num_workers: int) -> Iterator[engines.Started]:
        del arguments, num_workers
        yield runner, options

    return Runner(engine, [])


def _prepare_in_process(config: JobConfig, arguments: list[str]) -> Runner:
    """Beam's local runner; processes by --num_workers, or as Beam's own options say."""
    beam_options.refuse_lossy(beam_options.parse(arguments))
    if not any(argument.startswith("--direct_") for argument in arguments):
        return Runner(
            engines.in_process, arguments, lambda n: config.num_workers or default_num_workers(n, num_cores())
        )
    if config.num_workers is not None:
        raise UsageError(f"--num_workers={config.num_workers} and Beam's {arguments[0]}: give one of them.")
    return Runner(functools.partial(_named, "FnApiRunner"), arguments)


def _prepare_dask(config: JobConfig, arguments: list[str]) -> Runner:
    """A Dask cluster: the one that the options name, or a local one of as many processes as there are cores."""
    engines.import_dask()  # which declares its options
    beam_options.parse(arguments)
    if config.num_workers is not None and engines.names_dask_cluster(arguments):
        raise UsageError(f"--num_workers={config.num_workers}: a Dask cluster that runs already has its own workers.")
    return Runner(engines.dask, arguments, lambda _: config.num_workers or num_cores())


def _prepare_portable(config: JobConfig, arguments: list[str]) -> Runner:
    """Beam's local job service, or another one at --job_endpoint."""
    options = beam_options.parse(arguments, allow_unknown="--job_endpoint" in " ".join(arguments))
    beam_options.refuse_lossy(options)
    if config.num_workers not in (None, 1):
        raise UsageError(f"--num_workers={config.num_workers}: Beam's local job service drives one worker.")
    return Runner(engines.portable, arguments)


def _prepare_by_name(config: JobConfig, arguments: list[str]) -> Runner:
    """Any other runner, by Beam's name or by module and class."""
    with _beam_refusals(config.runner):
        kinds = {kind.__name__ for kind in type(create_runner(config.runner)).__mro__}
    if "DataflowRunner" in kinds:
        return _prepare_dataflow(config, arguments)
    options = beam_options.parse(arguments, allow_unknown=bool(kinds.intersection(_JOB_SERVICE_RUNNERS)))
    beam_options.refuse_lossy(options)
    if options.view_as(PortableOptions).environment_type == "DOCKER":
        beam_options.refuse_local_paths(config.places, "a container")
    if config.num_workers is not None:
        raise UsageError(
            f"--num_workers={config.num_workers} is for in_process, dask and DataflowRunner. Say it to "
            f"{config.runner} in its own way, after `--`."
        )
    return _checked_by_beam(config.runner, arguments)


def _prepare_dataflow(config: JobConfig, arguments: list[str]) -> Runner:
    """Google Cloud Dataflow: nothing of this machine is there but what is staged."""
    try:
        import apache_beam.runners.dataflow.internal.apiclient  # noqa: F401
    except ImportError as err:
        raise MissingDependencyError(f"--runner={config.runner} ({err}): pip install 'tfr[gcp]'.") from err
    # Neither what is in __main__ (all code is in packages) nor a list of what is installed here need travel.
    leave_out = ["--no_save_main_session", "--experiments=disable_logging_submission_environment"]
    arguments = [*leave_out, *arguments]
    if config.num_workers is not None:
        arguments.append(f"--num_workers={config.num_workers}")
    options = beam_options.parse(arguments)
    beam_options.refuse_local_paths(config.places, "Dataflow")
    beam_options.refuse_workers_without_tfr(options)
    return _checked_by_beam(config.runner, arguments)


def _checked_by_beam(name: str, arguments: list[str]) -> Runner:
    """A runner by its name; what Beam refuses, it refuses now, before anything is read or removed."""
    with _beam_refusals(name):
        _make_pipeline(create_runner(name), [f"--runner={name}", *arguments])
    return Runner(functools.partial(_named, name), arguments)


@contextlib.contextmanager
def _named(name: str, arguments: list[str], num_workers: int) -> Iterator[engines.Started]:
    del num_workers  # in the options, if anywhere
    yield create_runner(name), [f"--runner={name}", *arguments]


@contextlib.contextmanager
def _beam_refusals(name: str) -> Iterator[None]:
    """Gives Beam's own errors on a runner and its options the form of ours."""
    try:
        yield
    except (ImportError, ValueError, AttributeError) as err:
        raise UsageError(f"--runner={name}: Beam refuses it: {_one_line(err)}") from err


def has_one_worker(pipeline: beam.Pipeline) -> bool:
    """Whether a pipeline is known to run in one worker: Beam's local runner without further ones."""
    return isinstance(pipeline.runner, FnApiRunner) and pipeline.options.view_as(DirectOptions).direct_num_workers == 1


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_num_workers(num_images: int, cores: int) -> int:
    """How many processes so many images are worth on so many cores.

    One process with its threads keeps two cores busy. So a process for every two cores, and none but the launcher's own
    where starting them takes longer than what they save. `benchmarks/bench_runners.py` measures both.
    """
    return 1 if num_images < _IMAGES_WORTH_PROCESSES else max(1, cores // 2)


def _make_pipeline(runner: PipelineRunner, options: list[str] | PipelineOptions) -> beam.Pipeline:
    # A list, always: without one PipelineOptions() reads sys.argv.
    options = PipelineOptions(options) if isinstance(options, list) else options
    pipeline = beam.Pipeline(runner=runner, options=options)
    os.rmdir(pipeline.local_tempdir)  # for cross-language steps only; a killed process would leave it behind
    return pipeline


def _run_to_end(pipeline: beam.Pipeline) -> None:
    """Runs a pipeline.

    Raises:
      ConversionError: it did not end well.
    """
    result = None
    try:
        result = pipeline.run()
        state = result.wait_until_finish()
    except Exception as err:  # whatever a runner raises; it is named below and chained
        raise ConversionError(
            f"The Beam job failed: {type(err).__name__}: {_last_line(err)}. Finished shards are kept: run "
            "the same command again to go on. --verbosity=1 shows the whole error."
        ) from err
    finally:
        if client := getattr(result, "client", None):
            client.close()  # Dask's, which has to go before its cluster
    if state not in (None, "DONE"):
        raise ConversionError(f"The Beam job ended in state {state}. Run the same command again to go on.")


def _last_line(err: Exception) -> str:
    lines = [line for line in str(err).splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def _one_line(err: Exception) -> str:
    return " ".join(str(err).split())


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
