"""The general builder: it makes what tfr.convert makes, and never mixes two sources."""

import json
import pathlib
import pickle

import pandas as pd
import pytest
import tensorflow_datasets as tfds

import tfr
from tfr.datasets.annotated_images import annotated_images_dataset_builder as annotated_images
from tfr.errors import AnnotationError, ConversionError, UsageError

DUMMY_DATA = pathlib.Path(annotated_images.__file__).parent / "dummy_data"
DUMMY = {
    "annotations": str(DUMMY_DATA / "annotations.csv"),
    "images": str(DUMMY_DATA / "images"),
    "label_columns": ("tags",),
    "label_delimiter": "|",
    "split_column": "split",
}


class AnnotatedImagesTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = annotated_images.Builder
    SPLITS = {"train": 6, "validation": 2, "test": 2}

    def _make_builder(self, config=None):
        return super()._make_builder(config or annotated_images.AnnotatedImagesConfig(**DUMMY))


@pytest.fixture
def source(tmp_path, write_photos):
    """Thirty images with rows for 31; what is known of label b differs, and one file is broken."""
    images = write_photos([f"{i}.jpg" for i in range(30)])
    (images / "7.jpg").write_bytes(b"not an image")
    rows = [f"{i},{i % 2},{'' if i % 3 == 0 else i % 5 // 4},photo {i}" for i in range(31)]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["id,a,b,title", *rows]))
    return {"annotations": str(path), "images": str(images), "label_columns": ("a", "b")}


def build(data_dir, **options):
    builder = tfds.builder("annotated_images", data_dir=data_dir, **options)
    builder.download_and_prepare()
    return builder


def content(folder):
    """Every shard's bytes, and the other files that say something of the data."""
    names = ("rejected.jsonl", "label_counts.csv", "features.json", "labels.labels.txt")
    paths = [path for path in pathlib.Path(folder).iterdir() if ".tfrecord-" in path.name or path.name in names]
    return {path.name: path.read_bytes() for path in paths}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"keep_columns": ("title",), "image_size": 16, "num_shards": 3},
        {"split_ratios": "train=0.5,test=0.5", "stratify": True},
        {"label_columns": ("a",), "where": "b != 1", "min_label_count": 2},
    ],
)
def test_it_makes_what_convert_makes(source, tmp_path, options):
    made = build(tmp_path / "tfds", **{**source, **options})
    converted = tfr.convert(**{**source, **options}, data_dir=str(tmp_path / "tfr"), name="annotated_images")
    assert content(made.data_dir) == content(converted.dataset_dir)
    assert {name: split.num_examples for name, split in made.info.splits.items()} == converted.records_per_split
    assert made.info.features.keys() == tfds.builder_from_directory(converted.dataset_dir).info.features.keys()
    mine, theirs = (
        json.loads((pathlib.Path(d) / "conversion.json").read_text())["result"]
        for d in (made.data_dir, converted.dataset_dir)
    )
    assert {**mine, "dataset_dir": 0} == {**theirs, "dataset_dir": 0}


def test_every_feature_of_every_example_reads_the_same(source, tmp_path):
    made = build(tmp_path / "tfds", **source, keep_columns=("title",))
    directory = tfr.convert(**source, keep_columns=("title",), data_dir=str(tmp_path), name="other").dataset_dir
    for split in ("train", "validation", "test"):
        pair = (
            tfds.as_numpy(builder.as_dataset(split=split)) for builder in (made, tfds.builder_from_directory(directory))
        )
        for mine, theirs in zip(*pair, strict=True):
            assert set(mine) == {"id", "image", "labels", "labels_unknown", "fingerprint", "title"}
            assert {key: value.tolist() if hasattr(value, "tolist") else value for key, value in mine.items()} == {
                key: value.tolist() if hasattr(value, "tolist") else value for key, value in theirs.items()
            }


def test_folders_and_frames(tmp_path, write_photos):
    folders = write_photos([f"{label}/{i}.jpg" for label in "xy" for i in range(6)])
    single = build(tmp_path / "data", annotations=str(folders), split_ratios="train=1")
    assert single.info.supervised_keys == ("image", "label")
    assert single.info.features["label"].names == ["x", "y"]
    frame = pd.DataFrame({"file": [f"x/{i}.jpg" for i in range(6)], "tags": [["p"], ["p", "q"], []] * 2})
    options = {"annotations": frame, "images": str(folders), "label_columns": ("tags",), "split_ratios": "train=1"}
    assert build(tmp_path / "data", **options).info.features["labels"].feature.names == ["p", "q"]


