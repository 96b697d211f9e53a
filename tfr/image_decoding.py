"""Any image file to upright RGB pixels, with Pillow."""

import functools
import io
import struct

import numpy as np
from PIL import ExifTags, Image, ImageChops, ImageCms, ImageOps, UnidentifiedImageError

from tfr import png_chunks
from tfr.image_options import ImageOptions, ImageRejectedError

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "MPO", "AVIF", "HEIF", "PPM")
Image.init()  # registers all of Pillow's formats, so that naming one that is not there is no error
_TILE_WIDTH, _TILE_LENGTH = 322, 323  # TIFF tags
_SAME_COLORS = 3  # of 255; a profile that moves no colour further than this is sRGB under another name
_EIGHT_BITS_OF_16 = (np.arange(1 << 16) // 257).astype(np.uint8)  # 65535 -> 255
# What files that are images, but none that is read, begin with; byte 4 on for those that say so.
_UNSUPPORTED = (
    (0, b"%PDF", "PDF"), (0, b"8BPS", "Photoshop"), (0, b"%!PS", "PostScript"), (0, b"\0\0\1\0", "Windows icon"),
    (4, b"jP  ", "JPEG 2000"), (0, b"\xff\x4f\xff\x51", "JPEG 2000"), (4, b"JXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"), (0, b"<svg", "SVG"), (0, b"DDS ", "DirectDraw"), (0, b"v/1\x01", "OpenEXR"),
)  # fmt: skip
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})


def decode_rgb(data: bytes, options: ImageOptions, *, inverted_inks: bool = True) -> Image.Image:
    """Decodes an image file: its first frame, upright, transparency over white, reduced to the image size.

    Args:
      data: the content of the file.
      options: limits and sizes; the limits are held against the header, before anything is decoded.
      inverted_inks: whether a CMYK JPEG stores its inks inverted, as Adobe's programs do.

    Returns:
      An image of mode RGB.

    Raises:
      ImageRejectedError: it is no image, none that is read, broken, or too large or small.
    """
    try:
        with _open(_without_ballast(data, options)) as image:
            _check_header(image, options)
            if options.image_size is not None:
                image.draft(None, (2 * options.image_size,) * 2)  # decodes JPEG as `decoding_scale` says
            profile = image.info.get("icc_profile") if options.icc_to_srgb else None
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode == "CMYK" and not inverted_inks:
                image = ImageChops.invert(image)  # Pillow takes every CMYK JPEG for inverted
            rgb = to_rgb(image, profile)
    except ImageRejectedError:
        raise
    except UnidentifiedImageError as err:
        raise _not_an_image(data) from err
    except Image.DecompressionBombError as err:
        raise ImageRejectedError("too_large", str(err)) from err
    except Exception as err:
        # Pillow's decoders raise nearly anything on broken files: OSError, SyntaxError, struct.error, RuntimeError.
        reason = "truncated" if "truncated" in str(err).lower() else "decode_error"
        raise ImageRejectedError(reason, f"{type(err).__name__}: {err}") from err
    return shrink(rgb, options)


def shrink(rgb: Image.Image, options: ImageOptions) -> Image.Image:
    """An RGB image reduced to the image size; one that is no larger as it is."""
    if not options.must_shrink(rgb.width, rgb.height):
        return rgb
    assert options.image_size is not None
    scale = options.image_size / min(rgb.size)
    # The slowest of Pillow's filters, and the one that keeps most by far: benchmarks/bench_filters.py.
    return rgb.resize((round(rgb.width * scale), round(rgb.height * scale)), Image.Resampling.LANCZOS)


def decoding_scale(width: int, height: int, options: ImageOptions) -> int:
    """1, 2, 4 or 8: at one over this of its size a JPEG is still twice as large as the image size asks for."""
    if options.image_size is None:
        return 1
    return next(
        scale for scale in (8, 4, 2, 1) if min(width, height) // (2 * options.image_size) >= scale or scale == 1
    )


