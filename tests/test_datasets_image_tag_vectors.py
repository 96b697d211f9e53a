"""The builder of images with pickled tag vectors."""

import json

import tensorflow_datasets as tfds

from tfr.datasets.image_tag_vectors import image_tag_vectors_dataset_builder as image_tag_vectors

DUMMY_DATA = image_tag_vectors.Builder.code_path.parent / "dummy_data"


class ImageTagVectorsTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = image_tag_vectors.Builder
    SPLITS = {"train": 6, "validation": 3}


def build(data_dir, manual_dir=DUMMY_DATA):
    builder = tfds.builder("image_tag_vectors", data_dir=data_dir)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
    return builder


def test_label_names_come_with_the_data(tmp_path):
    assert tfds.builder("image_tag_vectors", data_dir=tmp_path).info.features["labels"].feature.num_classes is None
    built = build(tmp_path)
    again = tfds.builder("image_tag_vectors", data_dir=tmp_path)
    without_code = tfds.builder_from_directory(built.data_path)
    for builder in (built, again, without_code):
        for key in ("labels", "labels_unknown"):
            assert builder.info.features[key].feature.names == ["people", "sky", "tree", "water"]


def test_labels_and_what_is_not_known(tmp_path):
    builder = build(tmp_path)
    names = builder.info.features["labels"].feature.names
    found = {
        example["id"].decode(): [[names[i] for i in example[key]] for key in ("labels", "labels_unknown")]
        for split in builder.info.splits
        for example in tfds.as_numpy(builder.as_dataset(split=split))
    }
    assert found["water/water_3.jpg"] == [["water"], ["people"]]
    assert found["sky/sky_0.jpg"] == [["sky", "tree"], []]


def test_rows_without_an_image_and_images_without_a_row_are_listed(tmp_path):
    builder = build(tmp_path)
    (reject,) = map(json.loads, (builder.data_path / "rejected.jsonl").read_text().splitlines())
    assert (reject["id"], reject["reason"]) == ("sky/missing.jpg", "no_image")
    assert (builder.data_path / "images_without_row.txt").read_text() == "train/tree/unlisted.jpg\n"


def test_real_sample(shared_data, tmp_path):
    builder = build(tmp_path, shared_data / "pickles_sample" / "data")
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {"train": 96, "validation": 24}
    assert builder.info.features["labels"].feature.num_classes == 20
