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
_EXTRA = frozenset({b"tRNS", b"acTL", b"fcTL", b"fdAT"})  # transparency, animation


class Png(NamedTuple):
    """A PNG file.

    Attributes:
      width, height: size in pixels, before any rotation.
      is_plain: whether it is one 8-bit grey or RGB picture without interlacing or transparency, whose every byte is
        accounted for and every checksum right, so that its bytes can be stored once its pixels are decoded.
      core: the file with nothing but what the picture depends on.
    """

    width: int
    height: int
    is_plain: bool
    core: bytes


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
        and _unpacks_to(parts, height * (1 + width * (3 if color == _RGB else 1)))
    )
    return Png(width, height, is_plain, b"".join(parts))


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


def _unpacks_to(parts: list[bytes], expected: int) -> bool:
    """Whether the pixels unpack to so many bytes: of fewer, Pillow leaves the rest of the picture black."""
    unpacker, found = zlib.decompressobj(), 0
    try:
        for part in parts:
            rest = part[8:-4] if part[4:8] == b"IDAT" else b""
            while rest and found <= expected:
                found += len(unpacker.decompress(rest, 1 << 20))
                rest = unpacker.unconsumed_tail
    except zlib.error:
        return False
    return found == expected and unpacker.eof and not unpacker.unused_data


def _checksum_is_right(data: bytes, start: int, end: int) -> bool:
    return zlib.crc32(memoryview(data)[start + 4 : end - 4]) == int.from_bytes(data[end - 4 : end], "big")
