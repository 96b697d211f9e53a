"""Perceptual fingerprints of images."""

import itertools

import numpy as np
import pytest
from image_files import encode

from tfr import images
from tfr.images import ImageOptions, prepare_image


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
