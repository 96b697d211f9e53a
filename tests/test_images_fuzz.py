"""Seeded mutations of image files: rejected with a reason, or the same picture in TensorFlow and in Pillow."""

import collections
import io
import random
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageOps, features

from tfr.images import REASONS, ImageOptions, ImageRejectedError, prepare_image

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")
_SIZE = (40, 28)
_EXTREMES = (b"\x00", b"\xff", b"\x7f", b"\x80")
_TOLERANCE = 4  # mean difference of values from 0 to 255
_MAX_SECS = 5.0  # far above the milliseconds that an image of this size takes


def originals(photo, encode):
    """Sound files of many kinds, by name."""
    exif = Image.Exif()
    exif[0x0112] = 6
    icc = Image.new("RGB", (1, 1)).info.get("icc_profile") or b"not a profile"
    other = photo.transpose(Image.Transpose.ROTATE_180)
    files = {
        "baseline": encode(photo), "full chroma": encode(photo, subsampling=0, quality=95),
        "progressive": encode(photo, progressive=True), "grey": encode(photo.convert("L")),
        "grey progressive": encode(photo.convert("L"), progressive=True),
        "restarts": encode(photo, restart_marker_rows=1), "optimized": encode(photo, optimize=True),
        "rotated": encode(photo, exif=exif), "CMYK": encode(photo.convert("CMYK")),
        "JPEG with extras": encode(photo, exif=exif, comment=b"comment", icc_profile=icc),
        "PNG": encode(photo, "PNG"), "grey PNG": encode(photo.convert("L"), "PNG"),
        "palette PNG": encode(photo.quantize(16), "PNG", transparency=3),
        "alpha PNG": encode(photo.convert("RGBA"), "PNG"),
        "PNG with extras": encode(photo, "PNG", exif=exif, dpi=(9, 9)),
        "bilevel PNG": encode(photo.convert("1"), "PNG"),
        "16-bit PNG": encode(Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257), "PNG"),
        "animated PNG": encode(photo, "PNG", save_all=True, append_images=[other]),
        "WebP": encode(photo, "WEBP"), "lossless WebP": encode(photo, "WEBP", lossless=True),
        "alpha WebP": encode(photo.convert("RGBA"), "WEBP", exif=exif),
        "animated WebP": encode(photo, "WEBP", save_all=True, append_images=[other]),
        "GIF": encode(photo.quantize(16), "GIF", save_all=True, append_images=[other.quantize(16)]),
        "BMP": encode(photo, "BMP"), "TIFF": encode(photo, "TIFF", compression="tiff_lzw"),
    }  # fmt: skip
    if features.check("avif"):
        files["AVIF"] = encode(photo, "AVIF")
    return files


