import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from tfr.errors import UsageError
from tfr.features import RESERVED, RecordSchema

NAMES = ("bird", "cat", "Ünïcode 猫", "dog")

# What a record holds, and what it should come back as.
CASES = {
    "multi-label": (RecordSchema(NAMES), {"labels": [0, 3]}),
    "no labels": (RecordSchema(NAMES), {"labels": []}),
    "single-label": (RecordSchema(NAMES, multi_label=False), {"labels": [2]}),
    "unknown": (RecordSchema(NAMES, has_unknown=True), {"labels": [1], "unknown": [0, 2]}),
    "nothing unknown": (RecordSchema(NAMES, has_unknown=True), {"labels": [1, 2]}),
    "columns": (
        RecordSchema(NAMES, columns=("title", "year")),
        {"labels": [1], "columns": {"title": "猫", "year": ""}},
    ),
    "everything": (
        RecordSchema(NAMES, has_unknown=True, columns=("title",)),
        {"labels": [0, 1], "unknown": [3], "columns": {"title": "x" * 300}, "fingerprint": -(2**63)},
    ),
    "largest fingerprint": (RecordSchema(NAMES), {"labels": [0], "fingerprint": 2**63 - 1}),
}


def row_of(values, jpeg):
    return {"id": "a/ü.jpg", "image": jpeg, "unknown": [], "fingerprint": 5, "columns": {}, **values}


def example_of(schema, row):
    """A row as TFDS wants it."""
    example = {"id": row["id"], "image": row["image"], "fingerprint": row["fingerprint"], **row["columns"]}
    example |= {"labels": row["labels"]} if schema.multi_label else {"label": row["labels"][0]}
    return example | ({"labels_unknown": row["unknown"]} if schema.has_unknown else {})


@pytest.fixture(scope="module")
def jpeg(make_photo, encode):
    return encode(make_photo())


@pytest.mark.parametrize("case", CASES)
def test_serialize_agrees_with_tfds(case, jpeg):
    schema, values = CASES[case]
    row = row_of(values, jpeg)
    ours = tf_example_pb2.Example.FromString(schema.serialize(**row))
    theirs = tf_example_pb2.Example.FromString(schema.features.serialize_example(example_of(schema, row)))
    assert ours == theirs


@pytest.mark.parametrize("case", CASES)
def test_records_come_back(case, jpeg):
    schema, values = CASES[case]
    row = row_of(values, jpeg)
    decoders = {"image": tfds.decode.SkipDecoding()}
    read = schema.features.deserialize_example_np(schema.serialize(**row), decoders=decoders)
    expected = example_of(schema, row)
    assert set(read) == set(expected)
    assert read["image"] == jpeg
    assert read["id"].decode() == row["id"]
    assert read["fingerprint"] == row["fingerprint"]
    for name in {"labels", "label", "labels_unknown"} & set(expected):
        np.testing.assert_array_equal(read[name], np.asarray(expected[name], np.int64))
    for name, text in row["columns"].items():
        assert read[name].decode() == text


def test_bytes_are_deterministic(jpeg):
    schema = RecordSchema(NAMES, columns=("a", "b", "c"))
    row = row_of({"labels": [1], "columns": {"a": "1", "b": "2", "c": "3"}}, jpeg)
    names = sorted(schema.features)
    turned = {name: row[name] for name in reversed(row)} | {"columns": {"c": "3", "b": "2", "a": "1"}}
    assert schema.serialize(**row) == schema.serialize(**turned)
    places = [
        schema.serialize(**row | {"image": b""}).index(b"\n" + bytes([len(name)]) + name.encode()) for name in names
    ]
    assert places == sorted(places)


def test_supervised_keys_are_features():
    for multi_label in (True, False):
        schema = RecordSchema(NAMES, multi_label)
        assert set(schema.supervised_keys) <= set(schema.features)


def test_the_schema_survives_its_file(tmp_path):
    schema = RecordSchema(NAMES, has_unknown=True, columns=("title",))
    schema.features.save_config(tmp_path)
    loaded = tfds.features.FeaturesDict.from_config(tmp_path)
    assert loaded["labels"].feature.names == list(NAMES)
    assert {name: feature.dtype for name, feature in loaded.items()} == {
        name: feature.dtype for name, feature in schema.features.items()
    }


@pytest.mark.parametrize("columns", [*((name,) for name in RESERVED), ("a-b",), ("",), ("1st",), ("title", "title")])
def test_columns_that_cannot_be_features_are_refused(columns):
    with pytest.raises(UsageError, match=f"--keep_columns: .*{columns[-1]!r}.* cannot be feature names"):
        RecordSchema(NAMES, columns=columns)
