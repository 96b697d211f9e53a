"""What TFDS documents of its datasets, on those of tfr: slices, ReadConfig, decoders, batches, frames, data sources."""

import io
import itertools
import pickle

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

import tfr
import tfr.datasets
from tfr import dataset_dir

NUM_IMAGES, NUM_SHARDS = 43, 4
OPTIONS = {"label_mode": "multi", "split_ratios": "train=1", "num_shards": NUM_SHARDS}


@pytest.fixture(scope="module")
def images(tmp_path_factory, make_photo):
    """43 images of 24 x 16, in folders of their labels."""
    folder = tmp_path_factory.mktemp("images")
    for i in range(NUM_IMAGES):
        path = folder / "abc"[i % 3] / f"{i:02}.jpg"
        path.parent.mkdir(exist_ok=True)
        make_photo(i, (24, 16)).save(path, quality=95)
    return folder


def make_by_convert(images, data_dir, **options):
    """The name of what tfr convert wrote."""
    tfr.convert(images, data_dir=data_dir, name="photos", **OPTIONS, **options)
    return "photos"


def make_by_builder(images, data_dir, file_format=None):
    """The name of what a TFDS builder of tfr wrote."""
    builder = tfds.builder(
        "annotated_images", data_dir=data_dir, annotations=images, file_format=file_format, **OPTIONS
    )
    builder.download_and_prepare()
    return f"annotated_images/{builder.builder_config.name}"


@pytest.fixture(scope="module", params=[make_by_convert, make_by_builder])
def name_and_data_dir(request, tmp_path_factory, images):
    data_dir = str(tmp_path_factory.mktemp("data"))
    return request.param(str(images), data_dir), data_dir


@pytest.fixture(scope="module")
def builder(name_and_data_dir):
    """A dataset of one split of four shards, opened by TFDS."""
    name, data_dir = name_and_data_dir
    return tfds.builder(name, data_dir=data_dir)


@pytest.fixture(scope="module")
def shards(builder):
    """The ids of each shard in stored order."""
    ids = iter(example["id"] for example in dataset_dir.read_split(builder, "train"))
    found = [list(itertools.islice(ids, length)) for length in builder.info.splits["train"].shard_lengths]
    assert len(found) == NUM_SHARDS
    assert min(map(len, found)) > 1
    return found


@pytest.fixture(scope="module")
def stored(shards):
    return [id_ for shard in shards for id_ in shard]


def ids_of(builder, split="train", **options):
    return [example["id"] for example in tfds.as_numpy(builder.as_dataset(split=split, **options))]


# Slices


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", slice(None)),
        ("train[:10%]", slice(0, 4)),
        ("train[10%:]", slice(4, None)),
        ("train[-25%:]", slice(-11, None)),
        ("train[5:]", slice(5, None)),
        ("train[5:21]", slice(5, 21)),
        ("train[-3:]", slice(-3, None)),
        (tfds.core.ReadInstruction("train", from_=3, to=9, unit="abs"), slice(3, 9)),
        (tfds.core.ReadInstruction("train", from_=33, to=67, unit="%", rounding="closest"), slice(14, 29)),
    ],
)
def test_slices_are_runs_of_the_stored_order(builder, stored, split, expected):
    assert ids_of(builder, split) == stored[expected]
    assert builder.info.splits[split].num_examples == len(stored[expected])


def test_sums_of_slices(builder, stored):
    assert ids_of(builder, "train[:5]+train[40:]") == stored[:5] + stored[40:]


@pytest.mark.parametrize(("split", "expected"), [("train[:2shard]", slice(0, 2)), ("train[-1shard:]", slice(-1, None))])
def test_slices_of_shards_are_whole_shards(builder, shards, split, expected):
    assert ids_of(builder, split) == list(itertools.chain(*shards[expected]))


def test_even_splits_are_disjoint_and_complete(builder, stored):
    parts = [ids_of(builder, part) for part in tfds.even_splits("train", n=4)]
    assert [len(part) for part in parts] == [11, 11, 11, 10]
    assert list(itertools.chain(*parts)) == stored
    dropped = [ids_of(builder, part) for part in tfds.even_splits("train", n=4, drop_remainder=True)]
    assert [len(part) for part in dropped] == [10, 10, 10, 10]


