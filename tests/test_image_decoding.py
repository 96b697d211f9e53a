import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from tfr import image_decoding, png_chunks, splits
from tfr.errors import UsageError
from tfr.images import ImageOptions, ImageRejectedError, prepare_image

_T = Image.Transpose
# What a camera did to an upright picture before it wrote each EXIF orientation.
_CAMERA = {
    1: None, 2: _T.FLIP_LEFT_RIGHT, 3: _T.ROTATE_180, 4: _T.FLIP_TOP_BOTTOM, 5: _T.TRANSPOSE, 6: _T.ROTATE_90,
    7: _T.TRANSVERSE, 8: _T.ROTATE_270,
}  # fmt: skip
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")


def pixels(image):
    return np.asarray(image.convert("RGB"), dtype=np.float64)


def decoded(data, **options):
    """(the prepared image, its pixels by Pillow)."""
    prepared = prepare_image(data, ImageOptions(**options))
    with Image.open(io.BytesIO(prepared.data)) as image:
        assert image.size == (prepared.width, prepared.height)
        return prepared, pixels(image)


def exif(orientation):
    block = Image.Exif()
    block[0x0112] = orientation
    return block


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        pytest.param("AVIF", {"quality": 95}, marks=needs_avif),
    ],
)
def test_every_orientation_of_every_format_comes_out_upright(make_photo, encode, format, options, orientation):
    photo = make_photo(21, (60, 40))
    turned = photo if orientation == 1 else photo.transpose(_CAMERA[orientation])
    _, found = decoded(encode(turned, format, exif=exif(orientation), **options))
    assert found.shape == (40, 60, 3)
    assert np.abs(found - pixels(photo)).mean() < 3


def adobe_segment(transform):
    return b"\xff\xee" + struct.pack(">H", 14) + b"Adobe" + struct.pack(">HHHB", 100, 0, 0, transform)


def ycck(photo):
    """A YCCK JPEG as Adobe's programs write it: inks inverted, and 255 minus the first three of these in YCbCr."""
    cyan, magenta, yellow, black = photo.convert("CMYK").split()
    black = black.point(lambda value: 255 - value)
    luma, blue, red = Image.merge("RGB", (cyan, magenta, yellow)).convert("YCbCr").split()
    # Pillow writes four planes as CMYK, and inverts them once more.
    planes = Image.merge("CMYK", (luma, blue, red, black)).point(lambda value: 255 - value)
    buffer = io.BytesIO()
    planes.save(buffer, "JPEG", quality=98, subsampling=0)
    data = buffer.getvalue()
    place = data.index(b"Adobe") - 4
    return data[:place] + adobe_segment(2) + data[place + 16 :]


# Inks (0 none, 255 full) and the colour on paper: red, green and blue are (255 - ink) (255 - black) / 255.
INKS = {
    (0, 0, 0, 0): (255, 255, 255),
    (0, 0, 0, 255): (0, 0, 0),
    (255, 0, 0, 0): (0, 255, 255),
    (0, 255, 0, 0): (255, 0, 255),
    (0, 255, 255, 0): (255, 0, 0),
    (100, 50, 0, 100): (94, 125, 155),
}


@pytest.mark.parametrize("inks", INKS)
@pytest.mark.parametrize("has_adobe", [True, False])
def test_inks_have_their_colors_with_and_without_adobe_s_inversion(encode, inks, has_adobe):
    import tensorflow as tf

    image = Image.new("CMYK", (32, 32), inks)
    if has_adobe:
        data = encode(image, quality=98)
    else:  # Pillow always inverts; without the segment, nothing says so
        data = encode(image.point(lambda value: 255 - value), quality=98)
        place = data.index(b"Adobe") - 4
        data = data[:place] + data[place + 16 :]
    _, found = decoded(data)
    assert np.abs(found - INKS[inks]).max() <= 3
    assert np.abs(tf.io.decode_jpeg(data, channels=3).numpy() - found).max() <= 3


def test_ycck_is_read_as_pillow_reads_it(make_photo):
    photo = make_photo(22)
    data = ycck(photo)
    with Image.open(io.BytesIO(data)) as image:
        assert image.info["adobe_transform"] == 2
        expected = pixels(image)
    _, found = decoded(data)
    assert np.abs(found - expected).mean() < 2
    assert np.abs(found - pixels(photo)).mean() < 5


def test_hard_edges_survive_encoding(encode):
    noise = np.random.default_rng(0).integers(0, 2, (64, 64, 3), dtype=np.uint8) * 255
    _, found = decoded(encode(Image.fromarray(noise), "PNG"))
    assert np.abs(found - noise).mean() < 6


