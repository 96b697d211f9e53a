"""What the tests of conversions share: small annotations, and looking at what became of them."""

import csv
import json
import pathlib

import numpy as np

from tfr import dataset_dir, shards, splits

LABELS = ["bird", "cat", "dog"]
# What every way of writing annotations says.
IMAGES = {
    "a.jpg": ["cat"], "b.jpg": ["cat", "dog"], "c.jpg": [], "d.jpg": ["dog"], "e/f.jpg": ["bird", "cat"],
    "e/g.jpg": ["bird", "cat", "dog"], "h.jpeg": ["bird"], "ü 猫.jpg": ["cat"],
}  # fmt: skip
ALL_IN_TRAIN = splits.parse_ratios("train=1")


def write_csv(path, rows):
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return str(path)


def one_hot_rows(images):
    return [
        ["image", *LABELS],
        *([name, *(int(label in labels) for label in LABELS)] for name, labels in images.items()),
    ]


def read_all(folder):
    """Every example of a dataset directory by its id; labels by name."""
    builder = dataset_dir.open_builder(str(folder))
    names, key = dataset_dir.label_names(builder), dataset_dir.label_key(builder)
    examples = {}
    for split in builder.info.splits:
        for example in dataset_dir.read_split(builder, split):
            id_ = example["id"].decode()
            assert id_ not in examples
            examples[id_] = {**example, "split": split, "labels": [names[i] for i in np.atleast_1d(example[key])]}
    return examples


def labels_of(folder):
    return {id_: example["labels"] for id_, example in read_all(folder).items()}


def shard_bytes(folder):
    return {path.name: path.read_bytes() for path in sorted(pathlib.Path(folder).glob("*.tfrecord-*"))}


def rejects_of(folder):
    lines = pathlib.Path(folder, "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def assert_clean(folder):
    """Nothing is left of how the dataset came to be."""
    names = [path.name for path in pathlib.Path(folder).rglob("*")]
    assert not [name for name in names if ".tmp-" in name or name.startswith(".") or name.endswith(".progress")]


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in pathlib.Path(folder).iterdir()}


def rewrite(path, change):
    """Writes a shard again, frames right, with other records: change(list of tf.Example protos)."""
    from tensorflow_datasets.proto import tf_example_pb2

    examples = [tf_example_pb2.Example.FromString(record) for record in shards.read_records(str(path))]
    change(examples)
    with shards.create(str(path)) as writer:
        for example in examples:
            record = example.SerializeToString(deterministic=True)
            writer.write(record, *shards.frame(record))
