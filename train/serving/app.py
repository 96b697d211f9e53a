"""The routes of the server, as a Starlette application."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from tfr import html_page
from tfr.errors import UsageError
from tfr.images import ImageOptions, ImageRejectedError

from ..prediction.tags import TagRule
from ..tagger import Tagger
from . import uploads
from .batching import Batcher, OverloadedError
from .gallery import Entry, Gallery
from .uploads import Upload

_PAGE_POLICY = (  # nothing of other hosts is loaded
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src 'self' blob:; "
    "connect-src 'self'"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AppOptions:
    """What the server answers to.

    Attributes:
      name: of the model, in TensorFlow Serving's routes.
      batch_size: images that go through the network together, at most.
      batch_wait_secs: for others to go with an image.
      max_waiting: images that are worked on; requests beyond get 503.
      max_request_bytes: of a request's body; larger ones get 413.
      gallery_size: uploaded images that the page's gallery keeps; 0: no gallery.
      limits: of images.
    """

    name: str = "tagger"
    batch_size: int = 32
    batch_wait_secs: float = 0.005
    max_waiting: int = 256
    max_request_bytes: int = 32 << 20
    gallery_size: int = 500
    limits: ImageOptions = dataclasses.field(default_factory=ImageOptions)


def make_app(tagger: Tagger, options: AppOptions) -> Starlette:
    """The application; see the module's routes at the end of `_Service`."""
    service = _Service(tagger, options)
    return Starlette(
        routes=service.routes(),
        middleware=[Middleware(uploads.LimitBody, max_bytes=options.max_request_bytes)],
        exception_handlers={HTTPException: _error, Exception: _internal_error},
        lifespan=service.lifespan,
    )