@needs_avif
def test_avif_is_read(make_photo, encode):
    prepared, found = decoded(encode(make_photo(23), "AVIF", quality=95))
    assert not prepared.stored_as_is
    assert np.abs(found - pixels(make_photo(23))).mean() < 6


def heic(photo):
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(photo).save(buffer, quality=95)
    return buffer.getvalue()


def test_heic_is_read_where_its_package_is_there(make_photo):
    _, found = decoded(heic(make_photo(24, (64, 64))))
    assert np.abs(found - pixels(make_photo(24, (64, 64)))).mean() < 6


def test_heic_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    image_decoding._register_heif.cache_clear()
    with pytest.raises(ImageRejectedError, match=r"unsupported: .*pip install 'tfr\[heif\]'"):
        prepare_image(b"\0\0\0\x18ftypheic" + bytes(100), ImageOptions())


# Colour profiles


def gamma_profile(gamma):
    """An RGB profile with sRGB's primaries and another tone curve, put together by hand."""

    def curve(value):
        return b"curv" + struct.pack(">IIH", 0, 1, round(value * 256)) + bytes(2)

    def xyz(*values):
        return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))

    tags = {
        b"desc": b"desc" + struct.pack(">II", 0, 5) + b"test\0" + bytes(78 + 3),
        b"wtpt": xyz(0.9642, 1.0, 0.8249), b"rXYZ": xyz(0.4361, 0.2225, 0.0139), b"gXYZ": xyz(0.3851, 0.7169, 0.0971),
        b"bXYZ": xyz(0.1431, 0.0606, 0.7141), b"rTRC": curve(gamma), b"gTRC": curve(gamma), b"bTRC": curve(gamma),
        b"cprt": b"text" + bytes(4) + b"none" + bytes(4),
    }  # fmt: skip
    offset, table, body = 132 + 12 * len(tags), b"", b""
    for name, value in tags.items():
        table += name + struct.pack(">II", offset + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    size = offset + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"\0\0\0\0", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_profile_s_colors_become_srgb_when_asked_for(make_photo, encode, format):
    photo, profile = make_photo(25), gamma_profile(1.0)
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(format, {})
    data = encode(photo, format, icc_profile=profile, **options)
    _, ignored = decoded(data)
    assert np.abs(ignored - pixels(photo)).mean() < 3
    prepared, found = decoded(data, icc_to_srgb=True, keep_png=True)
    assert not prepared.stored_as_is
    linear = pixels(photo) / 255
    expected = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(found - expected).mean() < 3
    assert np.abs(found - pixels(photo)).mean() > 20


@pytest.mark.parametrize(
    "profile", [ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), b"broken", None]
)
def test_without_a_foreign_profile_the_bytes_stay(make_photo, encode, profile):
    data = encode(make_photo(26), icc_profile=profile)
    prepared, _ = decoded(data, icc_to_srgb=True)
    assert prepared.stored_as_is
    assert prepared.data == data


def test_transparency_and_profile_go_together(make_photo, encode):
    photo = make_photo(27).convert("RGBA")
    photo.putalpha(0)
    _, found = decoded(encode(photo, "PNG", icc_profile=gamma_profile(1.0)), icc_to_srgb=True)
    assert (found > 252).all()


# PNGs that are kept


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(data, kind, payload):
    """Puts a chunk behind the header."""
    return data[:33] + chunk(kind, payload) + data[33:]


