"""The images in a request: its body itself, the files of a form, or base64 in JSON."""

import base64
import binascii
import json
from typing import Any, NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_IMAGES = 64  # in one request


class Upload(NamedTuple):
    """The content of an image file, and what to call it in answers."""

    name: str
    data: bytes


async def read(request: Request) -> list[Upload]:
    """The images of a request, by its content type.

    Raises:
      HTTPException: 400 where the body is not what its type says or holds no image, 413 for too many, 415 for a type
        that is not read.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        found = await _from_form(request)
    elif kind == "application/json":
        found = from_json(await read_json(request))
    elif kind.startswith("image/") or kind in ("application/octet-stream", ""):
        body = await request.body()
        found = [Upload("the body", body)] if body else []
    else:
        raise HTTPException(
            415,
            f"Content-Type {kind!r} is not read. Send the bytes of an image as image/jpeg (or image/*, "
            "application/octet-stream), a form with files as multipart/form-data, or application/json.",
        )
    return checked(found)


def checked(found: list[Upload]) -> list[Upload]:
    """The uploads, if there are neither none nor too many of them."""
    if not found:
        raise HTTPException(400, "There is no image in the request.")
    if len(found) > MAX_IMAGES:
        raise HTTPException(413, f"{len(found)} images in one request; at most {MAX_IMAGES}.")
    return found


async def _from_form(request: Request) -> list[Upload]:
    async with request.form(max_files=MAX_IMAGES + 1) as form:
        parts = [value for _, value in form.multi_items() if not isinstance(value, str)]
        return [Upload(part.filename or f"file {i}", await part.read()) for i, part in enumerate(parts)]


async def read_json(request: Request) -> Any:
    """The body as JSON; HTTPException 400 where it is none."""
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError) as err:
        raise HTTPException(400, f"The body is not JSON: {err}") from err


def from_json(body: Any) -> list[Upload]:
    """The images of TensorFlow Serving's row format: {"instances": [{"b64": ...} or {"image_bytes": {"b64": ...}}]}."""
    instances = body.get("instances") if isinstance(body, dict) else None
    if not isinstance(instances, list):
        raise HTTPException(400, 'Expected {"instances": [{"b64": "<base64 of an image file>"}, ...]}.')
    return [Upload(f"instance {i}", _decode(instance, i)) for i, instance in enumerate(instances)]


def _decode(instance: Any, number: int) -> bytes:
    if isinstance(instance, dict) and len(instance) == 1 and "b64" not in instance:
        (instance,) = instance.values()
    text = instance.get("b64") if isinstance(instance, dict) else None
    if not isinstance(text, str):
        raise HTTPException(400, f'Instance {number} must be {{"b64": "<base64 of an image file>"}}.')
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as err:
        raise HTTPException(400, f"Instance {number} is not base64: {err}") from err


class LimitBody:
    """Answers 413 to requests whose body is larger than allowed, whether or not they say so in advance."""

    def __init__(self, app: ASGIApp, max_bytes: int):
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._max_bytes or (announced.isdigit() and int(announced) > self._max_bytes):
                raise HTTPException(
                    413, f"The request is larger than {self._max_bytes >> 20} MB.", {"Connection": "close"}
                )
            return message

        await self._app(scope, limited, send)
