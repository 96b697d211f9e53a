"""A dataset directory as input: split anew, relabelled, filtered, the images byte for byte the same."""

import pandas as pd
import pytest

from tfr import annotations, conversion, dataset_dir, files
from tfr.annotations import Annotation, ReadOptions
from tfr.config import ConvertConfig
from tfr.errors import AnnotationError, DatasetError
from tfr.splits import SplitRatios


@pytest.fixture(scope="module", name="dataset")
def _dataset(tmp_path_factory, make_photo, encode):
    """A dataset of 24 images in two splits, with a label column, unknown labels and a kept column."""
    root = tmp_path_factory.mktemp("first")
    (root / "images").mkdir()
    for i in range(24):
        (root / "images" / f"{i:02}.jpg").write_bytes(encode(make_photo(i)))
    table = pd.DataFrame(
        {
            "image": [f"{i:02}.jpg" for i in range(24)],
            "x": ["1", "0", "1"] * 8,
            "y": ["0", "1", ""] * 8,
            "part": ["train", "train", "test"] * 8,
            "who": [f"p{i % 5}" for i in range(24)],
        }
    )
    read = ReadOptions(label_columns=("x", "y"), split_column="part", keep_columns=("who",))
    return _convert(root, "first", table, images=str(root / "images"), read=read)


def _convert(root, name, source, **config):
    config = {"split_ratios": SplitRatios({"train": 0.5, "test": 0.5}), "num_shards": 2, **config}
    return conversion.convert(ConvertConfig(annotations=source, data_dir=str(root), name=name, **config)).dataset_dir


def _examples(path):
    """{id: (split, labels, unknown, image)} with labels by name."""
    builder = dataset_dir.open_builder(path)
    names = dataset_dir.label_names(builder)
    return {
        example["id"].decode(): (
            split,
            [names[i] for i in example["labels"]],
            [names[i] for i in example.get("labels_unknown", ())],
            example["image"],
        )
        for split in builder.info.splits
        for example in dataset_dir.read_split(builder, split)
    }


def test_rows(dataset):
    assert annotations.detect_format(dataset) == ("tfds", "there is a dataset_info.json")
    options = ReadOptions(keep_columns=("who",), group_column="who", where="who in ('p0', 'p1') and split == 'train'")
    rows = [event for event in annotations.read(dataset, options=options) if isinstance(event, Annotation)]
    assert {row.id for row in rows} == {"00.jpg", "01.jpg", "06.jpg", "10.jpg", "15.jpg", "16.jpg", "21.jpg"}
    (row,) = [row for row in rows if row.id == "06.jpg"]
    assert (row.labels, row.unknown, row.split, row.group, row.columns) == (("x",), (), "train", "p1", {"who": "p1"})
    assert files.read_bytes(row.image) == _examples(dataset)["06.jpg"][3]


def test_converted_again_it_is_the_same(dataset, tmp_path):
    assert _examples(_convert(tmp_path, "second", dataset)) == _examples(dataset)


def test_split_anew_and_relabelled(dataset, tmp_path):
    table = tmp_path / "map.csv"
    table.write_text("from,to\nx,z\n")
    again = _convert(
        tmp_path, "second", dataset, label_map=str(table), read=ReadOptions(ignore_splits=True), stratify=True
    )
    before, after = _examples(dataset), _examples(again)
    assert {id_: row[3] for id_, row in after.items()} == {id_: row[3] for id_, row in before.items()}
    for id_, (_, labels, unknown, _) in before.items():
        assert after[id_][1:3] == (sorted("z" if name == "x" else name for name in labels), unknown)
    assert sum(row[0] == "train" for row in after.values()) == 12
    assert sum(row[0] == "train" for row in before.values()) == 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"where": "kind == 1"}, r"no column 'kind' \(from --where\).*'split', 'fingerprint', 'id', 'labels'"),
        ({"keep_columns": ("kind",)}, r"no features \['kind'\]. The features are: \['split'"),
    ],
)
def test_unknown_features(dataset, options, message):
    with pytest.raises(AnnotationError, match=message):
        list(annotations.read(dataset, options=ReadOptions(**options)))


def test_no_dataset(tmp_path):
    with pytest.raises(DatasetError, match="not a dataset directory"):
        list(annotations.read(tmp_path, "tfds"))