def interlaced(photo):
    """Adam7, which Pillow reads but does not write."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    parts = (np.asarray(photo)[y::dy, x::dx] for x, y, dx, dy in passes)
    raw = b"".join(b"\0" + row.tobytes() for part in parts for row in part if part.size)
    header = struct.pack(">IIBBBBB", *photo.size, 8, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


KEPT = {
    "RGB": lambda p, encode: encode(p, "PNG"),
    "grey": lambda p, encode: encode(p.convert("L"), "PNG"),
    "orientation 1": lambda p, encode: encode(p, "PNG", exif=exif(1)),
    "text": lambda p, encode: with_chunk(encode(p, "PNG"), b"tEXt", b"Title\0picture"),
    "profile": lambda p, encode: encode(p, "PNG", icc_profile=gamma_profile(1.0)),
}
NOT_KEPT = {
    "palette": lambda p, encode: encode(p.quantize(16), "PNG"),
    "alpha": lambda p, encode: encode(p.convert("RGBA"), "PNG"),
    "transparent colour": lambda p, encode: encode(p, "PNG", transparency=(1, 2, 3)),
    "16 bits": lambda p, encode: encode(Image.fromarray(np.asarray(p.convert("L")).astype(np.uint16)), "PNG"),
    "rotated": lambda p, encode: encode(p, "PNG", exif=exif(3)),
    "animation": lambda p, encode: encode(p, "PNG", save_all=True, append_images=[p.rotate(180)]),
    "trailing bytes": lambda p, encode: encode(p, "PNG") + b"more",
    "wrong checksum of a text": lambda p, encode: with_chunk(encode(p, "PNG"), b"tEXt", b"a\0b").replace(
        b"a\0b", b"a\0c"
    ),
    "interlaced": lambda p, _: interlaced(p),
    "unknown critical chunk": lambda p, encode: with_chunk(encode(p, "PNG"), b"ABCD", b""),
}


@pytest.mark.parametrize("kind", KEPT)
def test_sound_pngs_are_kept_when_asked_for(make_photo, encode, kind):
    import tensorflow as tf

    data = KEPT[kind](make_photo(28), encode)
    kept, _ = decoded(data, keep_png=True)
    assert kept.stored_as_is
    assert kept.data == data
    other, _ = decoded(data)
    assert other.data.startswith(b"\xff\xd8")
    assert ((kept.fingerprint ^ other.fingerprint) & (2**64 - 1)).bit_count() <= 2
    assert np.array_equal(tf.io.decode_image(data, channels=3).numpy(), pixels(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("kind", NOT_KEPT)
def test_other_pngs_become_jpegs(make_photo, encode, kind):
    prepared, _ = decoded(NOT_KEPT[kind](make_photo(29), encode), keep_png=True)
    assert not prepared.stored_as_is
    assert prepared.data.startswith(b"\xff\xd8")


def test_a_png_above_the_image_size_is_not_kept(make_photo, encode):
    prepared, _ = decoded(encode(make_photo(30), "PNG"), keep_png=True, image_size=16)
    assert (prepared.height, prepared.data[:2]) == (16, b"\xff\xd8")


@pytest.mark.parametrize("share", [0.3, 0.9, 0.99])
def test_a_broken_png_is_rejected_and_not_kept(make_photo, encode, share):
    data = encode(make_photo(31), "PNG")
    with pytest.raises(ImageRejectedError, match=r"truncated|decode_error"):
        prepare_image(data[: int(len(data) * share)], ImageOptions(keep_png=True))


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"iTXt"])
def test_compressed_texts_are_not_unpacked(make_photo, encode, kind):
    bomb = zlib.compress(bytes(300 << 20), 9)
    payload = {b"zTXt": b"a\0\0", b"iCCP": b"a\0\0", b"iTXt": b"a\0\1\0\0\0"}[kind] + bomb
    data = with_chunk(encode(make_photo(32), "PNG"), kind, payload)
    _, found = decoded(data)
    assert np.abs(found - pixels(make_photo(32))).mean() < 3


def test_only_the_first_frame_is_read(make_photo, encode):
    photo = make_photo(33)
    frames = [photo.transpose(_T.ROTATE_180)] * 3
    data = encode(photo, "PNG", save_all=True, append_images=frames)
    png = png_chunks.parse(data)
    assert b"fdAT" in data
    assert b"fdAT" not in png.core
    broken = data[: data.index(b"fdAT") + 30] + bytes(200)  # no later frame can be read
    _, found = decoded(broken)
    assert np.abs(found - pixels(photo)).mean() < 3


def test_no_more_pixels_can_be_allowed_than_tensorflow_decodes():
    assert ImageOptions(max_pixels=178_956_970).max_pixels == 178_956_970
    with pytest.raises(UsageError, match=r"--max_pixels must be from 1 to 178956970 .*TensorFlow"):
        ImageOptions(max_pixels=178_956_971)


def test_kept_pngs_are_in_a_dataset_that_tfds_decodes(tmp_path, make_photo, encode):
    import tensorflow_datasets as tfds

    import tfr
    from tfr import verification

    folder = tmp_path / "images"
    for label, name, data in (
        ("a", "photo.jpg", encode(make_photo(1))),
        ("a", "drawing.jpg", encode(make_photo(2), "PNG")),  # by its name a JPEG
        ("b", "alpha.png", encode(make_photo(3).convert("RGBA"), "PNG")),
    ):
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / name).write_bytes(data)
    result = tfr.convert(
        str(folder), data_dir=str(tmp_path), name="mixed", keep_png=True, split_ratios=splits.parse_ratios("train=1")
    )
    assert (result.records_written, result.num_stored_as_is) == (3, 2)
    assert verification.verify(result.dataset_dir).num_problems == 0
    builder = tfds.builder_from_directory(result.dataset_dir)
    assert builder.info.features["image"].encoding_format is None
    found = {example["id"].decode(): example["image"] for example in tfds.as_numpy(builder.as_dataset(split="train"))}
    assert np.array_equal(found["a/drawing.jpg"], pixels(make_photo(2)))
    assert {image.shape for image in found.values()} == {(32, 48, 3)}