def _without_ballast(data: bytes, options: ImageOptions) -> bytes:
    """A PNG without its texts and later frames, which Pillow would unpack when it opens the file."""
    png = png_chunks.parse(data)
    if png is None:
        return data
    options.check_size(png.width, png.height)
    if png_chunks.lacks_pixels(png):
        raise ImageRejectedError("truncated", "the pixel data end before the picture does")
    return png.core


def _open(data: bytes) -> Image.Image:
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        _register_heif()
    return Image.open(io.BytesIO(data), formats=[name for name in _FORMATS if name in Image.OPEN])


@functools.cache
def _register_heif() -> None:
    """Teaches Pillow HEIC, once in a process, when the first such file comes."""
    try:
        import pillow_heif
    except ImportError as err:
        message = "HEIC is read with the package pillow-heif: pip install 'tfr[heif]', on the workers too"
        raise ImageRejectedError("unsupported", message) from err
    pillow_heif.register_heif_opener()


def _check_header(image: Image.Image, options: ImageOptions) -> None:
    """Refuses what would cost too much, or mean nothing, before it is decoded."""
    options.check_size(image.width, image.height)
    if image.format == "TIFF":
        tags = image.tag_v2
        if tags.get(_TILE_WIDTH, 0) * tags.get(_TILE_LENGTH, 0) > options.max_pixels:  # a decoder makes room for one
            raise ImageRejectedError("too_large", f"tiles of {tags[_TILE_WIDTH]} x {tags[_TILE_LENGTH]} pixels")
    if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        raise ImageRejectedError("unsupported", "samples of 32 bits or with a sign have no agreed range")


def _not_an_image(data: bytes) -> ImageRejectedError:
    for offset, start, name in _UNSUPPORTED:
        if data.startswith(start, offset):
            return ImageRejectedError("unsupported", f"{name} is not read")
    return ImageRejectedError("not_an_image", f"starts with {data[:8]!r}")


def to_rgb(image: Image.Image, profile: bytes | None = None) -> Image.Image:
    """Any mode to RGB: 16-bit grey scaled to 8, colours by the profile, transparency over white."""
    if image.mode.startswith("I"):  # 16 bits, whatever they are kept in
        values = np.asarray(image).clip(0, (1 << 16) - 1)
        eight = _EIGHT_BITS_OF_16[values]
        eight[values == image.info.get("transparency")] = 255
        image = Image.fromarray(eight)
    has_alpha = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    if has_alpha or image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGBA" if has_alpha else "RGB")
    transform = _srgb_transform(profile, image.mode) if profile else None
    if transform is not None:
        image = ImageCms.applyTransform(image, transform)
    if not has_alpha:
        return image if image.mode == "RGB" else image.convert("RGB")
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image, mask=image)
    return flat


def is_to_be_seen_as_stored(data: bytes, options: ImageOptions) -> bool:
    """Whether an image file says that nothing has to be done to its pixels; False where that cannot be read."""
    try:
        with _open(data) as image:
            if image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9):
                return False
            profile = image.info.get("icc_profile") if options.icc_to_srgb else None
            return not profile or _srgb_transform(profile, image.mode) is None
    except Exception:  # as above; decoding says what is wrong
        return False


@functools.lru_cache(maxsize=64)
def _srgb_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile's colours to sRGB; None where they are the same, or the profile is broken or for another mode."""
    target = {"RGBA": "RGBA"}.get(mode, "RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, target)
        sample = Image.fromarray(_color_cube()).convert(mode)
        moved = ImageCms.applyTransform(sample, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, struct.error):
        return None
    difference = ImageChops.difference(moved.convert("RGB"), sample.convert("RGB"))
    return transform if np.asarray(difference).max() > _SAME_COLORS else None


def _color_cube() -> np.ndarray:
    """Nine steps of red, green and blue each; uint8 (27, 27, 3)."""
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    return np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)
