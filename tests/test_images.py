"""Which images are stored as they are, and what becomes of others: upright RGB JPEGs, at the size that is asked for."""

import io
import struct

import numpy as np
import pytest
from image_files import encode, exif, png, rgb
from PIL import Image

from tfr.images import ImageOptions, prepare_image

# Pillow warns of broken EXIF blocks and goes on.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")

_T = Image.Transpose
# What a camera did to an upright picture before it wrote each EXIF orientation.
_CAMERA = {
    1: None, 2: _T.FLIP_LEFT_RIGHT, 3: _T.ROTATE_180, 4: _T.FLIP_TOP_BOTTOM, 5: _T.TRANSPOSE, 6: _T.ROTATE_90,
    7: _T.TRANSVERSE, 8: _T.ROTATE_270,
}  # fmt: skip


def translucent(photo):
    """The photo with an alpha channel that rises from left to right."""
    ramp = Image.linear_gradient("L").rotate(90).resize(photo.size)
    result = photo.copy()
    result.putalpha(ramp)
    return result


def over_white(rgba):
    values = np.asarray(rgba, dtype=np.float64)
    alpha = values[..., -1:] / 255
    return (values[..., :-1] * alpha + 255 * (1 - alpha)).round().astype(np.uint8)


def quantized(photo):
    return photo.quantize(64)


def enlarged(photo):
    return photo.resize((10 * photo.width, 10 * photo.height), Image.Resampling.BICUBIC)


