"""The data set that draws itself."""

import pathlib

import pytest
import tensorflow_datasets as tfds

import tfr
from tfr import synthetic
from tfr.datasets.synthetic_shapes import synthetic_shapes_dataset_builder as synthetic_shapes
from tfr.train.commands import demo


class SyntheticShapesTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = synthetic_shapes.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["tiny"]
    SPLITS = {"train": 50, "validation": 6, "test": 4}


@pytest.fixture(scope="module")
def messy(tmp_path_factory):
    config = synthetic_shapes.SyntheticShapesConfig(name="messy", num_images=40, seed=3, messy=True)
    builder = tfds.builder("synthetic_shapes", config=config, data_dir=tmp_path_factory.mktemp("data"))
    builder.download_and_prepare()
    return builder


def shards(folder):
    return {path.name: path.read_bytes() for path in pathlib.Path(folder).glob("*.tfrecord-*")}


def test_records_are_those_of_a_conversion_of_the_drawings(messy, tmp_path):
    annotations, images = synthetic.write_image_set(str(tmp_path), 40, seed=3)
    converted = tfr.convert(
        annotations,
        images=images,
        data_dir=str(tmp_path),
        name="synthetic_shapes",
        label_delimiter="|",
        labels=synthetic.LABELS,
    )
    assert shards(messy.data_dir) == shards(converted.dataset_dir)
    assert sum(split.num_examples for split in messy.info.splits.values()) == 42  # two of the messes are mended


def test_the_messes_are_listed(messy):
    lines = pathlib.Path(messy.data_dir, "rejected.jsonl").read_text().splitlines()
    assert len(lines) == 5
    assert "gone.jpg" in "".join(lines)


def test_the_default_is_what_the_demo_draws():
    config = synthetic_shapes.Builder.default_builder_config
    assert (config.num_images, config.messy) == (demo.FLAGS.values["num_images"].default, True)
