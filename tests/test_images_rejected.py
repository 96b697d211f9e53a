"""Images that are broken, too large or too small are rejected with their reason."""

import struct

import numpy as np
import pytest
from image_files import encode, exif, png
from PIL import Image

from tfr import images
from tfr.errors import UsageError
from tfr.images import ImageOptions, ImageRejectedError, prepare_image


def cut(share):
    return lambda data: data[: int(len(data) * share)]


def fill_middle(filling):
    return lambda data: data[: len(data) // 2] + filling + data[len(data) // 2 + len(filling) :]


def jpeg_of_size(width, height):
    """The header of a JPEG that claims a size, and nothing after it."""
    return b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9) + b"\xff\xda"


def repeat_last_scan(data, times):
    start = data.rindex(b"\xff\xda")
    return data[:-2] + data[start:-2] * times + data[-2:]


def webp(kind, payload):
    chunk = kind + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def tiled_tiff(side):
    """A grey TIFF of 16 x 16 pixels in one tile of side x side."""
    tags = {256: 16, 257: 16, 258: 8, 259: 1, 262: 1, 277: 1, 322: side, 323: side, 324: 8, 325: side * side}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4 + 100)


# name: (format and its options or None, what is done to the file, the reasons that are right)
REJECTED = {
    "no content": (None, lambda _: b"", {"empty"}),
    "text": (None, lambda _: b"id,label\n1,cat\n" * 20, {"not_an_image"}),
    "web page": (None, lambda _: b"<!DOCTYPE html><html><body>404</body></html>", {"not_an_image"}),
    "PostScript, which would start another program": (None, lambda _: b"%!PS-Adobe-3.0 EPSF-3.0\n", {"unsupported"}),
    "zeros": (None, lambda _: bytes(1000), {"not_an_image"}),
    "start of a JPEG": (None, lambda _: b"\xff\xd8\xff", {"not_an_image"}),
    "start of a PNG": (None, lambda _: b"\x89PNG\r\n\x1a\n", {"not_an_image", "truncated"}),
    "JPEG cut in its header": ({}, cut(0.2), {"truncated", "not_an_image", "decode_error"}),
    "JPEG cut at 70 %": ({}, cut(0.7), {"truncated"}),
    "JPEG cut at 90 %": ({}, cut(0.9), {"truncated"}),
    "JPEG without its end": ({}, lambda data: data[:-2], {"truncated"}),
    "progressive JPEG cut at 60 %": ({"progressive": True}, cut(0.6), {"truncated", "decode_error"}),
    "progressive JPEG cut at 95 %": ({"progressive": True}, cut(0.95), {"truncated"}),
    "rotated JPEG cut at 90 %": ({"exif": exif(6)}, cut(0.9), {"truncated"}),
    "JPEG with broken entropy data": ({}, fill_middle(b"\xff\x00" * 20), {"decode_error"}),
    "rotated JPEG with broken entropy data": ({"exif": exif(6)}, fill_middle(b"\xff\x00" * 20), {"decode_error"}),
    "JPEG with an end in its middle": ({}, fill_middle(b"\xff\xd9"), {"truncated", "decode_error"}),
    "PNG cut at 30 %": ({"format": "PNG"}, cut(0.3), {"truncated"}),
    "PNG cut at 60 %": ({"format": "PNG"}, cut(0.6), {"truncated"}),
    "PNG cut at 90 %": ({"format": "PNG"}, cut(0.9), {"truncated"}),
    "PNG with broken data": ({"format": "PNG"}, fill_middle(b"broken"), {"decode_error", "truncated"}),
    "WebP cut at 60 %": ({"format": "WEBP"}, cut(0.6), {"truncated", "decode_error", "not_an_image"}),
    "BMP cut at 60 %": ({"format": "BMP"}, cut(0.6), {"truncated"}),
    "TIFF cut at 60 %": ({"format": "TIFF"}, cut(0.6), {"truncated", "not_an_image", "decode_error"}),
    "GIF cut at 60 %": ({"format": "GIF"}, cut(0.6), {"truncated"}),
    "CMYK JPEG with broken entropy data": ({"mode": "CMYK"}, fill_middle(b"\xff\x00" * 20), {"decode_error"}),
    "JPEG with mixed bytes before its end": ({}, lambda data: data[:-2] + b"ab" * 25 + data[-2:], {"decode_error"}),
    "lossless JPEG": ({}, lambda data: data.replace(b"\xff\xc0", b"\xff\xc3"), {"unsupported"}),
    "12-bit JPEG": ({}, lambda data: data.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"), {"unsupported"}),
    "progressive JPEG of a thousand scans": (
        {"progressive": True, "size": (700, 600)},
        lambda data: repeat_last_scan(data, 1000),
        {"unsupported"},
    ),
    "PDF": (None, lambda _: b"%PDF-1.7\n", {"unsupported"}),
    "JPEG 2000": (None, lambda _: b"\0\0\0\x0cjP  \r\n\x87\n", {"unsupported"}),
    "JPEG XL": (None, lambda _: b"\0\0\0\x0cJXL \r\n\x87\n", {"unsupported"}),
    "TIFF of floats": (None, lambda _: encode(Image.new("F", (9, 9), 0.5), "TIFF"), {"unsupported"}),
    "TIFF of 32-bit integers": (None, lambda _: encode(Image.new("I", (9, 9), 70000), "TIFF"), {"unsupported"}),
    "TIFF with a tile of 900 megapixels": (None, lambda _: tiled_tiff(30000), {"too_large"}),
    "GIF that claims 4 gigapixels": (
        {"format": "GIF"},
        lambda data: data[:6] + b"\xff\xff\xff\xff" + data[10:],
        {"too_large"},
    ),
    "lossless WebP that claims 268 megapixels": (
        None,
        lambda _: webp(b"VP8L", b"\x2f" + (16383 | 16383 << 14).to_bytes(4, "little")),
        {"too_large", "not_an_image"},
    ),
    "extended WebP that claims 268 megapixels": (
        None,
        lambda _: webp(b"VP8X", bytes(4) + b"\xfe\x3f\0\xfe\x3f\0"),
        {"too_large", "decode_error"},
    ),
    "JPEG without rows": (None, lambda _: jpeg_of_size(100, 0), {"too_small"}),
    "JPEG that claims 4 gigapixels": (None, lambda _: jpeg_of_size(65500, 65500), {"too_large"}),
    "PNG that claims 9 gigapixels": (
        None,
        lambda _: png(np.zeros((1, 1), np.uint8)).replace(struct.pack(">II", 1, 1), struct.pack(">II", 90000, 90000)),
        {"too_large", "not_an_image"},
    ),
    "PNG wider than a JPEG can be": (None, lambda _: png(np.zeros((2, 70000), np.uint8)), {"too_large"}),
}


@pytest.mark.parametrize("kind", REJECTED)
def test_broken_files_are_rejected_with_their_reason(make_photo, kind):
    options, damage, reasons = REJECTED[kind]
    data = b""
    if options is not None:
        photo = make_photo(6, options.get("size", (96, 64))).convert(options.get("mode", "RGB"))
        data = encode(photo, **{name: value for name, value in options.items() if name not in ("size", "mode")})
    data = damage(data)
    with pytest.raises(ImageRejectedError) as caught:
        prepare_image(data, ImageOptions())
    assert caught.value.reason in reasons, caught.value
    assert caught.value.reason in images.REASONS
    assert caught.value.detail


@pytest.mark.parametrize(
    ("limits", "format", "reason"),
    [
        ({"max_pixels": 48 * 32}, "JPEG", None),
        ({"max_pixels": 48 * 32 - 1}, "JPEG", "too_large"),
        ({"max_pixels": 48 * 32 - 1}, "PNG", "too_large"),
        ({"min_side": 32}, "JPEG", None),
        ({"min_side": 33}, "JPEG", "too_small"),
        ({"min_side": 33}, "PNG", "too_small"),
    ],
)
def test_limits_of_size(make_photo, limits, format, reason):
    data = encode(make_photo(), format)
    if reason is None:
        assert prepare_image(data, ImageOptions(**limits)).width == 48
    else:
        with pytest.raises(ImageRejectedError, match=f"{reason}: 48 x 32 pixels; .* {next(iter(limits.values()))}"):
            prepare_image(data, ImageOptions(**limits))


@pytest.mark.parametrize(
    "wrong", [{"jpeg_quality": 0}, {"jpeg_quality": 101}, {"image_size": 0}, {"min_side": 0}, {"max_pixels": 0}]
)
def test_impossible_options_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(UsageError, match=f"--{name} must be .* Received: --{name}={wrong[name]}"):
        ImageOptions(**wrong)
