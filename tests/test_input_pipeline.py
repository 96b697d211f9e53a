"""Batches: every example once in evaluation, endless and reproducible in training, masks, and the ops on their own."""

import numpy as np
import pytest
import tensorflow as tf

from tfr import annotations, config, conversion, dataset_dir
from tfr.errors import DatasetError
from tfr.train import input_pipeline
from tfr.train import preprocessing as pp

NUM_IMAGES = 20


@pytest.fixture(scope="module")
def builder(tmp_path_factory, make_photo):
    """20 images of 64 x 48; label a on every third; where b is not known its cell is empty."""
    folder = tmp_path_factory.mktemp("pipeline")
    rows = ["image,a,b"]
    for i in range(NUM_IMAGES):
        make_photo(i, (64, 48)).save(folder / f"im{i}.jpg", quality=95)
        rows.append(f"im{i}.jpg,{int(i % 3 == 0)},{'' if i % 5 == 0 else i % 2}")
    (folder / "rows.csv").write_text("\n".join(rows))
    result = conversion.convert(
        config.ConvertConfig(
            annotations=str(folder / "rows.csv"),
            data_dir=str(folder / "data"),
            name="photos",
            read=annotations.ReadOptions(label_columns=("a", "b")),
            split_ratios=config.splits.parse_ratios("train=1"),
            num_shards=3,
        )
    )
    return dataset_dir.open_builder(result.dataset_dir)


SHAPE = input_pipeline.BatchShape(image_size=32, batch_size=6)


def test_evaluation_gives_every_example_once_in_stored_order(builder):
    batches = list(input_pipeline.for_evaluation(builder, "train", SHAPE))
    assert [len(batch["id"]) for batch in batches] == [6, 6, 6, 2]
    assert batches[0]["image"].shape == (6, 32, 32, 3)
    ids = np.concatenate([batch["id"].numpy() for batch in batches])
    stored = [example["id"] for example in dataset_dir.read_split(builder, "train")]
    assert list(ids) == stored
    assert sorted(ids) == sorted(f"im{i}.jpg".encode() for i in range(NUM_IMAGES))


def test_targets_are_present_absent_or_unknown(builder):
    targets = {}
    for batch in input_pipeline.for_evaluation(builder, "train", SHAPE):
        targets |= dict(zip(batch["id"].numpy(), batch["target"].numpy().tolist(), strict=True))
    for i in range(NUM_IMAGES):
        b = pp.UNKNOWN if i % 5 == 0 else float(i % 2)
        assert targets[f"im{i}.jpg".encode()] == [float(i % 3 == 0), b]


def _batches(builder, count, **options):
    return [
        (images.numpy(), targets.numpy())
        for images, targets in input_pipeline.for_training(builder, "train", SHAPE, **options).take(count)
    ]


def test_training_is_endless_full_batches_and_reproducible(builder):
    first, again, other = (_batches(builder, 8, seed=seed) for seed in (1, 1, 2))
    assert all(len(images) == 6 for images, _ in first)  # 48 examples out of 20
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a[0], b[0]) for a, b in zip(first, other, strict=True))


def test_a_pass_of_training_has_every_image_and_flips_about_half(builder):
    plain = {image.tobytes() for images, _ in _batches(builder, 20, augment="none") for image in images}
    assert len(plain) == NUM_IMAGES
    flipped = [image.tobytes() in plain for images, _ in _batches(builder, 20, augment="flip") for image in images]
    assert 0.3 < np.mean(flipped) < 0.7


@pytest.mark.parametrize("split", ["test", "train[:50%]+test"])
def test_a_split_that_is_not_there_is_named(builder, split):
    with pytest.raises(DatasetError, match=r"no split 't.*has \['train'\]"):
        input_pipeline.for_evaluation(builder, split, SHAPE)


def test_slices_work(builder):
    assert input_pipeline.num_examples(builder, "train[:50%]") == 10


@pytest.mark.parametrize("dataset", ["no_such_dataset_anywhere", "./no/such/folder"])
def test_a_dataset_that_is_not_there_is_named(dataset, tmp_path):
    with pytest.raises(DatasetError, match=dataset.replace(".", r"\.")):
        input_pipeline.open_dataset(dataset, str(tmp_path))


def test_loose_files_come_in_order(make_photo, encode):
    photos = [encode(make_photo(i, (40, 30)), "PNG") for i in range(5)]
    shape = input_pipeline.BatchShape(image_size=30, batch_size=2, resize="crop")
    found = np.concatenate([batch["image"] for batch in input_pipeline.for_files(lambda: iter(photos), shape)])
    for i in range(5):  # the central square of a picture of that height is not resampled at all
        np.testing.assert_allclose(found[i], np.asarray(make_photo(i, (40, 30)))[:, 5:35], atol=0.01)


def _eager_and_mapped(op, example):
    eager = op(example)
    (mapped,) = tf.data.Dataset.from_tensors(example).map(op)
    return eager, mapped


@pytest.mark.parametrize("mode", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(48, 64), (64, 48), (20, 300), (8, 8)])
def test_resize_gives_squares_of_pixels_eagerly_and_in_a_map(mode, size):
    image = tf.constant(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    eager, mapped = _eager_and_mapped(pp.get_resize(32, mode), {"image": image})
    np.testing.assert_allclose(eager["image"], mapped["image"], atol=1e-3)
    assert eager["image"].shape == (32, 32, 3)
    assert eager["image"].dtype == tf.float32
    assert 0 <= float(tf.reduce_min(eager["image"])) <= float(tf.reduce_max(eager["image"])) <= 255


def test_crop_keeps_the_aspect_ratio_and_squash_keeps_the_borders():
    image = np.zeros((30, 90, 3), dtype=np.uint8)
    image[:, :30] = 255  # the left third, which the central square leaves out
    assert np.asarray(pp.get_resize(30, "crop")({"image": image})["image"]).max() == 0
    squashed = np.asarray(pp.get_resize(30, "squash")({"image": image})["image"])
    assert squashed[:, :8].min() > 250
    padded = np.asarray(pp.get_resize(30, "pad")({"image": image})["image"])
    assert padded[:9].max() == 0


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        ({"label": 2}, [0, 0, 1]),
        ({"labels": [0, 2]}, [1, 0, 1]),
        ({"labels": []}, [0, 0, 0]),
        ({"labels": [1], "labels_unknown": [0, 1]}, [-1, 1, 0]),
    ],
)
def test_targets(example, expected):
    example = {key: tf.constant(value, tf.int64) for key, value in example.items()}
    key = "label" if "label" in example else "labels"
    for result in _eager_and_mapped(pp.get_target(key, 3), example):
        assert result["target"].numpy().tolist() == expected
