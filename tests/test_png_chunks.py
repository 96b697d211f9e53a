"""PNG files whose headers promise more rows than there are, of every kind of pixel; whole ones are left alone."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tfr import png_chunks
from tfr.images import ImageOptions, ImageRejectedError, prepare_image

_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


def _encode(mode, size):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(noise)
    if mode == "I;16":
        image = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    buffer = io.BytesIO()
    (image if mode == "I;16" else image.convert(mode)).save(buffer, "PNG")
    return buffer.getvalue()


def _taller(data, rows):
    """The same file with a header that promises more rows, its checksum right."""
    width, height = struct.unpack_from(">II", data, 16)
    header = b"IHDR" + struct.pack(">II", width, height + rows) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


@pytest.mark.parametrize("mode", _MODES)
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (40, 33)])
def test_a_whole_picture_has_all_its_pixels(mode, size):
    png = png_chunks.parse(_encode(mode, size))
    assert png_chunks.holds_its_pixels_alone(png)
    assert not png_chunks.lacks_pixels(png)


@pytest.mark.parametrize("keep_png", [False, True])
@pytest.mark.parametrize("mode", _MODES)
def test_a_row_too_few_is_a_truncated_picture(mode, keep_png):
    whole = _encode(mode, (40, 33))
    prepare_image(whole, ImageOptions(keep_png=keep_png))
    with pytest.raises(ImageRejectedError, match="the pixel data end before the picture does") as caught:
        prepare_image(_taller(whole, 1), ImageOptions(keep_png=keep_png))
    assert caught.value.reason == "truncated"


def test_interlaced_rows_are_counted_by_pass():
    from image_files import png as make_png

    pixels = np.random.default_rng(0).integers(0, 256, (13, 9, 3), np.uint8)
    parsed = png_chunks.parse(make_png(pixels, interlaced=True))
    assert parsed.is_interlaced
    assert png_chunks.holds_its_pixels_alone(parsed)
    assert png_chunks.lacks_pixels(png_chunks.parse(_taller(make_png(pixels, interlaced=True), 1)))


def test_nothing_is_unpacked_before_the_size_is_held_against_the_limits(monkeypatch):
    """A header that promises gigapixels, and data that unpack to a gigabyte."""
    bomb = zlib.compress(bytes(1 << 30), 9)
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", bomb), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    unpacked = []
    monkeypatch.setattr(png_chunks, "_unpack", lambda *args: unpacked.append(args))
    for keep_png in (False, True):
        with pytest.raises(ImageRejectedError, match="too_large"):
            prepare_image(data, ImageOptions(keep_png=keep_png))
    assert not unpacked
