"""The flags by which commands choose a Beam runner."""

from collections.abc import Sequence
from typing import Any

from tfr.errors import UsageError
from tfr.flag_groups import CommandFlags

_RUNNERS = (
    "in_process: here; dask: a local cluster or --dask_client_address; portable: Beam's local job service; or any "
    "Beam runner by name, with its options after `--`."
)


class BeamFlags:
    """--runner, --num_workers and --dask_client_address of a command, in a group of their own."""

    def __init__(self, flags: CommandFlags, command: str, *, without: str = ""):
        """Defines them.

        Args:
          flags: those of the command.
          command: its name, for messages.
          without: what happens without --runner, for help; empty: in_process is the default.
        """
        self._command = command
        self.group = flags.group("Beam")
        self._runner = self.group.string(
            "runner", None if without else "in_process", f"{_RUNNERS}{without and f' Default: {without}'}"
        )
        self._num_workers = self.group.integer(
            "num_workers", None, "Processes (in_process, dask, DataflowRunner). Default: as fits the work.", lower=1
        )
        self._address = self.group.string("dask_client_address", None, "Scheduler of a Dask cluster that runs already.")

    @property
    def runner(self) -> Any:
        """The runner's name; None where the default is not to have one, and none is named."""
        return self._runner.value

    @property
    def num_workers(self) -> int | None:
        """The number of workers; None: as fits."""
        return self._num_workers.value

    def beam_args(self, args: Sequence[str]) -> tuple[str, ...]:
        """Beam's options: what the command line has after `--`, and what the flags say.

        Raises:
          UsageError: something else is among them, or a flag has no meaning for the runner.
        """
        if stray := [argument for argument in args if not argument.startswith("--")]:
            raise UsageError(
                f"tfr {self._command} takes flags only, and after `--` Beam options as --name=value. Received: "
                f"{' '.join(stray)}"
            )
        for flag, value in (("num_workers", self.num_workers), ("dask_client_address", self._address.value)):
            if value is not None and self.runner is None:
                raise UsageError(f"--{flag}={value} is for a Beam job; name its --runner.")
        if args and self.runner is None:
            raise UsageError(f"Beam options {' '.join(args)} are for a Beam job; name its --runner.")
        address = self._address.value
        if address is None:
            return tuple(args)
        if self.runner != "dask":
            raise UsageError(f"--dask_client_address={address} is for --runner=dask. Received: --runner={self.runner}")
        return (*args, f"--dask_client_address={address}")
