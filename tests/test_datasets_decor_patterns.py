"""The builder of the decors, on its dummy data and, where it is there, on the real set."""

import collections
import json

import pytest
import tensorflow_datasets as tfds

from tfr.datasets.decor_patterns import decor_patterns_dataset_builder as decor_patterns

DUMMY_DATA = decor_patterns.Builder.code_path.parent / "dummy_data"


class ProductsTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = decor_patterns.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["products"]
    SPLITS = {"train": 14, "validation": 3, "test": 4}


class PatternsTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = decor_patterns.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["patterns"]
    SPLITS = {"train": 19, "validation": 1, "test": 1}


class WholeTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = decor_patterns.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["countries", "all"]
    SPLITS = {"train": 33, "validation": 4, "test": 5}


@pytest.fixture
def build(tmp_path):
    """build(config, manual_dir): a prepared builder."""

    def make(config, manual_dir=DUMMY_DATA):
        builder = tfds.builder(f"decor_patterns/{config}", data_dir=tmp_path)
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
        return builder

    return make


def examples(builder):
    return [
        example
        for split in builder.info.splits
        for example in tfds.as_numpy(builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()}))
    ]


def test_products_are_those_of_the_column_that_is_right(build):
    found = examples(build("products"))
    names = decor_patterns.DECORS
    counts = collections.Counter(names[example["label"]] for example in found)
    assert counts == dict.fromkeys(names, 3), "type_label calls the products of Iznik and Neglyubka patterns"
    assert {example["type"] for example in found} == {b"product"}


def test_the_other_columns_are_kept(build):
    for example in examples(build("countries")):
        country = decor_patterns.COUNTRIES[example["label"]]
        decor = example["decor"].decode()
        assert (decor == "Iznik") == (country == "Turkey")
        assert decor in decor_patterns.DECORS


def test_transparency_becomes_white_jpeg(build):
    builder = build("patterns")
    for example in examples(builder):
        assert example["image"].startswith(b"\xff\xd8")
    (example,) = tfds.as_numpy(builder.as_dataset(split="test"))
    assert example["image"][0].min() > 200, "the upper rows are transparent"


def test_supervised(build):
    image, label = next(iter(tfds.as_numpy(build("all").as_dataset(split="train", as_supervised=True))))
    assert (image.shape, label.dtype) == ((12, 12, 3), "int64")


@pytest.mark.parametrize(
    ("config", "num_records", "num_labels"),
    [("products", 285, 7), ("patterns", 200, 7), ("countries", 485, 4), ("all", 485, 7)],
)
def test_real_set(shared_data, build, config, num_records, num_labels):
    builder = build(config, shared_data / "decor")
    found = examples(builder)
    assert len(found) == num_records == builder.info.metadata["records_written"]
    assert len({example["label"] for example in found}) == num_labels
    rejected = (builder.data_path / "rejected.jsonl").read_text().splitlines()
    assert not [json.loads(line) for line in rejected]
