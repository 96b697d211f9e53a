"""`--check_images=header`: plain JPEGs are stored without a decode; everything else is as it always is."""

import dataclasses

import pytest
from conversion_checks import read_all, rejects_of

from tfr import conversion, duplicates, images, splits, verification
from tfr.errors import UsageError
from tfr.images import ImageOptions

HEADER = ImageOptions(check_images="header")


@pytest.fixture
def damaged(encode, make_photo):
    """A JPEG whose picture breaks off inside, with the end that it should have."""
    whole = encode(make_photo(1, (200, 160)))
    return whole[: len(whole) // 2] + whole[-2:]


def test_plain_jpegs_are_stored_unseen(make_photo, encode, damaged):
    whole = encode(make_photo())
    expected = dataclasses.replace(images.prepare_image(whole, ImageOptions()), fingerprint=None)
    assert images.prepare_image(whole, HEADER) == expected
    assert images.prepare_image(damaged, HEADER).data == damaged
    with pytest.raises(images.ImageRejectedError):
        images.prepare_image(damaged, ImageOptions())


@pytest.mark.parametrize("kind", ["PNG", "rotated", "CMYK", "large", "trailing"])
def test_what_has_to_be_changed_is_decoded(make_photo, encode, kind):
    photo = make_photo(0, (300, 280))
    exif = photo.getexif()
    exif[0x0112] = 6
    data, options = {
        "PNG": (encode(photo, "PNG"), HEADER),
        "rotated": (encode(photo, exif=exif), HEADER),
        "CMYK": (encode(photo.convert("CMYK")), HEADER),
        "large": (encode(photo), ImageOptions(check_images="header", image_size=64)),
        "trailing": (encode(photo) + b"rubbish", HEADER),
    }[kind]
    assert images.prepare_image(data, options) == images.prepare_image(
        data, dataclasses.replace(options, check_images="decode")
    )


@pytest.mark.parametrize("cut", [0, 3, 60, -2, -40])
def test_what_the_header_or_the_end_tells_is_rejected_as_ever(make_photo, encode, cut):
    data = encode(make_photo())[:cut]
    with pytest.raises(images.ImageRejectedError) as by_header:
        images.prepare_image(data, HEADER)
    with pytest.raises(images.ImageRejectedError) as by_decoding:
        images.prepare_image(data, ImageOptions())
    assert by_header.value.reason == by_decoding.value.reason


def test_verify_finds_what_the_conversion_did_not_look_for(make_config, pets, damaged):
    (pets / "d.jpg").write_bytes(damaged)
    (pets / "h.jpeg").write_bytes(b"")
    result = conversion.convert(make_config(image=HEADER))
    examples = read_all(result.dataset_dir)
    assert examples["d.jpg"]["image"] is not None
    assert not any("fingerprint" in example for example in examples.values())
    assert [reject["reason"] for reject in rejects_of(result.dataset_dir)] == ["empty"]
    (problem,) = verification.verify(result.dataset_dir).problems
    assert problem.kind == "bad_image"
    assert "truncated" in problem.message


def test_duplicates_are_found_without_stored_fingerprints(make_config, pets):
    (pets / "d.jpg").write_bytes((pets / "a.jpg").read_bytes())
    result = conversion.convert(make_config(image=HEADER))
    (group,) = duplicates.find(result.dataset_dir).groups
    assert sorted(member.id for member in group.members) == ["a.jpg", "d.jpg"]


def test_images_that_are_alike_are_kept_together_all_the_same(make_config, pets):
    (pets / "d.jpg").write_bytes((pets / "a.jpg").read_bytes())
    halves = splits.parse_ratios("train=0.5,test=0.5")
    ratios = make_config(split_ratios=halves, group_near_duplicates=0)
    examples = [
        read_all(conversion.convert(dataclasses.replace(ratios, image=options, overwrite=True)).dataset_dir)
        for options in (HEADER, ImageOptions())
    ]
    assert {id_: e["split"] for id_, e in examples[0].items()} == {id_: e["split"] for id_, e in examples[1].items()}
    assert examples[0]["a.jpg"]["split"] == examples[0]["d.jpg"]["split"]


def test_versions_with_and_without_fingerprints_do_not_mix(make_config, pets):
    assert (pets / "a.jpg").exists()
    first = make_config(image=HEADER)
    conversion.convert(first)
    again = dataclasses.replace(first, version="1.1.0", append_to="1.0.0")
    with pytest.raises(UsageError, match="made with other settings"):
        conversion.convert(dataclasses.replace(again, image=ImageOptions()))
    result = conversion.convert(dataclasses.replace(again, on_duplicate="first"))
    assert read_all(result.dataset_dir).keys() == read_all(f"{first.data_dir}/pets/1.0.0").keys()


def test_other_checks_are_refused():
    with pytest.raises(UsageError, match="--check_images must be one of"):
        ImageOptions(check_images="none")


def test_the_flag(pets, tmp_path, run_tfr):
    assert (pets / "a.jpg").exists()
    done = run_tfr(
        "convert", f"--annotations={tmp_path / 'annotations.csv'}", f"--images={pets}", "--name=pets",
        f"--data_dir={tmp_path / 'data'}", "--check_images=header", "--splits=train=1", "--label_columns=bird:dog",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "fingerprint" not in read_all(tmp_path / "data/pets/1.0.0")["a.jpg"]
