"""`tfr.load`: batches in one line, on directories that tfr convert writes and on names."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import tfr
import tfr.datasets
from tfr.errors import DatasetError, UsageError

NUM_TRAIN, NUM_TEST = 14, 6


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory, make_photo):
    """A dataset `photos` of 20 images, 6 of them test; label a on every third; b not known on every fifth."""
    folder = tmp_path_factory.mktemp("loading")
    rows = ["image,a,b,split"]
    for i in range(NUM_TRAIN + NUM_TEST):
        make_photo(i, (64, 48)).save(folder / f"im{i}.jpg", quality=95)
        rows.append(f"im{i}.jpg,{int(i % 3 == 0)},{'' if i % 5 == 0 else i % 2},{'train' if i >= NUM_TEST else 'test'}")
    (folder / "rows.csv").write_text("\n".join(rows))
    tfr.convert(
        str(folder / "rows.csv"),
        data_dir=str(folder / "data"),
        name="photos",
        label_columns=("a", "b"),
        split_column="split",
        num_shards=3,
    )
    return folder / "data"


def collect(dataset):
    return [np.concatenate(part) for part in zip(*tfds.as_numpy(dataset), strict=True)]


def test_batches_that_fit_takes(data_dir):
    train = tfr.load(str(data_dir / "photos"), split="train", batch_size=4, image_size=16)
    images, labels = train.element_spec
    assert (images.dtype, images.shape.as_list()) == (tf.float32, [None, 16, 16, 3])
    assert (labels.dtype, labels.shape.as_list()) == (tf.float32, [None, 2])
    assert len(train) == 4  # 14 examples; known without reading
    assert [len(images) for images, _ in train] == [4, 4, 4, 2]
    model = keras.Sequential([keras.layers.Input((16, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    model.compile(loss="mse")
    assert np.isfinite(model.fit(train, shuffle=False, verbose=0).history["loss"]).all()


def test_labels_are_present_absent_or_unknown_and_ids_come_along(data_dir):
    _, labels, ids = collect(tfr.load(str(data_dir), split="train+test", image_size=8, with_ids=True))
    assert sorted(ids) == sorted(f"im{i}.jpg".encode() for i in range(20))
    for id_, found in zip(ids, labels, strict=True):
        i = int(id_.decode()[2:-4])
        assert found.tolist() == [float(i % 3 == 0), -1.0 if i % 5 == 0 else float(i % 2)]


def test_images_are_the_pixels_of_the_files(data_dir, make_photo):
    images, _, ids = collect(tfr.load(str(data_dir), split="test", image_size=48, resize="crop", with_ids=True))
    whole = np.asarray(make_photo(int(ids[0].decode()[2:-4]), (64, 48)), dtype=np.float32)
    assert np.abs(images[0] - whole[:, 8:56]).mean() < 3  # JPEG's loss


def test_uint8_is_the_rounded_float(data_dir):
    floats, bytes_ = (
        collect(tfr.load(str(data_dir), split="test", image_size=20, dtype=dtype))[0] for dtype in ("float32", "uint8")
    )
    assert bytes_.dtype == np.uint8
    np.testing.assert_array_equal(bytes_, np.round(floats).astype(np.uint8))


def test_order_is_stored_or_shuffled_anew_each_pass(data_dir):
    stored = collect(tfr.load(str(data_dir), split="train", image_size=8, with_ids=True))[2].tolist()
    plain = tfds.as_numpy(tfds.load("photos", data_dir=str(data_dir), split="train"))
    assert stored == [example["id"] for example in plain]
    shuffled = tfr.load(str(data_dir), split="train", image_size=8, with_ids=True, shuffle=True, seed=3)
    first, second = (collect(shuffled)[2].tolist() for _ in range(2))
    again = tfr.load(str(data_dir), split="train", image_size=8, with_ids=True, shuffle=True, seed=3)
    assert collect(again)[2].tolist() == first
    assert len({tuple(stored), tuple(first), tuple(second)}) == 3
    assert sorted(stored) == sorted(first) == sorted(second)


def test_structures_of_splits_and_the_info(data_dir):
    everything, info = tfr.load("photos", data_dir=str(data_dir), image_size=8, with_info=True)
    assert {name: len(collect(split)[1]) for name, split in everything.items()} == {"test": 6, "train": 14}
    assert info.features["labels"].feature.names == ["a", "b"]
    halves = tfr.load(str(data_dir), split=["train[:50%]", "train[50%:]"], image_size=8, batch_size=20)
    thirds = tfr.load(str(data_dir), split=tfds.even_splits("train", 3), image_size=8, batch_size=20)
    assert [len(labels) for part in halves for _, labels in part] == [7, 7]
    assert [len(labels) for part in thirds for _, labels in part] == [5, 5, 4]
    assert len(collect(tfr.load(str(data_dir), split="all", image_size=8))[1]) == 20


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"split": "validation"}, DatasetError, r"no split 'validation'. It has \['test', 'train'\]"),
        ({"split": "train[:many]"}, DatasetError, r"cannot read split 'train\[:many\]'.*Slices look like"),
        ({"split": "train[3:3]"}, DatasetError, r"no example in split 'train\[3:3\]'"),
        ({"batch_size": 0}, UsageError, "batch_size must be a positive integer. Received: batch_size=0"),
        ({"image_size": (64, 64)}, UsageError, r"image_size must be a positive integer. Received: .*\(64, 64\)"),
        ({"dtype": "float16"}, UsageError, "dtype must be one of float32, uint8. Received: dtype='float16'"),
        ({"resize": "stretch"}, UsageError, "resize must be one of squash, crop, pad"),
    ],
)
def test_what_does_not_fit_is_named(data_dir, options, error, message):
    with pytest.raises(error, match=message):
        tfr.load(str(data_dir), **options)


def test_a_builder_whose_data_are_not_built(tmp_path):
    with pytest.raises(
        DatasetError, match=r"'synthetic_shapes/tiny' is not prepared.*Run `tfr build synthetic_shapes/tiny`"
    ):
        tfr.load("synthetic_shapes/tiny", data_dir=str(tmp_path))
    tfr.build("synthetic_shapes/tiny", data_dir=str(tmp_path))
    train = tfr.load("synthetic_shapes/tiny", data_dir=str(tmp_path), split="train", batch_size=60, image_size=16)
    assert [labels.shape.as_list() for _, labels in train] == [[50, 9]]


def test_ids_are_asked_of_a_dataset_that_has_none(tmp_path):
    features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=["a"])}
    examples = tf.data.Dataset.from_tensors({"image": np.zeros((4, 4, 3), np.uint8), "label": 0})
    tfds.dataset_builders.store_as_tfds_dataset(
        name="bare",
        version="1.0.0",
        data_dir=tmp_path,
        features=tfds.features.FeaturesDict(features),
        split_datasets={"train": examples},
    )
    (batch,) = tfr.load("bare", data_dir=str(tmp_path), split="train", image_size=4)
    assert batch[1].numpy().tolist() == [[1.0]]
    with pytest.raises(DatasetError, match=r"has no feature 'id'. Its features: .*'image'"):
        tfr.load("bare", data_dir=str(tmp_path), split="train", with_ids=True)