class _Service:
    """What the routes share: the tagger, the batches, the gallery."""

    def __init__(self, tagger: Tagger, options: AppOptions):
        self._tagger, self._options = tagger, options
        self._gallery = Gallery(options.gallery_size)
        self._batcher = Batcher(
            tagger,
            batch_size=options.batch_size,
            wait_secs=options.batch_wait_secs,
            max_waiting=options.max_waiting,
        )

    def routes(self) -> list[Route]:
        """All there is to ask for."""
        model = f"/v1/models/{self._options.name}"
        routes = [
            Route("/", self.page),
            Route("/healthz", self.health),
            Route("/labels", self.labels),
            Route("/predict", self.predict, methods=["POST"]),
            Route(model, self.model_status),
            Route(f"{model}:predict", self.model_predict, methods=["POST"]),
        ]
        if self._options.gallery_size:
            routes += [
                Route("/gallery", self.add_to_gallery, methods=["POST"]),
                Route("/gallery", self.find_in_gallery),
                Route("/gallery/{key}.jpg", self.thumbnail),
            ]
        return routes

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Runs batches for as long as the server runs; answers nothing before the network has run once."""
        side = self._tagger.run.image_size
        await asyncio.to_thread(self._tagger.predict_pixels, np.zeros((1, side, side, 3), np.uint8))
        worker = asyncio.create_task(self._batcher.run())
        yield
        worker.cancel()
        self._batcher.close()

    async def page(self, request: Request) -> Response:
        """The page to drop images on."""
        page = html_page.render(
            "serve.html",
            package="tfr.train.serving",
            title=f"Tagger: {self._options.name}",
            num_labels=len(self._tagger.labels),
            gallery=bool(self._options.gallery_size),
        )
        return HTMLResponse(page, headers={"Content-Security-Policy": _PAGE_POLICY})

    async def health(self, request: Request) -> Response:
        """That the network is loaded and answers."""
        return JSONResponse({"status": "ok", "model": self._options.name, "num_labels": len(self._tagger.labels)})

    async def labels(self, request: Request) -> Response:
        """The labels and from which probability on an image has them."""
        run = self._tagger.run
        limits = {name: float(limit) for name, limit in zip(run.labels, run.thresholds.per_label, strict=True)}
        return JSONResponse({"labels": run.labels, "thresholds": limits, "multi_label": run.multi_label})

    async def predict(self, request: Request) -> Response:
        """Tags of the images in the request; `top_k` and `thresholds` as in `tfr predict`, in the query."""
        rule = self._rule(request)
        found = await self._probabilities(await uploads.read(request))
        return JSONResponse({"predictions": [{"image": name, **_tags(p, rule)} for name, p in found]})

    async def model_status(self, request: Request) -> Response:
        """As TensorFlow Serving says it."""
        status = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        return JSONResponse({"model_version_status": [status]})

    async def model_predict(self, request: Request) -> Response:
        """TensorFlow Serving's REST API in row format, with the outputs of an exported model."""
        instances = uploads.checked(uploads.from_json(await uploads.read_json(request)))
        rule = self._tagger.rule(thresholds="run")
        found = await self._probabilities(instances)
        return JSONResponse({"predictions": [_outputs(probabilities, rule) for _, probabilities in found]})

    async def add_to_gallery(self, request: Request) -> Response:
        """Tags images and keeps small copies of them."""
        images = await uploads.read(request)
        shown, kept = self._tagger.rule(top_k=8), self._tagger.rule(thresholds="run")
        answers = []
        for (name, probabilities), image in zip(await self._probabilities(images), images, strict=True):
            entry = await asyncio.to_thread(
                self._gallery.add, name, kept.tags(probabilities), image.data, self._options.limits
            )
            answers.append({"image": name, "key": entry.key, **_tags(probabilities, shown)})
        return JSONResponse({"predictions": answers})

    async def find_in_gallery(self, request: Request) -> Response:
        """The kept images with the tag in the query, or all; and how many there are of each tag."""
        entries = self._gallery.find(request.query_params.get("tag"))
        return JSONResponse({"images": [_entry(entry) for entry in entries], "tags": self._gallery.counts()})

    async def thumbnail(self, request: Request) -> Response:
        """The small copy of an image."""
        entry = self._gallery.get(request.path_params["key"])
        if entry is None:
            raise HTTPException(404, "There is no such image in the gallery (any more).")
        return Response(entry.thumbnail, media_type="image/jpeg", headers={"X-Content-Type-Options": "nosniff"})

    def _rule(self, request: Request) -> TagRule:
        query = request.query_params
        if unknown := sorted(set(query) - {"top_k", "thresholds"}):
            raise HTTPException(400, f"Unknown parameters {unknown}; there are top_k and thresholds.")
        top_k = query.get("top_k")
        if top_k is not None and not (top_k.isascii() and top_k.isdigit() and 1 <= int(top_k) <= 1_000_000):
            raise HTTPException(400, f"top_k must be a positive whole number. Received: top_k={top_k}")
        try:
            return self._tagger.rule(
                top_k=None if top_k is None else int(top_k), thresholds=query.get("thresholds", "none")
            )
        except UsageError as err:
            raise HTTPException(400, str(err).replace("--", "")) from err

    async def _probabilities(self, images: list[Upload]) -> list[tuple[str, np.ndarray]]:
        """Names and probabilities; HTTPException where an image cannot be used, or too many wait."""
        try:
            found = await self._batcher.probabilities([image.data for image in images])
        except OverloadedError as err:
            message = f"More than {self._options.max_waiting} images wait. Try again in a moment."
            raise HTTPException(503, message, {"Retry-After": "1"}) from err
        for image, result in zip(images, found, strict=True):
            if isinstance(result, ImageRejectedError):
                raise HTTPException(400, f"{image.name}: {result}") from result
            if isinstance(result, Exception):
                raise result
        return [(image.name, result) for image, result in zip(images, found, strict=True)]  # type: ignore[misc]


def _tags(probabilities: np.ndarray, rule: TagRule) -> dict[str, Any]:
    """The tags by the rule, and whether the image has each by the limits."""
    has = dict(zip(rule.labels, rule.decide(probabilities).tolist(), strict=True))
    tags = rule.tags(probabilities)
    return {"tags": [{"label": label, "probability": _short(p), "shown": has[label]} for label, p in tags]}


def _outputs(probabilities: np.ndarray, rule: TagRule) -> dict[str, Any]:
    tags = rule.tags(probabilities)
    return {
        "probabilities": [_short(value) for value in probabilities.tolist()],
        "labels": rule.labels,
        "tags": [tag.label for tag in tags],
        "tag_probabilities": [_short(tag.probability) for tag in tags],
    }


def _entry(entry: Entry) -> Mapping[str, Any]:
    tags = [{"label": label, "probability": _short(p)} for label, p in entry.tags]
    return {"key": entry.key, "image": entry.name, "tags": tags, "thumbnail": f"/gallery/{entry.key}.jpg"}


def _short(value: float) -> float:
    return float(f"{value:.6g}")


async def _error(request: Request, err: Exception) -> Response:
    assert isinstance(err, HTTPException)
    return JSONResponse({"error": err.detail}, err.status_code, err.headers)


async def _internal_error(request: Request, err: Exception) -> Response:
    return JSONResponse({"error": f"The server failed: {type(err).__name__}."}, 500)
