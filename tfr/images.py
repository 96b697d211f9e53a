"""One image's bytes: verified, stored as they are or normalised to an upright RGB JPEG, and fingerprinted."""

import dataclasses
import functools
import io

import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from tfr import jpeg_header
from tfr.errors import UsageError

# Why an image can be refused: the fixed list that counts and messages use.
REASONS = (
    "missing", "unreadable", "empty", "not_an_image", "unsupported", "truncated", "too_large", "too_small",
    "decode_error",
)  # fmt: skip
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "MPO", "AVIF", "HEIF", "PPM")
Image.init()  # registers all of Pillow's formats, so that naming one that is not there is no error
_OPENABLE = tuple(name for name in _FORMATS if name in Image.OPEN)
_THUMBNAIL_SIDE = 16  # pixels; enough for a 9 x 8 fingerprint, and lets libjpeg skip most of the inverse DCT
_MAX_SIDE = 65_500  # pixels; what libjpeg encodes and decodes


class ImageRejectedError(Exception):
    """An image that cannot become an example."""

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """What an image must be, and what is made of it.

    Attributes:
      image_size: length of the shorter side in pixels after the conversion; larger images are reduced to it,
        smaller ones stay. None keeps every size.
      max_pixels: images of more pixels than this are refused before they are decoded (decompression bombs).
      min_side: images with a side shorter than this many pixels are refused.
      jpeg_quality: quality, 1 to 100, of those images that have to be encoded anew.
    """

    image_size: int | None = None
    max_pixels: int = 100_000_000
    min_side: int = 1
    jpeg_quality: int = 95

    def __post_init__(self) -> None:
        """Checks the values before any image is read."""
        for name in ("image_size", "max_pixels", "min_side", "jpeg_quality"):
            value, upper = getattr(self, name), 100 if name == "jpeg_quality" else None
            if value is not None and not (1 <= value <= (upper or value)):
                range_ = f"from 1 to {upper}" if upper else "at least 1"
                raise UsageError(f"--{name} must be {range_}. Received: --{name}={value}")


@dataclasses.dataclass(frozen=True, slots=True)
class PreparedImage:
    """A sound image: JPEG bytes, size in pixels, 64-bit fingerprint, and whether the bytes are the file's own."""

    data: bytes
    width: int
    height: int
    fingerprint: int
    stored_as_is: bool


def prepare_image(data: bytes, options: ImageOptions) -> PreparedImage:
    """Verifies one image file and normalises it if needed.

    A sound 8-bit RGB or grey JPEG without rotation is kept byte for byte, after a decode at 1/8 scale that reads all
    of its entropy-coded data. Everything else that Pillow reads becomes an upright RGB JPEG: EXIF orientation
    applied, CMYK and 16-bit converted, transparency over white, the first frame of an animation.

    Args:
      data: the content of the file.
      options: limits and sizes.

    Raises:
      ImageRejectedError: with one of REASONS.
    """
    if not data:
        raise ImageRejectedError("empty", "the file has no content")
    header = jpeg_header.parse(data)
    if header is None or not header.is_common:
        return _normalize(data, options)
    _check_size(header.width, header.height, options)
    thumbnail = _decode_thumbnail(data, header.width)  # also before Pillow's decoder, which ignores broken data
    if thumbnail is None or not header.is_upright or _must_shrink(header.width, header.height, options):
        return _normalize(data, options)
    return PreparedImage(data, header.width, header.height, fingerprint(thumbnail), True)


def _must_shrink(width: int, height: int, options: ImageOptions) -> bool:
    return options.image_size is not None and min(width, height) > options.image_size


def _check_size(width: int, height: int, options: ImageOptions) -> None:
    if width * height > options.max_pixels:
        raise ImageRejectedError("too_large", f"{width} x {height} pixels; at most {options.max_pixels} in all")
    if max(width, height) > _MAX_SIDE:
        raise ImageRejectedError("too_large", f"{width} x {height} pixels; each side at most {_MAX_SIDE}")
    if min(width, height) < max(options.min_side, 1):
        raise ImageRejectedError("too_small", f"{width} x {height} pixels; each side at least {options.min_side}")


