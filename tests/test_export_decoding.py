"""Encoded images within an exported SavedModel become the pixels of an evaluation."""

import io
import types

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from tfr.train import preprocessing
from tfr.train.exporting import exif as export_exif
from tfr.train.exporting import saved_model

ORIENTATION = 0x0112


def decoder(size=24, resize="squash"):
    return saved_model.get_decode(types.SimpleNamespace(image_size=size, resize=resize))


@pytest.mark.parametrize("endian", ["<", ">"])
def test_photographs_are_turned_upright_by_their_exif_header(make_photo, endian):
    photo = make_photo(3, (90, 60))
    plain = io.BytesIO()
    photo.save(plain, "JPEG")
    stored = Image.fromarray(decoder()(tf.constant([plain.getvalue()]))[0].numpy())
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif.endian = endian
        exif[ORIENTATION] = orientation
        exif[0x010E] = "a description, so that there is another entry"
        turned = io.BytesIO()
        photo.save(turned, "JPEG", exif=exif)
        found = decoder()(tf.constant([turned.getvalue()]))[0].numpy()
        stored.getexif()[ORIENTATION] = orientation
        np.testing.assert_array_equal(found, np.asarray(ImageOps.exif_transpose(stored)), f"orientation {orientation}")


def test_headers_that_cannot_be_read_leave_an_image_as_it_is(make_photo, encode):
    """Whatever bytes stand where EXIF should be: an orientation of 1 to 8, and no error."""
    orientation = tf.function(export_exif.orientation, input_signature=[tf.TensorSpec((), tf.string)])
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    whole = encode(make_photo(0), exif=exif)
    assert orientation(tf.constant(whole)).numpy() == 6
    rng = np.random.default_rng(0)
    for _ in range(200):
        broken = bytearray(whole[: rng.integers(0, 80)] if rng.random() < 0.3 else whole)
        for place in rng.integers(3, 80, 6):
            if place < len(broken):
                broken[place] = rng.integers(0, 256)
        assert 1 <= orientation(tf.constant(bytes(broken))).numpy() <= 8
    for other in (b"", b"\xff\xd8\xff", b"GIF89a", encode(make_photo(0), "PNG")):
        assert orientation(tf.constant(other)).numpy() == 1


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_files_are_resampled_as_in_evaluation(make_photo, encode, resize):
    files = [encode(make_photo(1, (80, 50)), form) for form in ("JPEG", "PNG", "BMP", "WEBP")]
    evaluated = preprocessing.get_image(24, resize)
    found = decoder(resize=resize)(tf.constant(files)).numpy()
    for data, image in zip(files, found, strict=True):
        np.testing.assert_array_equal(image, evaluated({"image": tf.constant(data)})["image"].numpy())


def test_transparent_pictures_lie_on_white_as_after_a_conversion(make_photo, encode):
    photo = make_photo(2, (24, 24)).convert("RGBA")
    alpha = np.linspace(0, 255, 24 * 24).reshape(24, 24).astype(np.uint8)
    photo.putalpha(Image.fromarray(alpha))
    expected = Image.alpha_composite(Image.new("RGBA", (24, 24), "white"), photo).convert("RGB")
    found = decoder()(tf.constant([encode(photo, "PNG")]))[0].numpy()
    assert np.abs(found.astype(int) - np.asarray(expected)).max() <= 1