def unusual_sampling(photo):
    """A JPEG with colours at a quarter of the width and half of the height, each component in a scan of its own.

    It is put together from the three components' grey JPEGs, which use the same tables.
    """
    luma, *chroma = photo.convert("YCbCr").split()
    small = (-(-photo.width // 4), -(-photo.height // 2))
    parts = [encode(part, quality=95) for part in (luma, *(part.resize(small) for part in chroma))]
    frame, scan = (parts[0].index(marker) for marker in (b"\xff\xc0", b"\xff\xda"))
    header = parts[0][:frame] + struct.pack(">HHBHHB", 0xFFC0, 17, 8, photo.height, photo.width, 3)
    header += bytes([1, 0x42, 0, 2, 0x11, 0, 3, 0x11, 0])
    tables = parts[0][frame + 13 : scan]
    scans = b""
    for number, part in enumerate(parts, 1):
        start = part.index(b"\xff\xda")
        scans += part[start : start + 5] + bytes([number]) + part[start + 6 : -2]
    return header + tables + scans + b"\xff\xd9"


def two_frames(photo, format):
    other = photo.transpose(_T.ROTATE_180)
    return encode(quantized(photo), format, save_all=True, append_images=[quantized(other)])


# Files that are stored byte for byte.
STORED = {
    "baseline": lambda p: encode(p, quality=90),
    "progressive": lambda p: encode(p, progressive=True),
    "full chroma": lambda p: encode(p, subsampling=0),
    "grey": lambda p: encode(p.convert("L")),
    "grey progressive": lambda p: encode(p.convert("L"), progressive=True),
    "restart markers": lambda p: encode(p, restart_marker_rows=1),
    "RGB colour space": lambda p: encode(p, keep_rgb=True),
    "orientation 1": lambda p: encode(p, exif=exif(1)),
    "orientation 0, which means nothing": lambda p: encode(p, exif=exif(0)),
    "orientation 9, which means nothing": lambda p: encode(p, exif=exif(9)),
    "broken EXIF": lambda p: encode(p, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
    "comment": lambda p: encode(p, comment=b"\xff\xd9" * 9),
    "one pixel": lambda p: encode(p.resize((1, 1))),
    "one row": lambda p: encode(p.resize((300, 1))),
    "one column": lambda p: encode(p.resize((1, 300))),
}
# Files that are normalised: how they are made, and the pixels that are expected.
NORMALIZED = {
    "CMYK JPEG": lambda p: (encode(p.convert("CMYK"), quality=95), p),
    "JPEG with unusual sampling": lambda p: (unusual_sampling(enlarged(p)), enlarged(p)),
    "trailing garbage": lambda p: (encode(p, quality=95) + b"garbage" * 9, p),
    "PNG": lambda p: (encode(p, "PNG"), p),
    "interlaced PNG": lambda p: (png(np.asarray(p), interlaced=True), p),
    "16-bit RGB PNG": lambda p: (png(np.asarray(p).astype(np.uint16) * 257), p),
    "16-bit grey PNG": lambda p: (png(np.asarray(p.convert("L")).astype(np.uint16) * 257), p.convert("L")),
    "16-bit grey PNG of dark pixels": lambda p: (
        png(np.asarray(p.convert("L")).astype(np.uint16)), 0 * rgb(p)
    ),
    "grey PNG": lambda p: (encode(p.convert("L"), "PNG"), p.convert("L")),
    "bilevel PNG": lambda p: (encode(p.convert("1"), "PNG"), p.convert("1")),
    "palette PNG": lambda p: (encode(quantized(p), "PNG"), quantized(p)),
    "palette PNG with a transparent colour": lambda p: (
        encode(quantized(p), "PNG", transparency=5),
        np.where(np.asarray(quantized(p))[..., None] == 5, 255, rgb(quantized(p))),
    ),
    "alpha PNG": lambda p: (encode(translucent(p), "PNG"), over_white(translucent(p))),
    "grey alpha PNG": lambda p: (
        encode(translucent(p).convert("LA"), "PNG"), over_white(translucent(p).convert("LA"))[..., 0]
    ),
    "rotated PNG": lambda p: (encode(p.transpose(_T.ROTATE_90), "PNG", exif=exif(6)), p),
    "WebP": lambda p: (encode(p, "WEBP", lossless=True), p),
    "lossy WebP": lambda p: (encode(p, "WEBP", quality=95), p),
    "alpha WebP": lambda p: (encode(translucent(p), "WEBP", lossless=True, exact=True), over_white(translucent(p))),
    "animated WebP": lambda p: (encode(p, "WEBP", save_all=True, append_images=[p.rotate(180)], lossless=True), p),
    "BMP": lambda p: (encode(p, "BMP"), p),
    "TIFF": lambda p: (encode(p, "TIFF"), p),
    "LZW TIFF": lambda p: (encode(p, "TIFF", compression="tiff_lzw"), p),
    "CMYK TIFF": lambda p: (encode(p.convert("CMYK"), "TIFF"), p),
    "16-bit grey TIFF": lambda p: (
        encode(Image.fromarray(np.asarray(p.convert("L")).astype(np.uint16) * 257), "TIFF"), p.convert("L")
    ),
    "GIF": lambda p: (encode(quantized(p), "GIF"), quantized(p)),
    "animated GIF": lambda p: (two_frames(p, "GIF"), quantized(p)),
    "animated PNG": lambda p: (two_frames(p, "PNG"), quantized(p)),
    "PPM": lambda p: (encode(p, "PPM"), p),
    **{
        f"orientation {number}": lambda p, number=number: (
            encode(p.transpose(_CAMERA[number]), quality=95, subsampling=0, exif=exif(number)), p
        )
        for number in range(2, 9)
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", STORED)
def test_sound_jpegs_are_stored_byte_for_byte(make_photo, kind):
    data = STORED[kind](make_photo(3))
    prepared = prepare_image(data, ImageOptions())
    assert prepared.stored_as_is
    assert prepared.data == data
    assert (prepared.width, prepared.height) == Image.open(io.BytesIO(data)).size


@pytest.mark.parametrize("kind", NORMALIZED)
def test_other_images_become_upright_rgb_jpegs(make_photo, kind):
    data, expected = NORMALIZED[kind](make_photo(4))
    prepared = prepare_image(data, ImageOptions())
    assert not prepared.stored_as_is
    with Image.open(io.BytesIO(prepared.data)) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (prepared.width, prepared.height))
        assert not image.getexif()
        assert rgb(image).shape == rgb(expected).shape
        assert np.abs(rgb(image) - rgb(expected)).mean() < 4


def test_tensorflow_decodes_whatever_is_accepted_to_the_same_size(make_photo):
    import tensorflow as tf

    files = {kind: make(make_photo(5)) for kind, make in STORED.items()}
    files |= {kind: make(make_photo(5))[0] for kind, make in NORMALIZED.items()}
    for kind, data in files.items():
        prepared = prepare_image(data, ImageOptions())
        decoded = tf.io.decode_image(prepared.data, channels=3).numpy()
        assert decoded.shape == (prepared.height, prepared.width, 3), kind
        assert np.abs(decoded - rgb(Image.open(io.BytesIO(prepared.data)))).mean() < 3, kind


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    ("size", "image_size", "expected"),
    [
        ((90, 60), 20, (30, 20)),
        ((60, 90), 20, (20, 30)),
        ((48, 32), 32, (48, 32)),
        ((48, 32), 100, (48, 32)),
        ((1000, 700), 64, (91, 64)),
        ((36, 1600), 16, (16, 711)),
    ],
)
def test_image_size_is_the_shorter_side_and_never_enlarges(make_photo, format, size, image_size, expected):
    photo = make_photo(7, size)
    options = {"subsampling": 0, "quality": 95} if format == "JPEG" else {}
    prepared = prepare_image(encode(photo, format, **options), ImageOptions(image_size=image_size))
    assert (prepared.width, prepared.height) == expected
    assert prepared.stored_as_is == (format == "JPEG" and expected == size)
    stored = Image.open(io.BytesIO(prepared.data))
    assert stored.size == expected
    assert np.abs(rgb(stored) - rgb(photo.resize(expected, Image.Resampling.LANCZOS))).mean() < 5


def test_image_size_holds_for_the_upright_image(make_photo):
    data = encode(make_photo(8, (200, 100)).transpose(_T.ROTATE_90), exif=exif(6))
    prepared = prepare_image(data, ImageOptions(image_size=50))
    assert (prepared.width, prepared.height) == (100, 50)


def test_jpeg_quality_decides_the_size_of_what_is_encoded_anew(make_photo):
    data = encode(make_photo(9, (200, 100)), "PNG")
    sizes = [len(prepare_image(data, ImageOptions(jpeg_quality=quality)).data) for quality in (10, 50, 100)]
    assert sizes == sorted(set(sizes))