def test_a_dict_and_a_list_of_splits(builder):
    assert set(builder.as_dataset()) == {"train"}
    first, rest = builder.as_dataset(split=["train[:3]", "train[3:]"])
    assert (len(first), len(rest)) == (3, NUM_IMAGES - 3)


# Order


def interleaved(shards, cycle, block):
    """What tf.data's interleave makes of the shards: `block` items from each of `cycle` files in turn."""
    waiting, result = [list(shard) for shard in shards], []
    active, waiting = waiting[:cycle], waiting[cycle:]
    while active:
        for place, shard in enumerate(list(active)):
            result += shard[:block]
            del shard[:block]
            if not shard and waiting:
                active[place] = waiting.pop(0)
        active = [shard for shard in active if shard]
    return result


@pytest.mark.parametrize(("cycle", "block"), [(1, 16), (4, 1), (4, 3)])
def test_the_interleave_is_as_configured(builder, shards, cycle, block):
    config = tfds.ReadConfig(interleave_cycle_length=cycle, interleave_block_length=block)
    assert ids_of(builder, read_config=config) == interleaved(shards, cycle, block)


def test_input_contexts_share_the_shards(builder, shards):
    parts = []
    for index in range(2):
        context = tf.distribute.InputContext(num_input_pipelines=2, input_pipeline_id=index)
        parts.append(ids_of(builder, read_config=tfds.ReadConfig(input_context=context)))
    assert [sorted(part) for part in parts] == [sorted(shards[0] + shards[2]), sorted(shards[1] + shards[3])]


def test_shuffled_files_follow_the_seed(builder, shards, stored):
    def order(seed):
        config = tfds.ReadConfig(shuffle_seed=seed, interleave_cycle_length=1)
        return ids_of(builder, shuffle_files=True, read_config=config)

    orders = {seed: order(seed) for seed in range(6)}
    assert order(0) == orders[0]
    assert len({tuple(ids) for ids in orders.values()}) > 1
    for ids in orders.values():  # files change place; within a file nothing does
        assert sorted(ids) == sorted(stored)
        assert sorted(shards) == sorted(list(group) for group in split_at(ids, {shard[0] for shard in shards}))


def split_at(ids, starts):
    places = [place for place, id_ in enumerate(ids) if id_ in starts] + [len(ids)]
    return [ids[first:last] for first, last in itertools.pairwise(places)]


def test_tfds_ids_name_shard_and_place(builder, shards):
    config = tfds.ReadConfig(add_tfds_id=True)
    found = {
        example["id"]: example["tfds_id"] for example in tfds.as_numpy(builder.as_dataset("train", read_config=config))
    }
    for number, shard in enumerate(shards):
        name = builder.info.splits["train"].filenames[number]
        for place, id_ in enumerate(shard):
            assert found[id_] == f"{name}__{place}".encode()


def test_the_number_of_examples_is_known_without_reading(builder):
    assert len(builder.as_dataset(split="train")) == NUM_IMAGES
    assert len(builder.as_dataset(split="train[:7]")) == 7


# Decoding


def test_skip_decoding_gives_the_stored_bytes(builder, images):
    examples = list(tfds.as_numpy(builder.as_dataset(split="train", decoders={"image": tfds.decode.SkipDecoding()})))
    assert len(examples) == NUM_IMAGES
    for example in examples:
        assert example["image"] == (images / example["id"].decode()).read_bytes()


def test_partial_decoding_reads_the_named_features_only(builder, stored):
    (example,) = builder.as_dataset(split="train[:1]", decoders=tfds.decode.PartialDecoding({"id", "labels"}))
    assert set(example) == {"id", "labels"}
    assert example["id"].numpy() == stored[0]


def test_a_decoder_of_ones_own(builder):
    @tfds.decode.make_decoder(output_dtype=tf.uint8)
    def half(image, feature):
        return tf.io.decode_jpeg(image, channels=feature.shape[-1], ratio=2)

    (small,) = builder.as_dataset(split="train[:1]", decoders={"image": half()})
    (whole,) = builder.as_dataset(split="train[:1]")
    assert (small["image"].shape, whole["image"].shape) == ((8, 12, 3), (16, 24, 3))


