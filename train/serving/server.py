"""Running the server until it is told to stop."""

import importlib.util
import logging
import signal
import socket
import sys
import threading
from typing import Any

from tfr.errors import MissingDependencyError, TfrError, UsageError

from .. import quiet, run_dir

_SHUTDOWN_SECS = 30  # for requests that are being answered when the server is told to stop


def check_installed() -> None:
    """Raises MissingDependencyError where the packages of the extra `serve` are not there."""
    missing = [name for name in ("starlette", "uvicorn", "python_multipart") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(f"tfr serve needs {', '.join(missing)}: pip install 'tfr[serve]'")


def serve(path: str, *, host: str, port: int, **options: Any) -> None:
    """Serves a run until SIGTERM or SIGINT; what is being answered then is answered.

    Args:
      path: the run directory.
      host: the address to listen on.
      port: 0 for any that is free.
      **options: see app.AppOptions.

    Raises:
      MissingDependencyError, RunDirError.
      TfrError: the port is taken.
    """
    check_installed()
    run = run_dir.load(path)
    listening = _listen(host, port)  # before the model is loaded: a port that is taken is said at once
    quiet.import_tensorflow()
    import uvicorn

    from ..tagger import Tagger
    from . import app as app_lib

    app_options = app_lib.AppOptions(**options)
    tagger = Tagger(run, batch_size=app_options.batch_size, limits=app_options.limits)
    config = uvicorn.Config(
        app_lib.make_app(tagger, app_options),
        log_level="critical" if logging.getLogger().level > logging.WARNING else "info",
        access_log=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECS,
    )
    server = uvicorn.Server(config)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _ignore)  # uvicorn raises it once more when it is done; that is no error
    where = f"http://{_shown(host)}:{listening.getsockname()[1]}"
    print(f"{run.path} is served on {where} (Ctrl-C stops it)", file=sys.stderr, flush=True)
    server.run(sockets=[listening])
    if server.lifespan.should_exit:
        raise TfrError("The server could not start; --verbosity=1 shows why.")


def _ignore(*_: object) -> None:
    """A signal handler that does nothing."""


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port < 1 << 16:
        raise UsageError(f"--port must be from 0 to 65535. Received: --port={port}")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()  # until then another may bind the port too; who connects waits until the model is loaded
    except OSError as err:
        raise TfrError(f"Cannot listen on --host={host} --port={port}: {err.strerror}. Is something there?") from err
    return listening


def _shown(host: str) -> str:
    """A host as it stands in a URL that this machine can open."""
    name = {"0.0.0.0": "localhost", "::": "localhost"}.get(host, host)
    return f"[{name}]" if ":" in name else name
