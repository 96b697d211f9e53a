"""One image's bytes: verified, stored as they are or normalised to an upright RGB JPEG, and fingerprinted."""

import dataclasses
import functools
import io
import re
from collections.abc import Callable

import numpy as np
import simplejpeg
from PIL import Image

from tfr import image_decoding, jpeg_header, png_chunks
from tfr.image_options import CHECKS, REASONS, ImageOptions, ImageRejectedError
from tfr.jpeg_header import JpegHeader

__all__ = [
    "CHECKS", "REASONS", "DecodedImage", "ImageOptions", "ImageRejectedError", "PreparedImage", "decode_image",
    "fingerprint", "fingerprint_of",
    "prepare_image",
]  # fmt: skip

_THUMBNAIL_SIDE = 16  # pixels; enough for a 9 x 8 fingerprint, and lets libjpeg skip most of the inverse DCT
_MAX_SCANS = 100  # a progressive JPEG has about 10; each costs a walk over all of the image
_MIN_SCAN_BYTES = 10  # header of a scan; what a small file holds of them does no harm to a small image
_MAX_SCANNED_PIXELS = 10**9
_MAX_MENDS = 3
_PADDING = re.compile(r"(\d+) extraneous bytes before marker 0xd9")


@dataclasses.dataclass(frozen=True, slots=True)
class PreparedImage:
    """A sound image: its encoded bytes, size in pixels, 64-bit fingerprint, and whether the bytes are the file's.

    The fingerprint is None where nothing was decoded.
    """

    data: bytes
    width: int
    height: int
    fingerprint: int | None
    stored_as_is: bool


@dataclasses.dataclass(frozen=True, slots=True)
class DecodedImage:
    """A sound image's upright pixels, uint8 (height / scale, width / scale, 3), rounded up, and its size as a whole."""

    pixels: np.ndarray
    width: int
    height: int
    scale: int


def prepare_image(data: bytes, options: ImageOptions) -> PreparedImage:
    """Verifies one image file and normalises it if needed.

    A sound 8-bit RGB or grey JPEG without rotation is kept byte for byte, after a decode at 1/8 scale that reads all
    of its entropy-coded data. If libjpeg warns, the file is mended where that changes no pixel (`jpeg_header.mend`)
    and refused otherwise: TensorFlow's decoder fills in grey, or noise, without a word. Everything else becomes an
    upright RGB JPEG: EXIF orientation applied, CMYK and 16-bit converted, transparency over white, the first frame
    of an animation. With `keep_png`, sound 8-bit RGB and grey PNGs are kept as well. Where `check_images` is 'header',
    what would be kept by the header of the JPEG, and ends as one, is kept without that decode.

    Sizes are held against the limits before anything is decoded. The worst of what `max_pixels` accepts by default,
    pictures of 10,000 x 10,000 pixels, took 17 s (PNG with alpha) and 2.1 GiB (WebP with alpha) for one image on one
    busy core, and 24 s for each decode of a progressive JPEG of 99 scans. All of it grows with the pixels.

    Args:
      data: the content of the file.
      options: limits and sizes.

    Raises:
      ImageRejectedError: with one of REASONS.
    """
    if not data:
        raise ImageRejectedError("empty", "the file has no content")
    header = jpeg_header.parse(data)
    if header is None and data.startswith(b"\xff\xd8"):  # perhaps with stray bytes between its segments
        mended = jpeg_header.mend(data)
        if header := jpeg_header.parse(mended):
            return dataclasses.replace(_prepare_jpeg(mended, header, options), stored_as_is=False)
    if header is not None:
        return _prepare_jpeg(data, header, options)
    if options.keep_png and (kept := _keep_png(data, options)):
        return kept
    return _normalize(data, options)


