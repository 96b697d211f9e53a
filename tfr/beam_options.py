"""Beam's pipeline options: parsed strictly, and refused where a job would lose data or cannot work."""

import contextlib
import difflib
import io
from collections.abc import Mapping, Sequence
from typing import Any

from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, PortableOptions, SetupOptions
from apache_beam.options.pipeline_options import WorkerOptions as DataflowWorkerOptions

from tfr import files
from tfr.errors import UsageError

_LOSSY = {  # in Beam 2.77 a timer thread clears what a worker thread is writing
    "multi_threading": "--direct_running_mode=multi_threading",
    "beam:env:embedded_python_grpc:v1": "--environment_type=beam:env:embedded_python_grpc:v1",
}
_WAYS_TO_STAGE = ("setup_file", "requirements_file", "extra_packages")


def parse(arguments: Sequence[str], allow_unknown: bool = False) -> PipelineOptions:
    """Parses Beam options; Beam itself drops those that it does not know.

    Args:
      arguments: options as a command line has them.
      allow_unknown: whether options that Beam's Python does not know may stand: those of a job service.

    Raises:
      UsageError: an option is misspelt, or has a value that it cannot have.
    """
    parsers: list[Any] = []
    usage = io.StringIO()
    with contextlib.redirect_stderr(usage):
        try:
            options = PipelineOptions(list(arguments))  # a list, always: without one it reads sys.argv
            options.get_all_options(add_extra_args_fn=parsers.append)
            unknown = parsers[0].parse_known_args(list(arguments))[1]
        except SystemExit as err:  # argparse's way of saying no
            message = usage.getvalue().strip().rpartition("error: ")[2]
            raise UsageError(f"A Beam option is wrong: {message}") from err
    if unknown and not allow_unknown:
        raise UsageError(_why_unknown(unknown, parsers[0]))
    return options


def _why_unknown(unknown: list[str], parser: Any) -> str:
    name = next((argument for argument in unknown if argument.startswith("-")), unknown[0]).split("=")[0]
    known = [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"Beam has no option {name}.{hint} What stands after `--` goes to Beam; flags of tfr stand before it."


def refuse_lossy(options: PipelineOptions) -> None:
    """Raises UsageError for ways of running in which Beam loses records silently."""
    chosen = {
        options.view_as(DirectOptions).direct_running_mode,
        options.view_as(PortableOptions).environment_type,
    }
    for value in chosen & _LOSSY.keys():
        raise UsageError(
            f"{_LOSSY[value]} loses records silently in Beam 2.77. Use the default runner, with --num_workers for "
            "several processes."
        )


def refuse_local_paths(places: Mapping[str, str], where: str) -> None:
    """Raises UsageError where workers on other machines would look for input or write shards on their own disks."""
    for flag, path in places.items():
        if files.is_local(path) or path.startswith("file://"):
            raise UsageError(
                f"{flag}={path} is on this machine, and {where} runs on others. Copy it to an object store and give "
                f"its URI, such as gs://bucket/folder."
            )


def refuse_workers_without_tfr(options: PipelineOptions) -> None:
    """Raises UsageError where Dataflow workers would not have this package."""
    if options.view_as(DataflowWorkerOptions).sdk_container_image:
        return
    setup_options = options.view_as(SetupOptions)
    if not any(getattr(setup_options, name) for name in _WAYS_TO_STAGE):
        raise UsageError(
            "Dataflow workers need tfr: give --sdk_container_image=IMAGE (see tfr/docker/Dockerfile), or "
            "--setup_file=./setup.py in a checkout, after `--`."
        )
