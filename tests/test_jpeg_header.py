import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from tfr import images, jpeg_header

_START, _END = b"\xff\xd8", b"\xff\xd9"


def segment(marker, payload):
    return bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload


def frame(marker=0xC0, precision=8, height=32, width=48, components=3):
    return segment(marker, struct.pack(">BHHB", precision, height, width, components) + bytes(3 * components))


def exif(orientation, order=">", kind=3, tag=0x0112):
    entry = struct.pack(order + "HHIHH", tag, kind, 1, orientation, 0)
    header = {">": b"MM", "<": b"II"}[order] + struct.pack(order + "HI", 42, 8)
    return segment(0xE1, b"Exif\0\0" + header + struct.pack(order + "H", 1) + entry + bytes(4))


def xmp(orientation):
    return segment(0xE1, b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="%d"/>' % orientation)


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
        (exif(1) + exif(6) + frame(), True, True),  # the first counts
        (xmp(8) + frame(), True, False),
        (xmp(6) + exif(1) + frame(), True, True),  # EXIF counts before XMP
        (xmp(0) + frame(), True, True),
        (exif(6, tag=0x0100) + frame(), True, True),
        (segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0") + frame(), True, True),
        (segment(0xE1, b"Exif\0\0") + frame(), True, True),
        (segment(0xE1, b"Exif\0\0XX\0\0") + frame(), True, True),
        (segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff") + frame(), True, True),
    ],
)
def test_headers(segments, is_common, is_upright):
    header = jpeg_header.parse(_START + segments + _END)
    assert (header.width, header.height, header.is_common) == (48, 32, is_common)
    assert (header.orientation == 1) == is_upright
    assert header.ends_with_image


@pytest.mark.parametrize(
    ("segments", "is_supported"),
    [
        (frame(0xC9), True),
        (frame(0xCA, components=1), True),
        (frame(components=4), True),
        (frame(0xC3), False),
        (frame(components=2), False),
        (frame(precision=12), False),
    ],
)
def test_what_decoders_agree_on(segments, is_supported):
    assert jpeg_header.parse(_START + segments + _END).is_supported == is_supported


def test_further_pictures_and_inks_are_seen():
    header = jpeg_header.parse(_START + segment(0xE2, b"MPF\0") + segment(0xEE, b"Adobe") + frame() + _END)
    assert header.has_adobe
    assert not header.ends_with_image
    assert not jpeg_header.parse(_START + frame() + _END).has_adobe


@pytest.mark.parametrize("quality", [1, 10, 50, 75, 90, 95, 100])
def test_the_tables_of_encoders_do_not_stand_out_and_a_damaged_one_does(make_photo, encode, quality):
    data = encode(make_photo(), quality=quality)
    assert not jpeg_header.parse(data).has_odd_tables
    place = data.index(b"\xff\xdb") + 15
    damaged = data[:place] + bytes([min(255, data[place] * 13)]) + data[place + 1 :]
    assert jpeg_header.parse(damaged).has_odd_tables == (quality > 10)  # at the lowest, all entries are 255


# What is done to a sound JPEG that changes no pixel, though libjpeg warns, and is undone by mending.
HARMLESS = {
    "bytes after the start": lambda data: data[:2] + b"stray" + data[2:],
    "bytes before the tables": lambda data: data.replace(b"\xff\xdb", b"stray\xff\xdb", 1),
    "bytes before the scan": lambda data: data.replace(b"\xff\xda", b"stray\xff\xda", 1),
    "padding before the end": lambda data: data[:-2] + bytes(300) + data[-2:],
    "bytes after the end": lambda data: data + b"stray \xff\xd8 and more",
    "all of it": lambda data: data[:2] + b"stray" + data[2:-2] + bytes(300) + data[-2:] + b"more",
    "an unknown version of JFIF": lambda data: data.replace(b"JFIF\0\x01", b"JFIF\0\x07"),
    "spectral selection in a sequential scan": lambda data: data.replace(b"\0\x3f\0", b"\0\x07\0", 1),
}


@pytest.mark.parametrize("harm", HARMLESS)
@pytest.mark.parametrize("options", [{}, {"restart_marker_rows": 1}, {"subsampling": 0, "quality": 95}])
def test_what_changes_no_pixel_is_mended_without_loss(make_photo, encode, harm, options):
    import tensorflow as tf

    sound = encode(make_photo(2, (160, 120)), **options)
    harmed = HARMLESS[harm](sound)
    prepared = images.prepare_image(harmed, images.ImageOptions())
    assert harmed != sound
    assert not prepared.stored_as_is
    expected = tf.io.decode_image(sound).numpy()
    assert np.array_equal(tf.io.decode_image(prepared.data).numpy(), expected)
    if harmed.startswith(b"\xff\xd8\xff"):  # TensorFlow takes others for no image
        assert np.array_equal(tf.io.decode_image(harmed).numpy(), expected)
    assert images.prepare_image(prepared.data, images.ImageOptions()).stored_as_is


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_a_sound_file_is_not_mended(make_photo, encode, options):
    data = encode(make_photo(), **options)
    assert jpeg_header.mend(data) is data


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"\xff\xd8", b"\xff\xd8" * 3, b"no JPEG", b"\xff\xd8\xff\xff\xff", b"\xff\xd8\xff\xe0"]
)
def test_what_has_no_end_is_left_alone(data):
    assert jpeg_header.mend(data) is data


def test_scans_are_counted(make_photo, encode):
    for options, scans in (({}, 1), ({"progressive": True}, 10)):
        data = encode(make_photo(), **options)
        assert jpeg_header.count_scans(data, jpeg_header.parse(data)) == scans


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
    assert not jpeg_header.parse(_START + frame() + _END + b"more").ends_with_image


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("kind", "format_"), [(1, "B"), (2, "c"), (3, "H"), (4, "I"), (6, "b"), (7, "B"), (8, "h"), (9, "i")]
)
def test_agrees_with_pillow_on_types_of_exif(make_photo, encode, order, kind, format_):
    """What Pillow turns is turned here, and nothing else: some images go one way and some the other."""
    value = struct.pack(order + format_, b"6" if kind == 2 else 6).ljust(4, b"\0")
    tiff = (
        {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IHHHI", 8, 1, 0x0112, kind, 1) + value + bytes(4)
    )
    photo = encode(make_photo())
    data = photo[:2] + segment(0xE1, b"Exif\0\0" + tiff) + photo[2:]
    with Image.open(io.BytesIO(data)) as image:
        turned = ImageOps.exif_transpose(image)
    assert (jpeg_header.parse(data).orientation == 6) == (turned.size != image.size)
    prepared = images.prepare_image(data, images.ImageOptions())
    decoded = images.decode_image(data, images.ImageOptions())
    assert (prepared.width, prepared.height) == (decoded.width, decoded.height) == turned.size


@pytest.mark.parametrize("orientation", range(1, 9))
def test_agrees_with_pillow(make_photo, encode, orientation):
    block = Image.Exif()
    block[0x0112] = orientation
    data = encode(make_photo(), exif=block.tobytes())
    header = jpeg_header.parse(data)
    with Image.open(io.BytesIO(data)) as image:
        assert (header.width, header.height) == image.size
        assert header.orientation == image.getexif()[0x0112] == orientation
