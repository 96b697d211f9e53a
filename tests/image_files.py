"""Image files made for tests, some of kinds that no library writes."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def encode(image, format="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def exif(orientation):
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def png(pixels, interlaced=False):
    """A PNG of uint8 or uint16 grey or RGB pixels, which Pillow cannot write interlaced or with 16-bit colours."""
    height, width = pixels.shape[:2]
    depth = 8 * pixels.itemsize
    color = {1: 0, 3: 2, 4: 6}[pixels[0, 0].size]
    raw = b""
    for x, y, dx, dy in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        part = pixels[y::dy, x::dx].astype(f">u{pixels.itemsize}")
        raw += b"".join(b"\0" + row.tobytes() for row in part if part.size)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def rgb(image):
    """An image, or grey or RGB pixels, as an RGB array of floats."""
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image.astype(np.uint8))
    return np.asarray(image.convert("RGB"), dtype=np.float64)