def modified(folder):
    return {path.name: path.stat().st_mtime_ns for path in pathlib.Path(folder).iterdir()}


def test_other_annotations_images_or_options_are_another_dataset(source, tmp_path, monkeypatch):
    def name(**options):
        return tfds.builder("annotated_images", data_dir=tmp_path, **{**source, **options}).builder_config.name

    first = name()
    assert first == name()
    assert first.startswith("rows_")
    monkeypatch.chdir(tmp_path)
    assert first == name(annotations="rows.csv", images=str(tmp_path / "x" / ".." / "images"))
    assert name(config="My photos!").startswith("my_photos_")
    assert len({first, name(image_size=16), name(label_columns=("a",)), name(split_seed=1)}) == 4
    rows = pathlib.Path(source["annotations"])
    rows.write_text(rows.read_text().replace("photo 3", "photo three"))
    changed = name()
    (pathlib.Path(source["images"]) / "new.jpg").write_bytes(b"")
    assert len({first, changed, name()}) == 3


def test_what_is_there_is_used_and_needs_no_source(source, tmp_path):
    made = build(tmp_path / "data", **source)
    before = modified(made.data_dir)
    again = build(tmp_path / "data", **source)
    assert modified(again.data_dir) == before
    assert again.info.features["labels"].feature.names == ["a", "b"]
    pathlib.Path(source["annotations"]).unlink()
    name = f"annotated_images/{made.builder_config.name}"
    assert len(tfds.load(name, split="train", data_dir=tmp_path / "data")) == made.info.splits["train"].num_examples
    batches = tfr.load(name, split="train", data_dir=str(tmp_path / "data"), image_size=8)
    assert sum(len(labels) for _, labels in batches) == made.info.splits["train"].num_examples


def test_load_with_keywords_and_with_a_config(source, tmp_path):
    loaded, info = tfds.load(
        "annotated_images", data_dir=tmp_path, builder_kwargs=source, split="train", with_info=True
    )
    assert len(loaded) == info.splits["train"].num_examples
    config = annotated_images.AnnotatedImagesConfig(**source, description="Photos.")
    by_config = tfds.builder("annotated_images", data_dir=tmp_path, config=config)
    assert by_config.is_prepared()
    assert by_config.info.full_name == info.full_name
    assert pickle.loads(pickle.dumps(by_config)).info.full_name == info.full_name


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, UsageError, r"wants either `annotations`.*or config=AnnotatedImagesConfig.*`tfr convert`"),
        ({"config": "posters_12"}, UsageError, "No annotated_images/posters_12 is prepared in .*give `annotations`"),
        ({"annotations": "a.csv", "lables": 1}, UsageError, r"unknown options \['lables'\].*label_columns"),
        ({"annotations": "a.csv", "runner": "x"}, UsageError, r"\['runner'\] are for TFDS to say"),
        ({"annotations": "a.csv", "label_mode": "both"}, UsageError, "label_mode must be one of auto, multi, single"),
        ({"annotations": "nowhere/a.csv"}, AnnotationError, "No annotation file at .*nowhere/a.csv"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        build(tmp_path, **options)


def test_of_a_build_with_too_many_rejects_the_list_is_left(source, tmp_path):
    with pytest.raises(
        ConversionError, match=r"1 rows became no example .*max_rejects=0\. .* listed in (.*)\.$"
    ) as error:
        build(tmp_path / "data", **source, max_rejects=0)
    (listed,) = (tmp_path / "data" / "annotated_images").glob("*/*")
    assert str(error.value).endswith(f"listed in {listed}.")
    assert [json.loads(line)["id"] for line in listed.read_text().splitlines()] == ["30"]


def test_building_needs_no_tensorflow(source, tmp_path, run_python):
    script = (
        "import sys, tfr.datasets, tensorflow_datasets as tfds\n"
        f"b = tfds.builder('annotated_images', data_dir={str(tmp_path / 'data')!r}, **{source!r})\n"
        "b.download_and_prepare()\n"
        "print([name for name in ('tensorflow', 'keras') if name in sys.modules])"
    )
    finished = run_python("-c", script, cwd=tmp_path)
    assert finished.stdout.endswith("\n[]\n"), finished.stderr