# Batches


def test_as_supervised_is_image_and_labels(builder):
    (image, labels), *rest = tfds.as_numpy(builder.as_dataset(split="train", as_supervised=True))
    (first, *_) = tfds.as_numpy(builder.as_dataset(split="train[:1]"))
    assert len(rest) == NUM_IMAGES - 1
    np.testing.assert_array_equal(image, first["image"])
    np.testing.assert_array_equal(labels, first["labels"])


def test_batches_are_padded_and_minus_one_is_everything(builder):
    batches = list(tfds.as_numpy(builder.as_dataset(split="train", batch_size=20)))
    assert [batch["image"].shape for batch in batches] == [(20, 16, 24, 3), (20, 16, 24, 3), (3, 16, 24, 3)]
    assert batches[0]["labels"].shape == (20, 1)
    whole = tfds.as_numpy(builder.as_dataset(split="train", batch_size=-1))
    np.testing.assert_array_equal(whole["id"], np.concatenate([batch["id"] for batch in batches]))


def test_a_frame(builder, stored, name_and_data_dir):
    frame = tfds.as_dataframe(builder.as_dataset(split="train").take(3), builder.info)
    assert frame["id"].tolist() == stored[:3]
    assert frame["image"][0].shape == (16, 24, 3)
    name, data_dir = name_and_data_dir
    loaded, info = tfds.load(name, split="train", data_dir=data_dir, with_info=True)
    assert info.full_name == builder.info.full_name
    assert len(tfds.as_dataframe(loaded)) == NUM_IMAGES


# Data sources: records at random, for PyTorch and JAX

_READ = """
import pickle, sys

class Without:  # finds what a finder finds but TensorFlow, as where that is not installed
    def __init__(self, finder):
        self._finder = finder

    def __getattr__(self, name):
        return getattr(self._finder, name)

    def find_spec(self, name, *args):
        hidden = name.partition(".")[0] in ("tensorflow", "keras")
        return None if hidden else self._finder.find_spec(name, *args)

sys.meta_path[:] = map(Without, sys.meta_path)
try:
    import tensorflow
except ModuleNotFoundError:
    pass
else:
    raise AssertionError("TensorFlow is there")
import tensorflow_datasets as tfds
name, data_dir, path = sys.argv[1:]
source = tfds.data_source(name, data_dir=data_dir, split="train")
middle = tfds.data_source(name, data_dir=data_dir, split="train[10:20]")
encoded = tfds.data_source(name, data_dir=data_dir, split="train", decoders={"image": tfds.decode.SkipDecoding()})
result = {
    "all": list(source),
    "batch": [example["id"] for example in source.__getitems__([5, 3, 5])],
    "middle": [example["id"] for example in middle],
    "encoded": encoded[0]["image"],
    "names": tfds.builder(name, data_dir=data_dir).info.features["labels"].feature.names,
}
with open(path, "wb") as file:
    pickle.dump(result, file)
"""


@pytest.mark.parametrize("make", [make_by_convert, make_by_builder])
def test_data_sources_read_array_records_where_tensorflow_is_not(make, images, tmp_path, run_python):
    pytest.importorskip("array_record", reason="array records need it: pip install 'tfr[array-record]'")
    name = make(str(images), str(tmp_path), file_format="array_record")
    finished = run_python("-c", _READ, name, tmp_path, tmp_path / "result.pickle", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    found = pickle.loads((tmp_path / "result.pickle").read_bytes())
    ids = [example["id"] for example in found["all"]]
    files = sorted(str(path.relative_to(images)).encode() for path in images.rglob("*.jpg"))
    assert sorted(ids) == files
    assert found["batch"] == [ids[5], ids[3], ids[5]]
    assert found["middle"] == ids[10:20]
    assert found["encoded"] == (images / ids[0].decode()).read_bytes()
    for example in found["all"]:
        data = (images / example["id"].decode()).read_bytes()
        exact = np.asarray(Image.open(io.BytesIO(data)), dtype=int)
        assert np.abs(example["image"] - exact).max() <= 4  # decoders round differently
        assert [found["names"][label] for label in example["labels"]] == [example["id"].decode()[0]]
