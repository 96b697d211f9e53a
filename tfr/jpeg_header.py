"""The few facts in a JPEG's header that decide whether its bytes can be stored as they are."""

import struct
from typing import NamedTuple

_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # TEM, RSTn, SOI: markers without a length
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOFn; the three others are tables
_HUFFMAN_8_BIT_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive
_ORIENTATION = 0x0112  # EXIF tag
_END_OF_IMAGE = b"\xff\xd9"


class JpegHeader(NamedTuple):
    """A JPEG's frame: whether it is 8-bit Huffman-coded grey or colour, and upright with nothing after its end."""

    width: int
    height: int
    is_common: bool
    is_upright: bool


def parse(data: bytes) -> JpegHeader | None:
    """Reads the markers before the image data; None where the bytes are no JPEG or the header is broken."""
    if data[:3] != b"\xff\xd8\xff":
        return None
    orientation, position = 1, 2
    try:
        while True:
            if data[position] != 0xFF:
                return None
            marker = data[position + 1]
            position += 1 if marker == 0xFF else 2  # 0xFF may be repeated as filling
            if marker == 0xFF or marker in _STANDALONE:
                continue
            (length,) = struct.unpack_from(">H", data, position)
            if marker == 0xE1 and data[position + 2 : position + 8] == b"Exif\0\0":
                orientation = _orientation(data[position + 8 : position + length])
            elif marker in _FRAMES:
                precision, height, width, components = struct.unpack_from(">BHHB", data, position + 2)
                common = marker in _HUFFMAN_8_BIT_FRAMES and precision == 8 and components in (1, 3)
                return JpegHeader(width, height, common, orientation == 1 and data.endswith(_END_OF_IMAGE))
            elif marker in (0xD9, 0xDA):  # end, or image data, before any frame
                return None
            position += length
    except (IndexError, struct.error):
        return None


def _orientation(tiff: bytes) -> int:
    """The orientation in an EXIF block, 1 to 8; 1 (upright) where it does not say, or says anything else."""
    try:
        order = {b"II": "<", b"MM": ">"}[tiff[:2]]
        (offset,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, offset)
        for entry in range(offset + 2, offset + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", tiff, entry)
            if tag == _ORIENTATION and kind == 3:
                (orientation,) = struct.unpack_from(order + "H", tiff, entry + 8)
                return orientation if 1 <= orientation <= 8 else 1
    except (KeyError, struct.error):
        pass
    return 1
