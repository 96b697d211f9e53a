"""Tags images over HTTP, on one machine.

Usage:
  tfr serve runs/posters
  tfr serve runs/posters --host=0.0.0.0 --port=8080 --gallery_size=0

  curl --data-binary @poster.jpg -H 'Content-Type: image/jpeg' 'localhost:8501/predict?thresholds=run'
  curl -F image=@a.jpg -F image=@b.jpg 'localhost:8501/predict?top_k=3'

`/` is a page to drop images on, with a gallery that finds them by tag; `/predict` takes the bytes of an image, a form
with files, or {"instances": [{"b64": ...}]}; `/v1/models/NAME:predict` is TensorFlow Serving's REST API; `/labels`,
`/healthz`. Images of several requests go through the network together. There is no authentication: the server listens
on this machine alone unless --host says otherwise. SIGTERM ends it when what it works on is answered.
"""

from tfr.errors import UsageError
from tfr.flag_groups import CommandFlags

FLAGS = CommandFlags()

_server = FLAGS.group("Server")
_HOST = _server.string("host", "127.0.0.1", "Address to listen on; 0.0.0.0 for all of this machine's.")
_PORT = _server.integer("port", 8501, "Port; 0 for any that is free.", lower=0)
_NAME = _server.string("name", "tagger", "Name of the model in /v1/models/NAME:predict.")
_GALLERY = _server.integer("gallery_size", 500, "Images that the gallery keeps, in memory; 0: no gallery.", lower=0)

_limits = FLAGS.group("Batches and limits")
_BATCH_SIZE = _limits.integer("batch_size", 32, "Images that go through the network together, at most.", lower=1)
_WAIT = _limits.float("batch_wait_ms", 5.0, "How long an image waits for others to go with it.", lower=0.0)
_MAX_WAITING = _limits.integer("max_waiting", 256, "Images worked on at a time; requests beyond get 503.", lower=1)
_MAX_MB = _limits.integer("max_request_mb", 32, "Largest request; more gets 413.", lower=1)
_MAX_PIXELS = _limits.integer("max_pixels", 50_000_000, "Pixels of an image, at most; more gets 400.", lower=1)


def main(args: list[str]) -> None:
    """Serves until it is stopped."""
    if len(args) != 1:
        raise UsageError(f"tfr serve takes one run directory. Received: {args}")
    if not _NAME.value.replace("-", "").replace("_", "").isalnum():
        raise UsageError(f"--name must be letters, digits, '-' and '_'. Received: --name={_NAME.value}")
    from tfr.images import ImageOptions

    from ..serving import server

    server.serve(
        args[0],
        host=_HOST.value,
        port=_PORT.value,
        name=_NAME.value,
        batch_size=_BATCH_SIZE.value,
        batch_wait_secs=_WAIT.value / 1000,
        max_waiting=_MAX_WAITING.value,
        max_request_bytes=_MAX_MB.value << 20,
        gallery_size=_GALLERY.value,
        limits=ImageOptions(max_pixels=_MAX_PIXELS.value),
    )
