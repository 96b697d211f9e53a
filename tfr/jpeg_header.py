"""The few facts in a JPEG's header that decide whether its bytes can be stored as they are; mending without loss."""

import functools
import re
import struct
from typing import NamedTuple

_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # TEM, RSTn, SOI: markers without a length
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOFn; the three others are tables
_HUFFMAN_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive
_ARITHMETIC_FRAMES = frozenset({0xC9, 0xCA})  # sequential, progressive
_PROGRESSIVE_FRAMES = frozenset({0xC2, 0xCA})
_ORIENTATION = 0x0112  # EXIF tag
# EXIF types of whole numbers, as struct has them; of a single byte (1) Pillow makes text, and turns nothing.
_ORIENTATION_TYPES = {3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_ODD_FACTOR = 3  # in zigzag order, encoders' tables rise and fall by less than this
_START_OF_SCAN = b"\xff\xda"
_END_OF_IMAGE = b"\xff\xd9"
_END_OF_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # the first marker that is neither a stuffed 0xFF nor RSTn


class JpegHeader(NamedTuple):
    """A JPEG's frame and what stands before its first scan.

    Attributes:
      width, height: size in pixels, before any rotation.
      frame: the second byte of the SOFn marker, e.g. 0xC0 for baseline.
      precision: bits a sample.
      components: 1 grey, 3 colour, 4 CMYK or YCCK.
      orientation: by EXIF, else by XMP; 1 (upright) where they do not say, or say anything but 1 to 8.
      has_adobe: whether there is an Adobe segment: inks are stored inverted then.
      has_odd_tables: whether a quantisation table has an entry that stands out, as a damaged one does.
      frame_offset: where the frame's segment begins.
      ends_with_image: whether the last bytes are the end of an image, and no further pictures are announced.
    """

    width: int
    height: int
    frame: int
    precision: int
    components: int
    orientation: int
    has_adobe: bool
    has_odd_tables: bool
    frame_offset: int
    ends_with_image: bool

    @property
    def is_supported(self) -> bool:
        """8-bit grey, colour or four inks, Huffman or arithmetic coding: what decoders agree on."""
        known = self.frame in _HUFFMAN_FRAMES or self.frame in _ARITHMETIC_FRAMES
        return known and self.precision == 8 and self.components in (1, 3, 4)

    @property
    def is_common(self) -> bool:
        """8-bit Huffman-coded grey or colour: what every decoder reads."""
        return self.frame in _HUFFMAN_FRAMES and self.precision == 8 and self.components in (1, 3)


def parse(data: bytes) -> JpegHeader | None:
    """Reads the markers before the image data; None where the bytes are no JPEG or the header is broken."""
    if data[:3] != b"\xff\xd8\xff":
        return None
    exif = xmp = None
    has_adobe = has_more = is_odd = False
    position = 2
    try:
        while True:
            if data[position] != 0xFF:
                return None
            marker = data[position + 1]
            position += 1 if marker == 0xFF else 2  # 0xFF may be repeated as filling
            if marker == 0xFF or marker in _STANDALONE:
                continue
            (length,) = struct.unpack_from(">H", data, position)
            if marker == 0xDB:
                is_odd = _stands_out(data[position + 2 : position + length]) or is_odd
            elif marker == 0xE1:
                exif = _orientation(data, position, length) if exif is None else exif
                xmp = _xmp_orientation(data, position, length) if xmp is None else xmp
            elif marker == 0xE2:
                has_more = has_more or data[position + 2 : position + 6] == b"MPF\0"  # further pictures behind this one
            elif marker == 0xEE:
                has_adobe = has_adobe or data[position + 2 : position + 7] == b"Adobe"
            elif marker in _FRAMES:
                precision, height, width, components = struct.unpack_from(">BHHB", data, position + 2)
                orientation = (exif if exif is not None else xmp) or 1
                whole = not has_more and data.endswith(_END_OF_IMAGE)
                upright = orientation if 1 <= orientation <= 8 else 1
                return JpegHeader(
                    width, height, marker, precision, components, upright, has_adobe, is_odd, position - 2, whole
                )
            elif marker in (0xD9, 0xDA):  # end, or image data, before any frame
                return None
            position += length
    except (IndexError, struct.error):
        return None


def _orientation(data: bytes, position: int, length: int) -> int | None:
    """The orientation in an APP1 segment's EXIF block; None where it has none."""
    if data[position + 2 : position + 8] != b"Exif\0\0":
        return None
    tiff = data[position + 8 : position + length]
    try:
        order = {b"II": "<", b"MM": ">"}[tiff[:2]]
        (offset,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, offset)
        for entry in range(offset + 2, offset + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", tiff, entry)
            if tag == _ORIENTATION and kind in _ORIENTATION_TYPES:
                return struct.unpack_from(order + _ORIENTATION_TYPES[kind], tiff, entry + 8)[0]
    except (KeyError, struct.error):
        pass
    return None


@functools.lru_cache(maxsize=4096)
def _stands_out(tables: bytes) -> bool:
    """Whether a DQT segment has 16-bit tables, or an entry many times its neighbours in zigzag order."""
    starts = range(0, len(tables), 65)
    if len(tables) % 65 or any(tables[start] > 3 for start in starts):
        return True
    for start in starts:
        entries = tables[start + 1 : start + 65]
        around = [entries[1:3]] + [entries[max(i - 2, 0) : i] + entries[i + 1 : i + 3] for i in range(1, len(entries))]
        if any(entry > _ODD_FACTOR * max(near, default=0) for entry, near in zip(entries, around, strict=True)):
            return True
    return False


def _xmp_orientation(data: bytes, position: int, length: int) -> int | None:
    """The orientation in an APP1 segment's XMP packet; None where it has none."""
    if not data.startswith(b"http://ns.adobe.com/xap/1.0/\0", position + 2):
        return None
    found = _XMP_ORIENTATION.search(data, position, position + length)
    return int(found[1]) if found else None


def count_scans(data: bytes, header: JpegHeader) -> int:
    """How many scans there are; the start of one cannot occur inside another's data."""
    first = data.find(_START_OF_SCAN, header.frame_offset)
    if header.frame not in _PROGRESSIVE_FRAMES and data[first + 4 : first + 5] == bytes([header.components]):
        return 1  # the usual file: all components in one scan
    return data.count(_START_OF_SCAN, header.frame_offset)


def mend(data: bytes, num_padding: int = 0) -> bytes:
    """Takes out what libjpeg skips or overrides with a warning, without touching the picture.

    That is: bytes between segments that belong to none; a JFIF version that nobody has defined; the parameters of
    spectral selection in a sequential scan, which has none; what follows the end of the image; and padding before it.

    Args:
      data: a JPEG.
      num_padding: bytes before the end of the image that no decoder reads, by libjpeg's count. They are taken out
        only if they are all alike: a decoder that lost its place leaves others.

    Returns:
      The mended JPEG; `data` itself where there is nothing to mend, or no way to.
    """
    parts, position, frame = [data[:2]], 2, 0
    while True:
        position = data.find(b"\xff", position)
        if position < 0:
            return data
        while data.startswith(b"\xff", position + 1):
            position += 1
        if position == len(data) - 1 or data[position + 1] == 0xD8:  # the file ends, or begins anew
            return data
        marker = data[position + 1]
        if marker == 0xD9:
            break
        if marker == 0 or marker in _STANDALONE:  # a marker without a length; or none at all, among stray bytes
            position += 2
            continue
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        frame = marker if marker in _FRAMES else frame
        parts.append(_mend_segment(data[position:end], marker, frame))
        if marker == 0xDA:
            found = _END_OF_SCAN.search(data, end)
            if found is None:
                return data
            parts.append(data[end : found.start()])
            end = found.start()
        position = end
    if num_padding and len(set(parts[-1][-num_padding:])) == 1:
        parts[-1] = parts[-1][:-num_padding]
    mended = b"".join([*parts, _END_OF_IMAGE])
    return data if mended == data else mended


def _mend_segment(segment: bytes, marker: int, frame: int) -> bytes:
    if marker == 0xE0 and segment[4:9] == b"JFIF\0" and len(segment) > 10 and segment[9] not in (1, 2):
        return segment[:9] + b"\x01\x02" + segment[11:]
    if marker == 0xDA and frame not in _PROGRESSIVE_FRAMES:
        return segment[:-3] + b"\0\x3f\0"
    return segment
