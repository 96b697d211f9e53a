import io
import struct

import pytest
from PIL import Image

from tfr import jpeg_header
from tfr.jpeg_header import JpegHeader

_START, _END = b"\xff\xd8", b"\xff\xd9"


def segment(marker, payload):
    return bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload


def frame(marker=0xC0, precision=8, height=32, width=48, components=3):
    return segment(marker, struct.pack(">BHHB", precision, height, width, components) + bytes(3 * components))


def exif(orientation, order=">", kind=3, tag=0x0112):
    entry = struct.pack(order + "HHIHH", tag, kind, 1, orientation, 0)
    header = {">": b"MM", "<": b"II"}[order] + struct.pack(order + "HI", 42, 8)
    return segment(0xE1, b"Exif\0\0" + header + struct.pack(order + "H", 1) + entry + bytes(4))


@pytest.mark.parametrize(
    ("segments", "is_common", "is_upright"),
    [
        (frame(), True, True),
        (frame(0xC1), True, True),
        (frame(0xC2), True, True),
        (frame(components=1), True, True),
        (frame(0xC3), False, True),  # lossless
        (frame(0xC9), False, True),  # arithmetic coding
        (frame(precision=12), False, True),
        (frame(components=4), False, True),
        (b"\xff\xff\xff" + frame(), True, True),  # filling
        (b"\xff\x01" + frame(), True, True),  # a marker without a length
        (segment(0xC4, bytes(20)) + frame(), True, True),  # a table
        (segment(0xFE, b"\xff\xc0" * 9) + frame(), True, True),  # a comment that looks like a frame
        (exif(1) + frame(), True, True),
        (exif(6) + frame(), True, False),
        (exif(8, order="<") + frame(), True, False),
        (exif(0) + frame(), True, True),
        (exif(9) + frame(), True, True),
        (exif(6, kind=7) + frame(), True, True),
        (exif(6, tag=0x0100) + frame(), True, True),
        (segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0") + frame(), True, True),
        (segment(0xE1, b"Exif\0\0") + frame(), True, True),
        (segment(0xE1, b"Exif\0\0XX\0\0") + frame(), True, True),
        (segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff") + frame(), True, True),
    ],
)
def test_headers(segments, is_common, is_upright):
    assert jpeg_header.parse(_START + segments + _END) == JpegHeader(48, 32, is_common, is_upright)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8",
        b"\x89PNG\r\n\x1a\n",
        _START + b"\xff",
        _START + frame()[:9],
        _START + segment(0xFE, b"comment"),
        _START + segment(0xDA, b"scan") + frame(),
        _START + _END + frame(),
        _START + segment(0xFE, b"comment") + b"no marker" + frame(),
    ],
)
def test_broken_headers_are_none(data):
    assert jpeg_header.parse(data) is None


def test_bytes_after_the_end_are_seen():
    assert not jpeg_header.parse(_START + frame() + _END + b"more").is_upright


@pytest.mark.parametrize("orientation", range(1, 9))
def test_agrees_with_pillow(make_photo, encode, orientation):
    block = Image.Exif()
    block[0x0112] = orientation
    data = encode(make_photo(), exif=block.tobytes())
    header = jpeg_header.parse(data)
    with Image.open(io.BytesIO(data)) as image:
        assert (header.width, header.height) == image.size
        assert header.is_upright == (image.getexif()[0x0112] == 1)
