"""Worker processes of Beam's local runner that are watched: when one dies the job fails.

Beam's own multi-process mode waits for ever for the answer of a worker that was killed, if the step that it ran has no
output to send (2.77). It also prints the workers' start-up log, and needs an interpreter path without spaces.
"""

import contextlib
import logging
import shlex
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
from apache_beam.runners.portability.fn_api_runner import worker_handlers
from apache_beam.runners.portability.local_job_service import SubprocessSdkWorker
from apache_beam.transforms import environments

_URN = "tfr:env:watched_process:v1"


class WatchedProcessEnvironment(environments.SubprocessSDKEnvironment):
    """Workers that are processes of this interpreter."""

    def to_runner_api_parameter(self, context: Any) -> tuple[str, bytes]:
        """The URN by which the runner finds the handler below, and the command."""
        return _URN, super().to_runner_api_parameter(context)[1]


@worker_handlers.WorkerHandler.register_environment(_URN, bytes)
class _WatchedProcessHandler(worker_handlers.SubprocessSdkWorkerHandler):
    """Starts one process, and fails what waits for it when it ends too early."""

    _stopping = False

    def start_worker(self) -> None:
        self.worker = SubprocessSdkWorker(
            self._worker_command_line, self.control_address, self.provision_info, self.worker_id
        )
        self.worker_thread = threading.Thread(target=self._run_worker, daemon=True)
        self.worker_thread.start()

    def stop_worker(self) -> None:
        self._stopping = True
        super().stop_worker()

    def _run_worker(self) -> None:
        try:
            self.worker.run()
        except RuntimeError as err:
            death = RuntimeError(f"{err} (a negative one is a signal; -9 is often want of memory)")
            while not self._stopping:  # the runner may yet ask it something
                self.control_conn.abort(death)
                time.sleep(0.2)


@contextlib.contextmanager
def quiet_connections() -> Iterator[None]:
    """Keeps threads that read from a worker from printing a traceback when its connection breaks."""
    hook = threading.excepthook
    threading.excepthook = lambda args: None if issubclass(args.exc_type, grpc.RpcError) else hook(args)
    try:
        yield
    finally:
        threading.excepthook = hook


def watched_environment() -> WatchedProcessEnvironment:
    """The environment for `FnApiRunner(default_environment=...)`."""
    command = [sys.executable, "-m", "tfr.beam_worker", str(_log_level())]
    return WatchedProcessEnvironment.from_command_string(f"exec {shlex.join(command)}")


def _log_level() -> int:
    """What worker processes print: nothing that the launcher says as well, unless warnings are wanted."""
    level = logging.getLogger().getEffectiveLevel()
    return level if level < logging.ERROR else logging.CRITICAL + 1