def _decode_thumbnail(data: bytes, width: int) -> np.ndarray | None:
    """Decodes a whole JPEG at its smallest useful scale; uint8 (height, width). Any libjpeg warning is an error.

    None where the JPEG subsamples its colours in a way that only Pillow's decoder knows.
    """
    side = min(_THUMBNAIL_SIDE, width)
    try:
        return simplejpeg.decode_jpeg(data, "GRAY", min_height=side, min_width=side, min_factor=1)[:, :, 0]
    except ValueError as err:
        message = str(err)
        if "subsampling" in message:
            return None
        reason = "truncated" if "premature end" in message.lower() else "decode_error"
        raise ImageRejectedError(reason, message) from err


def fingerprint(gray: np.ndarray) -> int:
    """The 64-bit difference hash of an image, as a signed integer.

    dHash: the image as 9 x 8 means of grey; bit 8 y + x from the top says whether cell (x + 1, y) is brighter than
    (x, y). Near duplicates differ in few bits. Source: N. Krawetz, "Kind of Like That", The Hacker Factor Blog, 2013.
    The means are exact, and so the same on every machine: products of whole numbers, far below 2**53.

    Args:
      gray: uint8 (height, width), any size.
    """
    height, width = gray.shape
    cells = _overlaps(height, 8) @ gray.astype(np.float64) @ _overlaps(width, 9).T
    return int.from_bytes(np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes(), "big", signed=True)


@functools.lru_cache(maxsize=4096)
def _overlaps(size: int, cells: int) -> np.ndarray:
    """How much of each of `size` pixels lies in each of `cells` equal cells: (cells, size), in 1 / cells of a pixel."""
    pixels, starts = np.arange(size) * cells, np.arange(cells)[:, None] * size
    overlap = np.minimum(pixels + cells, starts + size) - np.maximum(pixels, starts)
    return np.maximum(overlap, 0).astype(np.float64)


def _normalize(data: bytes, options: ImageOptions) -> PreparedImage:
    rgb = _decode_rgb(data, options)
    height, width = rgb.shape[:2]
    encoded = simplejpeg.encode_jpeg(rgb, quality=options.jpeg_quality, colorspace="RGB", colorsubsampling="444")
    thumbnail = _decode_thumbnail(encoded, width)  # of what is stored, so that it can be computed again from there
    assert thumbnail is not None, "JPEG without subsampling"
    return PreparedImage(encoded, width, height, fingerprint(thumbnail), False)


def _decode_rgb(data: bytes, options: ImageOptions) -> np.ndarray:
    """Decodes with Pillow; uint8 (height, width, 3), upright, reduced to the image size."""
    try:
        with Image.open(io.BytesIO(data), formats=_OPENABLE) as image:
            _check_size(image.width, image.height, options)
            if options.image_size is not None:
                image.draft("RGB", (2 * options.image_size, 2 * options.image_size))  # decodes JPEG at a lower scale
            rgb = _to_rgb(ImageOps.exif_transpose(image))
    except ImageRejectedError:
        raise
    except UnidentifiedImageError as err:
        raise ImageRejectedError("not_an_image", f"starts with {data[:8]!r}") from err
    except Image.DecompressionBombError as err:
        raise ImageRejectedError("too_large", str(err)) from err
    except Exception as err:
        # Pillow's decoders raise nearly anything on broken files: OSError, SyntaxError, struct.error, RuntimeError.
        reason = "truncated" if "truncated" in str(err).lower() else "decode_error"
        raise ImageRejectedError(reason, f"{type(err).__name__}: {err}") from err
    if _must_shrink(rgb.width, rgb.height, options):
        assert options.image_size is not None
        scale = options.image_size / min(rgb.size)
        rgb = rgb.resize((round(rgb.width * scale), round(rgb.height * scale)), Image.Resampling.LANCZOS)
    return np.ascontiguousarray(rgb)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB: 16-bit grey scaled to 8, transparency over white."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        if image.mode.startswith("I;16") or (image.mode == "I" and values.max(initial=0) > 255):
            values = values / 257  # 65535 -> 255
        return Image.fromarray(values.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")
