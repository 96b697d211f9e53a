"""Trying again what failed for a moment: time-outs, broken connections, servers and disks that are too busy."""

import errno
import logging
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import tenacity

P = ParamSpec("P")
T = TypeVar("T")

_ATTEMPTS = 7
# Seconds: random up to 0.5, 1, 2, ... 30, so that many workers that failed together do not come back together.
_WAIT = tenacity.wait_random_exponential(multiplier=0.5, max=30)
_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})  # HTTP: come again later
_TRANSIENT_ERRNO = frozenset(
    {
        errno.EIO, errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET,
        errno.ECONNREFUSED, errno.ECONNABORTED, errno.EPIPE, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH,
    }
)  # fmt: skip

logger = logging.getLogger(__name__)


def is_transient(error: BaseException | None) -> bool:
    """Whether an error may be gone in a moment.

    True for time-outs, broken connections, I/O errors of a disk (as network file systems report them), HTTP statuses
    that ask to come back (429, 5xx) as the clients of object stores carry them, and for Beam errors and chains of
    errors that such a one lies at the bottom of. What is missing, forbidden, full or wrong stays so.
    """
    if error is None:
        return False
    if isinstance(error, (TimeoutError, ConnectionError)):
        return True
    if (status := _status(error)) is not None:
        return status in _TRANSIENT_STATUS
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _TRANSIENT_ERRNO
    return any(is_transient(cause) for cause in _listed_errors(error) or (error.__cause__,))


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error of a cloud client carries: google.api_core and S3 in Beam, apitools, botocore."""
    response = getattr(error, "response", None)
    metadata = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    candidates = [getattr(error, "code", None), getattr(error, "status_code", None), metadata.get("HTTPStatusCode")]
    return next((int(value) for value in candidates if isinstance(value, int) and 100 <= value <= 599), None)


def _listed_errors(error: BaseException) -> list[BaseException]:
    """The errors, one a file, that a BeamIOError lists."""
    details = getattr(error, "exception_details", None)
    return (
        [value for value in details.values() if isinstance(value, BaseException)] if isinstance(details, dict) else []
    )


def call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls a function; where it fails for a moment, again after a while, a few times.

    Raises:
      Exception: what the function raised last.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_transient),
        wait=_WAIT,
        stop=tenacity.stop_after_attempt(_ATTEMPTS),
        sleep=lambda seconds: time.sleep(seconds),  # looked up late, for tests
        before_sleep=tenacity.before_sleep_log(logger, logging.WARNING),
        reraise=True,
    )
    return retrying(function, *args, **kwargs)
