"""What a builder writes is what `tfr convert` writes of the same rows."""

import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

import tfr
from tfr import shards
from tfr.datasets.decor_patterns import decor_patterns_dataset_builder as decor_patterns
from tfr.datasets.mirflickr25k import mirflickr25k_dataset_builder as mirflickr
from tfr.datasets.movie_posters import movie_posters_dataset_builder as movie_posters

# builder: annotations and image folder below its dummy data, options of the conversion, columns that it cannot have
CASES = {
    "movie_posters/all": (
        "train.csv", "Images",
        {
            "id_column": "Id", "image_template": "{Id}.jpg", "label_columns": ("Action:Western",),
            "labels": movie_posters.GENRES,
        }, (),
    ),
    "decor_patterns/products": (
        "decor.csv", "",
        {
            "image_column": "file", "label_columns": ("decor",), "where": "type == 'product'",
            "keep_columns": ("country", "type"), "labels": decor_patterns.DECORS,
        }, (),
    ),
    "image_tag_vectors": ("meta", "images", {"has_unknown": True}, ()),
    "mirflickr25k/relevant": (
        "mirflickr25k_annotations_v080", "",
        {"mirflickr_labels": "salient", "keep_columns": ("license",), "labels": mirflickr.RELEVANT}, ("photographer",),
    ),
    "mirflickr25k/tags": (
        "mirflickr25k_annotations_v080", "",
        {"mirflickr_labels": "tags", "keep_columns": ("license",), "labels": ("sky", "blue", "nikon", "macro")},
        ("photographer",),
    ),
}  # fmt: skip
OURS = ("rejected.jsonl", "label_counts.csv")


def read_examples(folder, without):
    """File name to its examples, as they are stored, without some features."""
    found = {}
    for path in sorted(folder.glob("*.tfrecord-*")):
        found[path.name] = [tf_example_pb2.Example.FromString(record) for record in shards.read_records(str(path))]
        for example in found[path.name]:
            for name in without:
                del example.features.feature[name]
    return found


@pytest.mark.parametrize("case", CASES)
def test_records_are_those_of_a_conversion(case, tmp_path):
    annotations, images, options, without = CASES[case]
    builder = tfds.builder(case, data_dir=tmp_path / "built")
    dummy_data = builder.code_path.parent / "dummy_data"
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=dummy_data))
    result = tfr.convert(
        str(dummy_data / annotations),
        images=str(dummy_data / images),
        data_dir=str(tmp_path / "converted"),
        name=builder.name,
        **options,
    )
    converted = tfds.builder_from_directory(result.dataset_dir)
    examples = read_examples(builder.data_path, without)
    assert examples == read_examples(converted.data_path, ())
    assert sum(map(len, examples.values())) == result.records_written > 0
    assert set(builder.info.features) - set(without) == set(converted.info.features)
    assert builder.info.splits.keys() == converted.info.splits.keys()
    for name, split in builder.info.splits.items():
        assert split.shard_lengths == converted.info.splits[name].shard_lengths
    for path in (*builder.data_path.glob("*.labels.txt"), *map(builder.data_path.joinpath, OURS)):
        assert path.read_text() == (converted.data_path / path.name).read_text()
