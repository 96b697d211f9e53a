"""`tfr.verification` on datasets of other kinds: conversions with other options, and what something else made."""

import pytest
import tensorflow_datasets as tfds
from conversion_checks import rewrite

from tfr import conversion, shards, splits, verification
from tfr.config import ConvertConfig
from tfr.errors import DatasetError
from tfr.images import ImageOptions


@pytest.mark.parametrize(
    ("label_mode", "options", "file_format"),
    [
        ("single", {}, "tfrecord"),
        ("multi", {"image_size": 20, "min_side": 8}, "tfrecord"),
        ("multi", {}, "array_record"),
        ("multi", {"keep_png": True}, "tfrecord"),
    ],
)
def test_other_conversions_are_sound(tmp_path, write_photos, label_mode, options, file_format):
    folder = write_photos([f"{label}/{i}.{'png' if i % 2 else 'jpg'}" for label in "ab" for i in range(6)])
    config = ConvertConfig(
        annotations=str(folder),
        data_dir=str(tmp_path / "data"),
        name="letters",
        image=ImageOptions(**options),
        label_mode=label_mode,
        file_format=file_format,
        split_ratios=splits.parse_ratios("train=1"),
    )
    result = verification.verify(conversion.convert(config).dataset_dir)
    assert (result.num_records, result.problems) == (12, [])


def test_a_damaged_array_record_file_is_named(tmp_path, write_photos):
    folder = write_photos([f"{label}/{i}.jpg" for label in "ab" for i in range(6)])
    config = ConvertConfig(
        annotations=str(folder),
        data_dir=str(tmp_path / "data"),
        name="letters",
        file_format="array_record",
        num_shards=1,
        split_ratios=splits.parse_ratios("train=1"),
    )
    path = tmp_path / "data" / "letters" / "1.0.0" / "letters-train.array_record-00000-of-00001"
    assert conversion.convert(config).dataset_dir == str(path.parent)
    data = bytearray(path.read_bytes())
    third = list(shards.read_records(str(path)))[2]
    data[data.index(third[200:240])] ^= 1
    path.write_bytes(data)
    problem = verification.verify(str(path.parent)).problems[0]
    assert (problem.kind, problem.file, problem.offset) == ("damaged", path.name, None)


# Datasets that something else made


def make_foreign(folder, features, examples):
    folder.mkdir(parents=True)
    features = tfds.features.FeaturesDict(features)
    with shards.create(str(folder / shards.shard_name("foreign", "train", 0, 1))) as writer:
        for example in examples:
            record = features.serialize_example(example)
            writer.write(record, *shards.frame(record))
    split = tfds.core.SplitInfo(name="train", shard_lengths=[len(examples)], num_bytes=writer.num_bytes)
    tfds.folder_dataset.write_metadata(
        data_dir=folder, features=features, split_infos=[split], filename_template=None, version="2.0.0"
    )
    return str(folder)


def test_a_dataset_that_something_else_made_is_verified_as_far_as_it_can_be(tmp_path, make_photo, encode):
    features = {
        "picture": tfds.features.Image(encoding_format="png"),
        "objects": tfds.features.Sequence({"bbox": tfds.features.BBoxFeature()}),
        "label": tfds.features.ClassLabel(names=["a", "b"]),
    }
    examples = [{"picture": encode(make_photo(i), "PNG"), "objects": [], "label": i % 2} for i in range(3)]
    examples[0]["label"] = -1
    folder = make_foreign(tmp_path / "foreign" / "2.0.0", features, examples)
    result = verification.verify(folder)
    assert (result.num_records, result.problems) == (3, [])
    assert [note.partition(":")[0][-40:] for note in result.not_compared] == [
        "conversion.json (tfr convert did not make it)"[-40:],
        "records have no feature 'id'"[-40:],
    ]
    path = tmp_path / "foreign" / "2.0.0" / shards.shard_name("foreign", "train", 0, 1)
    rewrite(path, lambda examples: examples[2].features.feature["picture"].bytes_list.value.__setitem__(0, b"\x89PNG"))
    assert [problem[:3] for problem in verification.verify(folder).problems] == [("bad_image", path.name, 2)]


def test_a_dataset_without_an_image_is_refused(tmp_path):
    folder = make_foreign(tmp_path / "foreign" / "2.0.0", {"x": tfds.features.Text()}, [{"x": "y"}])
    with pytest.raises(DatasetError, match=r"has no feature that is an image. Its features: \['x'\]"):
        verification.verify(folder)
