"""What local runners need to have running: worker processes, a Dask cluster, a job service, a worker pool.

Each engine is a context manager that takes Beam options and a number of workers, and yields a Beam runner with the
options to use. Whatever it started ends with it.
"""

import contextlib
import logging
import os
import pathlib
import shlex
import site
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.local_job_service import LocalJobServicer
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.runners.runner import PipelineRunner
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer

import tfr
from tfr import worker_processes
from tfr.errors import MissingDependencyError, UsageError

CONNECT_SECS = 10  # to a Dask scheduler

Started = tuple[PipelineRunner, list[str] | PipelineOptions]
Engine = Callable[[list[str], int], contextlib.AbstractContextManager[Started]]


@contextlib.contextmanager
def in_process(arguments: list[str], num_workers: int) -> Iterator[Started]:
    """The local runner: in this process for one worker, in so many processes for more."""
    runner = FnApiRunner(worker_processes.watched_environment()) if num_workers > 1 else FnApiRunner()
    with _importable_by_children(), worker_processes.quiet_connections():
        yield runner, [*arguments, f"--direct_num_workers={num_workers}"]


def import_dask() -> tuple[Any, Any]:
    """Dask's client library and Beam's module for it.

    Raises:
      MissingDependencyError: Dask is not installed.
    """
    try:
        import dask.distributed as distributed
        from apache_beam.runners.dask import dask_runner
    except ImportError as err:
        raise MissingDependencyError(f"--runner=dask needs Dask ({err}): pip install 'tfr[dask]'.") from err
    return distributed, dask_runner


def _dask_options(arguments: list[str]) -> Any:
    return PipelineOptions(arguments).view_as(import_dask()[1].DaskOptions)


def names_dask_cluster(arguments: list[str]) -> bool:
    """Whether options say where a Dask cluster is."""
    chosen = _dask_options(arguments)
    return bool(chosen.address or chosen.scheduler_file)


@contextlib.contextmanager
def dask(arguments: list[str], num_workers: int) -> Iterator[Started]:
    """The Dask runner on the cluster that the options name, else on a local cluster of processes."""
    distributed, dask_runner = import_dask()
    chosen = _dask_options(arguments)
    if not (chosen.npartitions or chosen.partition_size):
        arguments = [*arguments, "--dask_partition_size=1"]  # its default puts 128 shards into one task
    with contextlib.ExitStack() as stack:
        if not names_dask_cluster(arguments):
            cluster = distributed.LocalCluster(
                n_workers=num_workers,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
            )
            address = stack.enter_context(cluster).scheduler_address
            arguments = [*arguments, f"--dask_client_address={address}"]
        _check_dask_workers(distributed, _dask_options(arguments))
        yield dask_runner.DaskRunner(), arguments


def _check_dask_workers(distributed: Any, chosen: Any) -> None:
    """Raises UsageError for workers that share a process, where Beam's runner repeats elements."""
    try:
        client = distributed.Client(address=chosen.address, scheduler_file=chosen.scheduler_file, timeout=CONNECT_SECS)
    except (OSError, ValueError) as err:
        raise UsageError(f"No Dask scheduler at {chosen.address or chosen.scheduler_file}: {err}") from err
    with client:
        processes = list(client.run(_enter_dask_worker, logging.getLogger().level).values())
    if not processes:
        raise UsageError(f"The Dask scheduler at {chosen.address or chosen.scheduler_file} has no worker.")
    if len(set(processes)) < len(processes) or (socket.gethostname(), os.getpid()) in processes:
        raise UsageError(
            "Workers of this Dask cluster share a process, and Beam's Dask runner repeats records there. Start the "
            "cluster with processes=True."
        )


def _enter_dask_worker(level: int) -> tuple[str, int]:
    """Runs in a Dask worker: quiets what Beam logs when it is imported; says which process this is."""
    logging.basicConfig(level=level)
    return socket.gethostname(), os.getpid()


@contextlib.contextmanager
def portable(arguments: list[str], num_workers: int) -> Iterator[Started]:
    """Beam's local job service: workers in this process (LOOPBACK), or from a worker pool (EXTERNAL)."""
    del num_workers  # the service drives one
    chosen = PipelineOptions(arguments).view_as(PortableOptions)
    with contextlib.ExitStack() as stack:
        if not chosen.job_endpoint:
            service = LocalJobServicer(stack.enter_context(tempfile.TemporaryDirectory(prefix="tfr-job-service-")))
            arguments = [*arguments, f"--job_endpoint=localhost:{service.start_grpc_server()}"]
            stack.callback(service.stop)
        if not chosen.environment_type:
            arguments = [*arguments, "--environment_type=LOOPBACK"]
        elif chosen.environment_type == "EXTERNAL" and not chosen.environment_config:
            arguments = [*arguments, f"--environment_config={stack.enter_context(_worker_pool())}"]
        yield PortableRunner(), arguments


@contextlib.contextmanager
def _worker_pool() -> Iterator[str]:
    """A worker pool that starts processes of this interpreter; yields its address."""
    with tempfile.TemporaryDirectory(prefix="tfr-worker-pool-") as folder, _importable_by_children():
        python = pathlib.Path(folder, "python")  # the pool runs whatever `python` is first in PATH
        python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n', encoding="utf-8")
        python.chmod(0o700)
        with _environment("PATH", f"{folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"):
            address, server = BeamFnExternalWorkerPoolServicer.start(use_process=True)
            try:
                yield address
            finally:
                server.stop(None).wait()


@contextlib.contextmanager
def _importable_by_children() -> Iterator[None]:
    """Lets Python processes started meanwhile import this very tfr, also from a checkout that is not installed."""
    root = str(pathlib.Path(tfr.__file__).parent.parent)
    if root in (*site.getsitepackages(), site.getusersitepackages()):
        yield
        return
    above = os.environ.get("PYTHONPATH")
    with _environment("PYTHONPATH", f"{root}{os.pathsep}{above}" if above else root):
        yield


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
