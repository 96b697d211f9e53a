import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tfr import images
from tfr.errors import UsageError
from tfr.images import ImageOptions, ImageRejectedError, prepare_image

# Pillow warns of broken EXIF blocks and goes on.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")

_T = Image.Transpose
# What a camera did to an upright picture before it wrote each EXIF orientation.
_CAMERA = {
    1: None, 2: _T.FLIP_LEFT_RIGHT, 3: _T.ROTATE_180, 4: _T.FLIP_TOP_BOTTOM, 5: _T.TRANSPOSE, 6: _T.ROTATE_90,
    7: _T.TRANSVERSE, 8: _T.ROTATE_270,
}  # fmt: skip
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


def rgb(image):
    """An image, or grey or RGB pixels, as an RGB array of floats."""
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image.astype(np.uint8))
    return np.asarray(image.convert("RGB"), dtype=np.float64)


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


# Fingerprints


def bits_apart(one, other):
    return ((one ^ other) & (2**64 - 1)).bit_count()


def fingerprint_of(data, **options):
    return prepare_image(data, ImageOptions(**options)).fingerprint


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.tile(np.arange(0, 90, 10, dtype=np.uint8), (8, 1)), -1),
        (np.tile(np.arange(90, 0, -10, dtype=np.uint8), (8, 1)), 0),
        (np.full((20, 20), 7, np.uint8), 0),
        (np.array([[0, 1] + [0] * 7] + [[0] * 9] * 7, np.uint8), -(2**63)),
    ],
)
def test_fingerprint_is_the_difference_hash(pixels, expected):
    assert images.fingerprint(pixels) == expected


@pytest.mark.parametrize(("format", "options"), [("JPEG", {}), ("PNG", {}), ("WEBP", {}), ("PNG", {"image_size": 20})])
def test_fingerprint_can_be_computed_again_from_what_is_stored(format, options, make_photo, encode):
    once = prepare_image(encode(make_photo(3), format), ImageOptions(**options))
    again = prepare_image(once.data, ImageOptions(**options))
    assert (again.fingerprint, again.data, again.stored_as_is) == (once.fingerprint, once.data, True)


def test_fingerprint_survives_encoding_anew_and_tells_images_apart(make_photo):
    prints = []
    for seed in range(20):
        photo = make_photo(seed, (160, 120))
        versions = [
            fingerprint_of(encode(photo, quality=95)),
            fingerprint_of(encode(photo, quality=40)),
            fingerprint_of(encode(photo, progressive=True, quality=70)),
            fingerprint_of(encode(photo, "PNG")),
            fingerprint_of(encode(photo, "WEBP")),
            fingerprint_of(encode(photo), image_size=60),
            fingerprint_of(encode(photo.resize((320, 240)))),
        ]
        assert max(bits_apart(versions[0], version) for version in versions) <= 6
        prints.append(versions[0])
    assert min(bits_apart(one, other) for one, other in itertools.combinations(prints, 2)) > 12