def pieces(data):
    """(start, end) of a file's segments, chunks, or, for want of a structure, sixteenths."""
    if data.startswith(b"\x89PNG"):
        position, found = 8, []
        while position + 8 <= len(data):
            end = position + 12 + int.from_bytes(data[position : position + 4], "big")
            found.append((position, end))
            position = end
    elif data.startswith(b"\xff\xd8"):
        found, position = [], 2
        while data[position : position + 1] == b"\xff" and data[position + 1 : position + 2] != b"\xda":
            end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
            found.append((position, end))
            position = end
        found.append((position, len(data) - 2))
    elif data.startswith(b"RIFF"):
        position, found = 12, []
        while position + 8 <= len(data):
            size = int.from_bytes(data[position + 4 : position + 8], "little")
            found.append((position, position + 8 + size + size % 2))
            position = found[-1][1]
    else:
        found = []
    return found or [(i * len(data) // 16, (i + 1) * len(data) // 16) for i in range(16)]


def mend_checksums(data):
    """Gives every chunk of a PNG its right checksum, so that a mutation gets past it."""
    data = bytearray(data)
    for start, end in pieces(bytes(data)):
        if end <= len(data):
            data[end - 4 : end] = struct.pack(">I", zlib.crc32(data[start + 4 : end - 4]))
    return bytes(data)


def mutate(data, other, rng):
    """One seeded mutation of a file; `other` is one to splice with."""
    place, length = rng.randrange(len(data)), rng.choice((1, 1, 2, 4, 16))
    start, end = rng.choice(pieces(data))
    head = rng.randrange(min(len(data), 64))
    match rng.randrange(10):
        case 0:  # one bit
            return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
        case 1:
            return data[:place] + rng.randbytes(length) + data[place + length :]
        case 2:
            return data[:place] + data[place + length :]
        case 3:
            return data[:place]
        case 4:
            return data[:place] + rng.choice(_EXTREMES) * length + data[place + length :]
        case 5:  # a segment less
            return data[:start] + data[end:]
        case 6:  # a segment twice
            return data[:end] + data[start:end] + data[end:]
        case 7:  # another file from here on
            return data[:place] + other[min(place, len(other)) :]
        case 8:  # a field of the header
            return data[:head] + rng.choice((*_EXTREMES, rng.randbytes(1))) + data[head + 1 :]
        case _:  # within a segment's own header
            at = min(start + rng.randrange(14), len(data) - 1)
            return data[:at] + rng.randbytes(1) + data[at + 1 :]


def mutant(files, number):
    """The mutation with this number: (kind, bytes)."""
    rng = random.Random(number)
    kind = list(files)[number % len(files)]
    data = files[kind]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = mutate(data, rng.choice(list(files.values())), rng) or data
    if data.startswith(b"\x89PNG") and rng.random() < 0.7:
        data = mend_checksums(data)
    return kind, data


def upright_rgb(data):
    """What Pillow makes of a file: its first frame, upright, over white; float (height, width, 3)."""
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image)
        if image.mode == "CMYK" and "adobe" not in image.info:
            upright = ImageChops.invert(upright)  # TensorFlow takes only Adobe's inks for inverted, Pillow all
    if upright.mode.startswith("I"):
        return np.repeat(np.asarray(upright, dtype=np.float64)[..., None] // 257, 3, axis=-1)
    if "A" in upright.mode or "transparency" in upright.info:
        rgba = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(upright.convert("RGB"), dtype=np.float64)


def check(kind, data, options):
    """Returns the reject's reason, or 'stored', 'mended' or 'normalised' where all decoders agree on the picture."""
    import tensorflow as tf

    start = time.monotonic()
    try:
        prepared = prepare_image(data, options)
    except ImageRejectedError as err:
        return err.reason if err.reason in REASONS else pytest.fail(f"unknown reason {err.reason}")
    finally:
        assert time.monotonic() - start < _MAX_SECS
    decoded = tf.io.decode_image(prepared.data, channels=3, expand_animations=False).numpy()
    assert decoded.shape == (prepared.height, prepared.width, 3)
    if prepared.data.startswith(b"\xff\xd8"):
        assert tf.io.decode_jpeg(prepared.data).shape[:2] == decoded.shape[:2]
    try:
        expected = upright_rgb(data)
    except (OSError, SyntaxError, ValueError):  # Pillow gives up on what does not touch the picture
        return "mended"
    assert decoded.shape == expected.shape
    if np.abs(decoded - expected).mean() >= _TOLERANCE:
        exact = tf.io.decode_jpeg(prepared.data, channels=3, dct_method="INTEGER_ACCURATE").numpy()
        difference = np.abs(exact - expected).mean()
        assert difference < _TOLERANCE, f"{kind}: mean difference {difference}"
        return "differs by the fast DCT"
    if prepared.stored_as_is:
        assert prepared.data == data
        return "stored"
    return "mended" if data.startswith(b"\xff\xd8") and len(prepared.data) <= len(data) else "normalised"


def run(files, numbers, options):
    """Counts outcomes; a failure names the mutations' numbers."""
    outcomes, failed = collections.Counter(), []
    for number in numbers:
        kind, data = mutant(files, number)
        try:
            outcomes[check(kind, data, options)] += 1
        except Exception as err:  # whatever it is, it is a finding
            failed.append(f"mutation {number} of {kind}: {type(err).__name__}: {err}")
    assert not failed, failed[:20]
    # Damaged Huffman data can hold coefficients that no encoder writes; TensorFlow's default inverse DCT, a fast one,
    # overflows on them where its exact one agrees with Pillow's.
    assert outcomes["differs by the fast DCT"] < 0.02 * (outcomes["stored"] + outcomes["normalised"])
    return outcomes


@pytest.mark.parametrize("keep_png", [False, True])
def test_mutated_files_are_rejected_or_the_same_picture_everywhere(make_photo, encode, keep_png):
    files = originals(make_photo(10, _SIZE), encode)
    outcomes = run(files, range(2500), ImageOptions(max_pixels=10**6, keep_png=keep_png))
    assert outcomes["stored"] > 100
    assert outcomes["normalised"] > 100
    assert sum(outcomes[reason] for reason in REASONS) > 500


@pytest.mark.slow
@pytest.mark.parametrize("keep_png", [False, True])
def test_tens_of_thousands_of_mutated_files(make_photo, encode, keep_png):
    files = originals(make_photo(11, _SIZE), encode)
    outcomes = run(files, range(10_000, 50_000), ImageOptions(max_pixels=10**6, keep_png=keep_png))
    print(dict(outcomes))
    assert sum(outcomes.values()) == 40_000
