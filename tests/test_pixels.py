"""Loose images to the model's input: the very pixels of training and evaluation, upright, and what is refused."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import ExifTags, Image, ImageOps

from tfr import images
from tfr.images import ImageOptions, ImageRejectedError
from tfr.train import preprocessing as pp
from tfr.train.pixels import PixelReader

SIZES = [
    (32, 32),
    (63, 65),
    (64, 128),
    (300, 430),
    (113, 129),
    (1000, 257),
    (512, 448),
    (449, 897),
    (20, 700),
    (448, 7),
]


@pytest.mark.parametrize("mode", ["squash", "crop", "pad"])
def test_jpegs_give_the_pixels_of_evaluation(mode, make_photo, encode):
    """Bit for bit, at every scale that libjpeg decodes at, whatever the sampling of colours.

    But where a side is odd at its scale: TensorFlow then cuts the last column off before it interpolates colours.
    """
    reader, evaluation = PixelReader(64, mode), tf.function(pp.get_image(64, mode))
    scales = set()
    for number, size in enumerate(SIZES):
        data = encode(make_photo(number, size), subsampling=number % 3, progressive=number % 2 == 1)
        expected = evaluation({"image": tf.constant(data)})["image"].numpy()
        scale = pp.plan_decoding(size[1], size[0], 64, mode).scale
        tolerance = 0 if size[0] % scale == size[1] % scale == 0 else 3
        np.testing.assert_allclose(reader.read(data).astype(int), expected, rtol=0, atol=tolerance, err_msg=f"{size}")
        scales.add(scale)
    assert len(scales) >= 3


def test_grey_jpegs_too(make_photo, encode):
    data = encode(make_photo(3, (200, 140)).convert("L"))
    expected = pp.get_image(64, "squash")({"image": tf.constant(data)})["image"].numpy()
    np.testing.assert_array_equal(PixelReader(64, "squash").read(data), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpegs_are_turned_as_exif_says(orientation, make_photo, encode):
    photo = make_photo(1, (120, 80))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encode(photo, exif=exif, quality=90, subsampling=0)
    decoded = images.decode_image(data, ImageOptions())
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert (decoded.height, decoded.width) == upright.shape[:2]
    difference = np.abs(decoded.pixels.astype(int) - upright)  # of the fast inverse DCT from the exact one
    assert difference.mean() < 1
    assert difference.max() < 16
    stored = images.prepare_image(data, ImageOptions()).data  # what a dataset would have
    expected = pp.get_image(48, "squash")({"image": tf.constant(stored)})["image"].numpy().astype(int)
    assert np.abs(PixelReader(48, "squash").read(data) - expected).mean() < 1.5


@pytest.mark.parametrize("format", ["PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_other_formats_look_like_the_stored_jpeg(format, make_photo, encode):
    data = encode(make_photo(2, (100, 90)), format, **({"lossless": True} if format == "WEBP" else {}))
    stored = images.prepare_image(data, ImageOptions()).data
    expected = pp.get_image(64, "squash")({"image": tf.constant(stored)})["image"].numpy().astype(int)
    assert np.abs(PixelReader(64, "squash").read(data) - expected).mean() < 2.5  # a dithered GIF is rich in edges


def test_files_contents_pictures_and_arrays_are_the_same_image(make_photo, encode, tmp_path):
    photo, reader = make_photo(5, (60, 70)), PixelReader(64, "squash")
    (tmp_path / "photo.png").write_bytes(encode(photo, "PNG"))
    expected = reader.read(str(tmp_path / "photo.png"))
    for same in (tmp_path / "photo.png", encode(photo, "PNG"), photo, np.asarray(photo)):
        np.testing.assert_array_equal(reader.read(same), expected)


def test_grey_arrays_are_images_and_those_with_alpha_lie_on_white(make_photo):
    reader, grey = PixelReader(32, "squash"), np.asarray(make_photo(6, (32, 32)).convert("L"))
    np.testing.assert_array_equal(reader.read(grey), np.stack([grey] * 3, axis=-1))
    np.testing.assert_array_equal(reader.read(grey[:, :, None]), np.stack([grey] * 3, axis=-1))
    assert (reader.read(np.zeros((32, 32, 4), np.uint8)) == 255).all()


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"", "empty"),
        (b"no image", "not_an_image"),
        ("no_such_file.jpg", "missing"),
        ("/dev/null/x.jpg", "missing"),
        ("\0.jpg", "unreadable"),
        (".", "unreadable"),
        (np.zeros((4, 4, 3), np.float32), "unsupported: an array of float32"),
        (np.zeros((4, 4, 2), np.uint8), r"unsupported: an array of shape \(4, 4, 2\)"),
        (np.zeros((0, 4, 3), np.uint8), "too_small"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason(image, reason):
    with pytest.raises(ImageRejectedError, match=f"^{reason}"):
        PixelReader(32, "squash").read(image)


def test_what_the_conversion_refuses_is_refused(make_photo, encode):
    """Each cut of a JPEG is refused by both, or by neither."""
    whole = encode(make_photo(7, (96, 64)))
    for length in range(100, len(whole), 37):
        outcomes = set()
        for use in (images.prepare_image, images.decode_image):
            try:
                use(whole[:length], ImageOptions())
                outcomes.add("used")
            except ImageRejectedError as err:
                outcomes.add(err.reason)
        assert len(outcomes) == 1, (length, outcomes)
    with pytest.raises(ImageRejectedError, match="too_large"):
        images.decode_image(whole, ImageOptions(max_pixels=96 * 64 - 1))
