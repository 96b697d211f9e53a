"""The builder of the movie posters, on its dummy data."""

import json

import pytest
import tensorflow_datasets as tfds

from tfr.datasets.movie_posters import movie_posters_dataset_builder as movie_posters

DUMMY_DATA = movie_posters.Builder.code_path.parent / "dummy_data"
FIRST_8 = movie_posters.MoviePostersConfig(name="first_8", first_rows=8, num_validation=3)


class AllTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = movie_posters.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["all"]
    SPLITS = {"train": 7, "validation": 1, "test": 2}


class FrequentTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = movie_posters.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["frequent"]
    SPLITS = {"train": 6, "validation": 1, "test": 2}


class FirstRowsTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = movie_posters.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = [FIRST_8]
    SPLITS = {"train": 5, "validation": 3}


@pytest.fixture
def build(tmp_path):
    """build(config, manual_dir): a prepared builder."""

    def make(config=None, manual_dir=DUMMY_DATA):
        builder = tfds.builder("movie_posters", data_dir=tmp_path, config=config)
        download_config = tfds.download.DownloadConfig(manual_dir=manual_dir)
        builder.download_and_prepare(download_config=download_config)
        return builder

    return make


def rejects(builder):
    lines = (builder.data_path / "rejected.jsonl").read_text().splitlines()
    return sorted((reject["id"], reject["reason"]) for reject in map(json.loads, lines))


def test_what_is_not_in_the_records_is_counted_and_listed(build):
    builder = build("frequent")
    assert rejects(builder) == [
        ("tt0000103", "duplicate_id"),
        ("tt0000105", "no_genre"),
        ("tt0000110", "no_image"),
        ("tt0000112", "truncated"),
    ]
    metadata = tfds.builder("movie_posters/frequent", data_dir=builder.data_dir_root).info.metadata
    assert metadata["rows_read"] == 13 == metadata["records_written"] + sum(metadata["rejects_by_reason"].values())
    assert metadata["dropped_labels"] == {"News": 1}


def test_posters_without_a_row_are_listed(build):
    assert (build().data_path / "images_without_row.txt").read_text() == "tt0000199.jpg\n"


def test_rows_of_one_id_are_merged(build):
    builder = build()
    names = builder.info.features["labels"].feature
    labels = {
        example["id"].decode(): {names.int2str(label) for label in example["labels"]}
        for split in builder.info.splits
        for example in tfds.as_numpy(builder.as_dataset(split=split))
    }
    assert labels["tt0000103"] == {"Action", "Sci-Fi", "Thriller"}
    assert labels["tt0000111"] == {"News", "Documentary"}


def test_validation_has_the_number_that_is_asked_for():
    events = list(movie_posters.read_rows(str(DUMMY_DATA / "train.csv"), FIRST_8))
    splits = [event.split for event in events]
    assert len(events) == 8
    assert (splits.count("validation"), splits.count("train")) == (3, 5)
    assert splits != sorted(splits), "the order of the table is not random: the split must not follow it"


def test_info_is_there_before_and_after_the_data(build, tmp_path):
    before = tfds.builder("movie_posters", data_dir=tmp_path).info
    for info in (before, build().info):
        assert info.description.startswith("Movie posters")
        assert "Chu" in info.citation
        assert info.supervised_keys == ("image", "labels")
        assert info.features["labels"].feature.names == list(movie_posters.GENRES)


@pytest.mark.parametrize(
    ("config", "splits", "rejects"),
    [
        ("all", {"train": 2428, "validation": 268, "test": 301}, {"duplicate_id": 3, "no_image": 100}),
        ("frequent", {"train": 2428, "validation": 268, "test": 301}, {"duplicate_id": 3, "no_image": 100}),
        ("first_3000", {"train": 2397, "validation": 600}, {"duplicate_id": 3}),
    ],
)
def test_real_set(shared_data, build, config, splits, rejects):
    info = build(config, shared_data / "movie_posters").info
    assert {name: split.num_examples for name, split in info.splits.items()} == splits
    assert info.metadata["rejects_by_reason"] == rejects
    assert info.metadata["images_without_row"] == 120