def decode_image(
    data: bytes, options: ImageOptions, choose_scale: Callable[[int, int], int] | None = None
) -> DecodedImage:
    """Verifies one image file as `prepare_image` does, and gives its pixels: what a model is to see, not to be stored.

    A common JPEG is verified by the one decode that yields the pixels, with the fast inverse DCT and at the scale that
    TensorFlow's decoder would be asked for: they are the same pixels.

    Args:
      data: the content of the file.
      options: limits and sizes.
      choose_scale: from height and width of the upright image to 1, 2, 4 or 8: a common JPEG is decoded at one over
        that of its size, other images are decoded whole. None: all are.

    Raises:
      ImageRejectedError: with one of REASONS.
    """
    if not data:
        raise ImageRejectedError("empty", "the file has no content")
    header = jpeg_header.parse(data)
    if header is None and data.startswith(b"\xff\xd8"):
        data = jpeg_header.mend(data)
        header = jpeg_header.parse(data)
    if header is None:
        return _whole(image_decoding.decode_rgb(data, options))
    _check_jpeg(header, options)
    if not header.is_common:
        sound, _ = _verify(data, header, _thumbnail_decoder(header.width))
        return _whole(image_decoding.decode_rgb(sound, options, inverted_inks=header.has_adobe))
    is_turned = header.orientation >= 5
    sides = (header.width, header.height) if is_turned else (header.height, header.width)
    scale = choose_scale(*sides) if choose_scale else 1

    def decode(jpeg: bytes) -> np.ndarray:
        least = -(-header.width // scale), -(-header.height // scale)
        return simplejpeg.decode_jpeg(jpeg, "RGB", fastdct=True, min_width=least[0], min_height=least[1])

    sound, pixels = _verify(data, header, decode)
    if pixels is None or _wants_pillow(sound, header, options):
        return _whole(image_decoding.decode_rgb(sound, options))
    return DecodedImage(_upright(pixels, header.orientation), sides[1], sides[0], scale)


def _whole(rgb: Image.Image) -> DecodedImage:
    return DecodedImage(np.asarray(rgb), rgb.width, rgb.height, 1)


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turns and mirrors pixels as an EXIF orientation says, 1 to 8."""
    if orientation in (2, 4, 5, 7):
        pixels = pixels[:, ::-1]
    turns = {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)  # by 90 degrees, anticlockwise
    return np.ascontiguousarray(np.rot90(pixels, turns))


def _check_jpeg(header: JpegHeader, options: ImageOptions) -> None:
    options.check_size(header.width, header.height)
    if not header.is_supported:
        what = f"frame 0xff{header.frame:02x}, {header.precision} bits, {header.components} components"
        raise ImageRejectedError("unsupported", f"a kind of JPEG that is not read: {what}")


def _wants_pillow(sound: bytes, header: JpegHeader, options: ImageOptions) -> bool:
    """Whether a JPEG's pixels have to be changed, or depend on who decodes them."""
    return (
        not header.is_common
        or options.must_shrink(header.width, header.height)
        or (header.has_odd_tables and not _decodes_alike(sound))
        or (options.icc_to_srgb and not image_decoding.is_to_be_seen_as_stored(sound, options))
    )


def _prepare_jpeg(data: bytes, header: JpegHeader, options: ImageOptions) -> PreparedImage:
    _check_jpeg(header, options)
    if options.check_images == "header" and _is_plain(header, options):
        return PreparedImage(data, header.width, header.height, None, True)
    if header.is_common and options.must_shrink(header.width, header.height) and not options.icc_to_srgb:
        return _shrink_jpeg(data, header, options)
    # Also before Pillow's decoder, which ignores broken data.
    sound, thumbnail = _verify(data, header, _thumbnail_decoder(header.width))
    if thumbnail is None or header.orientation != 1 or _wants_pillow(sound, header, options):
        return _normalize(sound, options, inverted_inks=header.has_adobe)
    return PreparedImage(sound, header.width, header.height, fingerprint(thumbnail[:, :, 0]), sound is data)


def _shrink_jpeg(data: bytes, header: JpegHeader, options: ImageOptions) -> PreparedImage:
    """Reduces a common JPEG, which is verified by the one decode that yields its pixels: those that Pillow gives."""
    scale = image_decoding.decoding_scale(header.width, header.height, options)
    least = -(-header.width // scale), -(-header.height // scale)
    sound, pixels = _verify(
        data, header, lambda jpeg: simplejpeg.decode_jpeg(jpeg, "RGB", min_width=least[0], min_height=least[1])
    )
    if pixels is None:
        return _normalize(sound, options)
    rgb = Image.fromarray(_upright(pixels, header.orientation))
    return _encode(image_decoding.shrink(rgb, options), options)


def _is_plain(header: JpegHeader, options: ImageOptions) -> bool:
    """Whether nothing in a JPEG's header asks for more than storing it as it is."""
    return (
        header.ends_with_image
        and header.is_common
        and header.orientation == 1
        and not options.must_shrink(header.width, header.height)
        and not header.has_odd_tables
        and not options.icc_to_srgb
    )


def _verify(data: bytes, header: JpegHeader, decode: Callable[[bytes], np.ndarray]) -> tuple[bytes, np.ndarray | None]:
    """The JPEG, mended if need be so that it decodes without a warning, and what `decode` makes of it.

    None where the JPEG subsamples its colours in a way that only Pillow's decoder knows.
    """
    sound = data if header.ends_with_image else jpeg_header.mend(data)
    if header.width * header.height * (len(sound) // _MIN_SCAN_BYTES) > _MAX_SCANNED_PIXELS:
        num_scans = jpeg_header.count_scans(sound, header)
        if num_scans > _MAX_SCANS:
            raise ImageRejectedError("unsupported", f"{num_scans} scans; at most {_MAX_SCANS}")
    for _ in range(_MAX_MENDS):
        try:
            return sound, _decode_strictly(sound, decode)
        except ImageRejectedError as err:
            padding = _PADDING.search(err.detail)
            mended = jpeg_header.mend(sound, int(padding[1]) if padding else 0)
            if mended is sound:
                raise
            sound = mended
    return sound, _decode_strictly(sound, decode)


def _thumbnail_decoder(width: int) -> Callable[[bytes], np.ndarray]:
    """Decodes a whole JPEG of that width at its smallest useful scale; uint8 (height, width, 1)."""
    side = min(_THUMBNAIL_SIDE, width)
    return lambda data: simplejpeg.decode_jpeg(data, "GRAY", min_height=side, min_width=side, min_factor=1)


def _decode_strictly(data: bytes, decode: Callable[[bytes], np.ndarray]) -> np.ndarray | None:
    """What `decode` makes of a JPEG; any warning of libjpeg's is an error. None: see `_verify`."""
    try:
        return decode(data)
    except ValueError as err:
        message = str(err)
        if "subsampling" in message:
            return None
        reason = "truncated" if "premature end" in message.lower() else "decode_error"
        raise ImageRejectedError(reason, message) from err


def _decodes_alike(data: bytes) -> bool:
    """Whether a JPEG's pixels are the same by the exact inverse DCT and by the fast one, TensorFlow's default.

    The fast one overflows where damaged tables make coefficients that no picture has.
    """
    exact, fast = (simplejpeg.decode_jpeg(data, "RGB", fastdct=fast) for fast in (False, True))
    return bool(np.abs(np.subtract(exact, fast, dtype=np.int16)).mean() < 2)


def fingerprint_of(data: bytes, options: ImageOptions) -> int:
    """The fingerprint that an image file has when it is decoded, whatever `check_images` says.

    Raises:
      ImageRejectedError: see prepare_image.
    """
    found = prepare_image(data, dataclasses.replace(options, check_images="decode")).fingerprint
    assert found is not None, "decoded"
    return found


def fingerprint(gray: np.ndarray) -> int:
    """The 64-bit difference hash of an image, as a signed integer.

    dHash: the image as 9 x 8 means of grey; bit 8 y + x from the top says whether cell (x + 1, y) is brighter than
    (x, y). Near duplicates differ in few bits. Source: N. Krawetz, "Kind of Like That", The Hacker Factor Blog, 2013.
    The means are exact, and so the same on every machine: products of whole numbers, far below 2**53.

    Args:
      gray: uint8 (height, width), any size.
    """
    height, width = gray.shape
    steps = np.dot(np.dot(_overlaps(height, 8), gray.astype(np.float64)), _steps(width, 9))
    return int.from_bytes(np.packbits(steps > 0).tobytes(), "big", signed=True)


@functools.lru_cache(maxsize=4096)
def _steps(size: int, cells: int) -> np.ndarray:
    """What each of `size` pixels adds to the difference between a cell and the one before it: (size, cells - 1)."""
    return np.ascontiguousarray(np.diff(_overlaps(size, cells), axis=0).T)


@functools.lru_cache(maxsize=4096)
def _overlaps(size: int, cells: int) -> np.ndarray:
    """How much of each of `size` pixels lies in each of `cells` equal cells: (cells, size), in 1 / cells of a pixel."""
    pixels, starts = np.arange(size) * cells, np.arange(cells)[:, None] * size
    overlap = np.minimum(pixels + cells, starts + size) - np.maximum(pixels, starts)
    return np.maximum(overlap, 0).astype(np.float64)


def _normalize(data: bytes, options: ImageOptions, *, inverted_inks: bool = True) -> PreparedImage:
    return _encode(image_decoding.decode_rgb(data, options, inverted_inks=inverted_inks), options)


def _encode(rgb: Image.Image, options: ImageOptions) -> PreparedImage:
    rgb.info = {}  # or a comment would go into the JPEG
    buffer = io.BytesIO()
    # Not simplejpeg: below quality 96 it takes the fast DCT, which overflows at hard edges between black and white.
    rgb.save(buffer, "JPEG", quality=options.jpeg_quality, subsampling=0)
    encoded = buffer.getvalue()
    # Of what is stored, so that it can be computed again from there.
    thumbnail = _decode_strictly(encoded, _thumbnail_decoder(rgb.width))
    assert thumbnail is not None, "JPEG without subsampling"
    return PreparedImage(encoded, rgb.width, rgb.height, fingerprint(thumbnail[:, :, 0]), False)


def _keep_png(data: bytes, options: ImageOptions) -> PreparedImage | None:
    """A sound PNG as it is; None where it has to become a JPEG, or to be refused."""
    png = png_chunks.parse(data)
    if png is None or not png.is_plain or options.must_shrink(png.width, png.height):
        return None
    options.check_size(png.width, png.height)
    if not png_chunks.holds_its_pixels_alone(png):
        return None
    if not image_decoding.is_to_be_seen_as_stored(png.core, options):
        return None
    gray = image_decoding.decode_rgb(data, options).convert("L")
    reduced = gray.reduce(max(1, min(gray.size) // (4 * _THUMBNAIL_SIDE)))
    return PreparedImage(data, png.width, png.height, fingerprint(np.asarray(reduced)), True)
