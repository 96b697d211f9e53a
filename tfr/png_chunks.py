"""The chunks of a PNG file: what decides whether it can be stored as it is, and the file without the rest."""

import struct
import zlib
from typing import NamedTuple

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB = 0, 2  # colour types
# What the picture depends on. Dropping the rest leaves out compressed texts, which can be bombs, and an animation's
# further frames.
_NEEDED = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf", b"sRGB"})
_XMP = b"XML:com.adobe.xmp\0\0"  # may hold an orientation; the second zero: not compressed
_MAX_PROFILE_BYTES = 1 << 20
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
# Adam7, the passes of interlacing: first column and row, then the steps between columns and rows.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_EXTRA = frozenset({b"tRNS", b"acTL", b"fcTL", b"fdAT"})  # transparency, animation


class Png(NamedTuple):
    """A PNG file.

    Attributes:
      width, height: size in pixels, before any rotation.
      bits: of a pixel, as they are packed; 0 where the header makes no sense.
      is_interlaced: whether its rows come in passes.
      is_plain: whether it is one 8-bit grey or RGB picture without interlacing or transparency, with no chunk out of
        place and every checksum right, so that its bytes can be stored once its pixels are seen to be sound.
      parts: the chunks that the picture depends on, the signature first.
    """

    width: int
    height: int
    bits: int
    is_interlaced: bool
    is_plain: bool
    parts: list[bytes]

    @property
    def core(self) -> bytes:
        """The file with nothing but what the picture depends on."""
        return b"".join(self.parts)


def parse(data: bytes) -> Png | None:
    """Reads the chunks; None where the bytes are no PNG or have no header. A file may end early: `core` does, too."""
    if not data.startswith(_SIGNATURE) or data[12:16] != b"IHDR" or len(data) < 33:
        return None
    width, height, depth, color = struct.unpack_from(">IIBB", data, 16)
    parts, kinds, is_sound, position = [_SIGNATURE], [b""], True, len(_SIGNATURE)
    while position < len(data) and kinds[-1] != b"IEND":
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        end = position + 12 + length
        is_sound = is_sound and _checksum_is_right(data, position, end)
        if (
            kind in _NEEDED
            or (kind == b"iTXt" and data.startswith(_XMP, position + 8))
            or (kind == b"iCCP" and _unpacks_to_little(data[position + 8 : end - 4]))
        ):
            parts.append(data[position:end])
        kinds.append(kind)
        position = end
    is_plain = (
        (depth, color) in ((8, _GREY), (8, _RGB))
        and data[26:29] == bytes(3)  # the only methods of compression and filtering; and rows in order
        and all(kind.isalpha() for kind in kinds[1:])
        and is_sound
        and position == len(data)
        and not _EXTRA.intersection(kinds)
        and _critical(kinds) == [b"IHDR", b"IDAT", b"IEND"]
        and len(parts[-1]) == 12  # nothing in IEND
    )
    return Png(width, height, depth * _CHANNELS.get(color, 0), data[28] == 1, is_plain, parts)


def _critical(kinds: list[bytes]) -> list[bytes]:
    """The chunks without which there is no picture (a capital first), in order; data in one go counts once."""
    grouped = [kind for i, kind in enumerate(kinds) if kind != b"IDAT" or kinds[i - 1] != b"IDAT"]
    return [kind for kind in grouped if kind[:1].isupper() and kind != b"PLTE"]


def _unpacks_to_little(profile: bytes) -> bool:
    """Whether an iCCP chunk's content can be unpacked, and to no more than Pillow takes."""
    _, _, method_and_data = profile.partition(b"\0")
    try:
        return len(zlib.decompressobj().decompress(method_and_data[1:], _MAX_PROFILE_BYTES)) < _MAX_PROFILE_BYTES
    except zlib.error:
        return False


def holds_its_pixels_alone(png: Png) -> bool:
    """Whether the pixel data are complete, sound and followed by nothing. Unpacks them: check the size before."""
    expected = _pixel_bytes(png)
    return _unpack(png, expected) == (expected, True)


def lacks_pixels(png: Png) -> bool:
    """Whether the pixel data end early: Pillow leaves the rest of the picture black, without a word.

    Unpacks them: check the size before.
    """
    expected = _pixel_bytes(png)
    return _unpack(png, expected)[0] < expected


def _pixel_bytes(png: Png) -> int:
    """How many bytes the pixels unpack to, with one a row for its filter."""
    if not png.is_interlaced:
        return png.height * (1 + (png.width * png.bits + 7) // 8)
    total = 0
    for left, top, across, down in _PASSES:
        width, height = -(-(png.width - left) // across), -(-(png.height - top) // down)
        if width > 0 and height > 0:
            total += height * (1 + (width * png.bits + 7) // 8)
    return total


def _unpack(png: Png, enough: int) -> tuple[int, bool]:
    """How many bytes the pixel data unpack to, at least up to `enough`; and whether they end there as they should."""
    unpacker, found = zlib.decompressobj(), 0
    try:
        for part in png.parts:
            rest = part[8:-4] if part[4:8] == b"IDAT" else b""
            while rest and found <= enough:
                found += len(unpacker.decompress(rest, 1 << 20))
                rest = unpacker.unconsumed_tail
    except zlib.error:
        return found, False
    return found, unpacker.eof and not unpacker.unused_data


def _checksum_is_right(data: bytes, start: int, end: int) -> bool:
    return zlib.crc32(memoryview(data)[start + 4 : end - 4]) == int.from_bytes(data[end - 4 : end], "big")
