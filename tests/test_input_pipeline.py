"""Batches: every example once in evaluation, endless and reproducible in training, masks, and the ops on their own."""

import hashlib
import signal

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from tfr import annotations, config, conversion, dataset_dir
from tfr.errors import DatasetError, UsageError
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
    assert eager["image"].dtype == tf.uint8


def _reference(image, size):
    """Pillow's antialiased bicubic kernel."""
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)


@pytest.mark.parametrize("size", [(20, 31), (48, 64), (90, 100), (200, 60), (20, 300)])
def test_resampling_is_near_that_of_pillow(make_photo, size):
    """Grows, shrinks a little, by more than two, and both at once."""
    image = np.asarray(make_photo(3, size[::-1]))
    found = pp.resample(tf.constant(image), 48).numpy().astype(np.float32)
    assert np.abs(found - _reference(image, 48)).mean() < 1.5


@pytest.mark.parametrize("size", [(448, 7), (7, 2000)])
def test_a_strip_that_is_padded_has_a_row_of_pixels_left(size, encode):
    """At an eighth of their size seven pixels would be none."""
    red = encode(Image.new("RGB", size, (250, 0, 0)), "JPEG")
    found = pp.get_image(64, "pad")({"image": red})["image"].numpy()
    assert (found[..., 0] > 200).sum() == 64


@pytest.mark.parametrize("mode", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(500, 400), (900, 1700), (60, 45), (31, 400)])
def test_scaled_and_windowed_decoding_gives_the_same_picture(make_photo, encode, mode, size):
    """A JPEG is decoded small and in part; a PNG of the same pixels is not; they agree but for JPEG's loss."""
    photo = make_photo(1, size)
    whole = pp.get_image(48, mode)({"image": encode(photo, "PNG")})["image"].numpy().astype(np.float32)
    scaled = pp.get_image(48, mode)({"image": encode(photo, "JPEG", quality=97, subsampling=0)})["image"].numpy()
    assert np.abs(scaled - whole).mean() < 2.5


def test_the_decoder_leaves_at_least_seven_eighths_of_the_target():
    scales = [int(pp.dct_scale(tf.constant([side, 1800]), tf.constant([224, 224]))) for side in (391, 392, 784, 1568)]
    assert scales == [0, 1, 2, 3]


def test_rounding_to_uint8_is_exact():
    """On every machine: halves go upwards."""
    values = np.concatenate([np.linspace(-20, 280, 3001), np.arange(-8, 1040) / 4]).astype(np.float32)
    found = pp.to_uint8(tf.constant(values)).numpy()
    np.testing.assert_array_equal(found, np.floor(np.clip(values, 0, 255) + np.float32(0.5)))


@pytest.mark.parametrize("shape", [(5, 5), (32, 20), (224, 224), (100, 224), (300, 299), (1000, 1024)])
def test_rounding_by_rows_is_the_same(shape):
    """One part, several, an odd last one, fewer rows than allowed, and too large for parts."""
    pixels = tf.constant(np.random.default_rng(1).uniform(-20, 280, (*shape, 3)).astype(np.float32))
    np.testing.assert_array_equal(pp._to_uint8_by_rows(pixels, max(shape)), pp.to_uint8(pixels))


@pytest.mark.parametrize("format", ["PNG", "BMP", "GIF"])
def test_other_formats_are_cropped_too(make_photo, encode, format):
    photo = make_photo(2, (40, 30))
    window = tf.constant([5, 10, 20, 20])
    found = pp.decode_window(tf.constant(encode(photo, format)), lambda *_: window, 20).numpy()
    assert np.abs(found - np.asarray(photo, np.float32)[5:25, 10:30]).mean() < (12 if format == "GIF" else 0.01)


# The position in the stream


def test_a_run_goes_on_with_the_very_next_batch(builder):
    """From any step, in the middle of an epoch (20 examples, 6 a batch) as well, with all randomness the same."""
    options = {"augment": "crop,flip,color_jitter,erase,mixup", "seed": 4}
    undisturbed = _batches(builder, 9, **options)
    for start in (1, 5, 7):
        resumed = _batches(builder, 9 - start, start_step=start, **options)
        for (images, targets), (expected, expected_targets) in zip(resumed, undisturbed[start:], strict=True):
            np.testing.assert_array_equal(images, expected)
            np.testing.assert_array_equal(targets, expected_targets)


_CONSUMER = """
import hashlib, os, signal, sys
from tfr.train import input_pipeline
builder = input_pipeline.open_dataset(sys.argv[1])
shape = input_pipeline.BatchShape(image_size=32, batch_size=6)
done = int(sys.argv[2])
batches = input_pipeline.for_training(builder, "train", shape, augment="strong", sample="balanced", start_step=done)
for images, targets in batches:
    print(hashlib.md5(images.numpy().tobytes() + targets.numpy().tobytes()).hexdigest(), flush=True)
    done += 1
    if done in (5, 8):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_goes_on_where_it_was(builder, run_python):
    """The only thing that is handed on is how many batches were used."""
    batches = _batches(builder, 8, augment="strong", sample="balanced")
    undisturbed = [hashlib.md5(images.tobytes() + targets.tobytes()).hexdigest() for images, targets in batches]
    found: list[str] = []
    for expected in (5, 8):
        finished = run_python("-c", _CONSUMER, builder.data_path, len(found))
        assert finished.returncode == -signal.SIGKILL, finished.stderr[-2000:]
        found += finished.stdout.split()
        assert len(found) == expected
    assert found == undisturbed


# Hosts and replicas


def _context(host, hosts, replicas):
    return tf.distribute.InputContext(hosts, host, replicas)


@pytest.mark.parametrize("augment", ["crop,flip", "flip,mixup"])
@pytest.mark.parametrize(("hosts", "replicas"), [(1, 2), (2, 2), (2, 4), (4, 4)])
def test_hosts_together_train_on_what_one_would(builder, augment, hosts, replicas):
    shape = input_pipeline.BatchShape(image_size=16, batch_size=8)

    def batches(count, **options):
        dataset = input_pipeline.for_training(builder, "train", shape, augment=augment, **options).take(count)
        return [tuple(part.numpy() for part in batch) for batch in dataset]

    parts = [batches(3 * replicas // hosts, input_context=_context(host, hosts, replicas)) for host in range(hosts)]
    assert {len(images) for part in parts for images, _ in part} == {8 // replicas}
    for step, (images, targets) in enumerate(batches(3)):
        share = slice(step * replicas // hosts, (step + 1) * replicas // hosts)
        np.testing.assert_array_equal(np.concatenate([x for part in parts for x, _ in part[share]]), images)
        np.testing.assert_array_equal(np.concatenate([y for part in parts for _, y in part[share]]), targets)


def test_hosts_share_an_evaluation(builder):
    parts = [
        np.concatenate(
            [b["id"] for b in input_pipeline.for_evaluation(builder, "train", SHAPE, input_context=_context(i, 2, 2))]
        )
        for i in range(2)
    ]
    stored = [example["id"] for example in dataset_dir.read_split(builder, "train")]
    assert [list(part) for part in parts] == [stored[::2], stored[1::2]]


def test_a_batch_size_that_cannot_be_shared_is_named(builder):
    with pytest.raises(UsageError, match="--batch_size=6 with 4 hosts and 4 replicas"):
        input_pipeline.for_training(builder, "train", SHAPE, input_context=_context(0, 4, 4))


def test_sharding_is_set_on_purpose(builder):
    policies = tf.data.experimental.AutoShardPolicy

    def policy(**options):
        dataset = input_pipeline.for_training(builder, "train", SHAPE, **options)
        return dataset.options().experimental_distribute.auto_shard_policy

    assert policy() == policies.DATA
    assert policy(input_context=_context(0, 1, 2)) == policies.OFF


_REPLICAS = """
import sys
import numpy as np, tensorflow as tf
from tfr.train import distribution, input_pipeline
strategy = distribution.make_strategy("mirrored", 2)
builder = input_pipeline.open_dataset(sys.argv[1])
shape = input_pipeline.BatchShape(image_size=16, batch_size=8)
def make(context=None):
    return input_pipeline.for_training(builder, "train", shape, augment="flip,cutmix", input_context=context)
expected = [batch[0].numpy() for batch in make().take(3)]
for distributed in (strategy.experimental_distribute_dataset(make()), strategy.distribute_datasets_from_function(make)):
    for images, (found, _) in zip(expected, distributed):
        parts = [part.numpy() for part in strategy.experimental_local_results(found)]
        assert len(parts) == 2 and np.array_equal(np.concatenate(parts), images)
print("equal")
"""


def test_replicas_together_train_on_what_one_would(builder, run_python):
    finished = run_python("-c", _REPLICAS, builder.data_path)
    assert finished.stdout == "equal\n", finished.stderr[-2000:]


# Sampling


def test_balanced_sampling_reads_the_labels_of_the_records(builder):
    """Each of the labels a and b, and images without any, are a third of the draws each."""
    targets = np.concatenate([y for _, y in _batches(builder, 100, sample="balanced", augment="none")])
    assert np.mean((targets == 1).any(axis=1)) == pytest.approx(2 / 3, abs=0.01)
    shuffled = np.concatenate([y for _, y in _batches(builder, 100, augment="none")])
    assert np.mean((shuffled == 1).any(axis=1)) == pytest.approx(0.65, abs=0.02)
    both = [f"im{i}.jpg" for i in range(NUM_IMAGES) if i % 3 == 0 and i % 2 and i % 5]
    only_a = [f"im{i}.jpg" for i in range(NUM_IMAGES) if i % 3 == 0 and not (i % 2 and i % 5)]
    assert len(both) == 2
    assert len(only_a) == 5
    assert np.mean(targets[:, 0] == 1) == pytest.approx(1 / 3 + 1 / 3 * 2 / 8, abs=0.03)


@pytest.fixture(params=["tfrecord", "array_record"])
def foreign(request, tmp_path):
    """A single-label TFDS dataset of grey PNGs without ids, not made by us; returns its folder."""
    features = {"image": tfds.features.Image(shape=(8, 9, 1)), "label": tfds.features.ClassLabel(names=["x", "y", "z"])}
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 9, 1), dtype=np.uint8)
    tfds.dataset_builders.store_as_tfds_dataset(
        name="grey",
        version="1.0.0",
        data_dir=tmp_path,
        features=tfds.features.FeaturesDict(features),
        split_datasets={
            "train": tf.data.Dataset.from_tensor_slices({"image": images, "label": np.arange(9, dtype=np.int64) % 3})
        },
        file_format=request.param,
    )
    return str(tmp_path / "grey" / "1.0.0")


@pytest.mark.parametrize("sample", ["shuffled", "balanced"])
def test_any_tfds_dataset_will_do(foreign, sample):
    opened = input_pipeline.open_dataset(foreign)
    evaluated = list(input_pipeline.for_evaluation(opened, "train", SHAPE))
    assert sum(len(batch["image"]) for batch in evaluated) == 9
    assert "id" not in evaluated[0]
    images, targets = next(
        iter(input_pipeline.for_training(opened, "train[:6]", SHAPE, augment="strong", sample=sample))
    )
    assert images.shape == (6, 32, 32, 3)
    np.testing.assert_allclose(targets.numpy().sum(axis=1), 1, rtol=1e-5)


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
        ({"label": -1}, [-1, -1, -1]),
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
