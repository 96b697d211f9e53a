"""Predictions to files: every format holds what was predicted, and nothing half-written is left."""

import csv
import json

import numpy as np
import pandas as pd
import pytest

from tfr.errors import UsageError
from tfr.train.prediction import output as prediction_output
from tfr.train.prediction import rows
from tfr.train.prediction.rows import OutputOptions
from tfr.train.prediction.tags import Prediction, TagRule

LABELS = ["cat", "image", "dög, big"]  # one is called like a column, one wants quoting
PROBABILITIES = np.array([[0.9, 0.123456789, 0.4], [0.1, 0.2, 0.05]], np.float32)


def make_rule(**changes):
    settings = {"labels": LABELS, "limits": np.array([0.5, 0.1, 0.5]), "multi_label": True, "top_k": 2}
    return TagRule(**{**settings, "only_above": False, **changes})


def predictions(rule):
    values = dict(zip(("a.jpg", "sub/b.jpg"), PROBABILITIES, strict=True))
    targets = {"a.jpg": np.array([1, -1, 0], np.float32), "sub/b.jpg": np.zeros(3, np.float32)}
    good = [
        Prediction(
            image=name, tags=rule.tags(p), probabilities=p, target=targets[name], embedding=np.float32([p[0], 2, 3])
        )
        for name, p in values.items()
    ]
    return [good[0], Prediction(image="caf\udce9.jpg", error="missing: there is no such file"), good[1]]


def write(path, **options):
    rule = options.pop("rule", make_rule())
    format = prediction_output.choose_format(None, str(path))
    prediction_output.write(predictions(rule), str(path), OutputOptions(rule=rule, format=format, **options))
    return path


# Which labels become tags


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["cat", "dög, big"]),
        ({"top_k": None}, ["cat", "dög, big", "image"]),
        ({"only_above": True}, ["cat", "image"]),
        ({"only_above": True, "top_k": 1}, ["cat"]),
        ({"only_above": True, "limits": np.full(3, 0.95)}, []),
        ({"only_above": True, "multi_label": False, "limits": np.zeros(3)}, ["cat"]),
        ({"only_above": True, "multi_label": False, "limits": np.full(3, 0.95)}, []),
    ],
)
def test_tags_are_the_likeliest_or_those_above_their_limits(changes, expected):
    assert [tag.label for tag in make_rule(**changes).tags(PROBABILITIES[0])] == expected


def test_a_probability_at_the_limit_counts():
    assert make_rule(limits=PROBABILITIES[0].astype(float)).decide(PROBABILITIES[0]).all()


# Formats


def test_jsonl(tmp_path):
    path = write(tmp_path / "x.jsonl", all_labels="binary", targets=True, embeddings=True)
    first, bad, _ = map(json.loads, path.read_text("utf-8").splitlines())
    assert first == {
        "image": "a.jpg",
        "tags": {"cat": 0.9, "dög, big": 0.4},
        "targets": ["cat"],
        "targets_unknown": ["image"],
        "labels": {"cat": 1, "image": 1, "dög, big": 0},
        "embedding": [0.9, 2.0, 3.0],
        "error": None,
    }
    assert list(first)[-1] == "error"
    assert bad["image"] == "caf\\udce9.jpg"
    assert (bad["error"], bad["tags"], bad["labels"]) == ("missing: there is no such file", {}, {})


def test_csv_of_names_with_line_breaks(tmp_path):
    found = [Prediction(image=name, error=f"missing: {name}") for name in ("a\nb.jpg", "c\rd.jpg", "e.jpg")]
    prediction_output.write(found, str(tmp_path / "x.csv"), OutputOptions(rule=make_rule(), format="csv"))
    with open(tmp_path / "x.csv", encoding="utf-8", newline="") as file:
        assert [(row["image"], row["error"]) for row in csv.DictReader(file)] == [
            (one.image, one.error) for one in found
        ]


def test_csv(tmp_path):
    with open(write(tmp_path / "x.csv", all_labels="probabilities"), encoding="utf-8", newline="") as file:
        first, bad, second = csv.DictReader(file)
    assert list(first) == ["image", "tags", "probabilities", "cat", "label:image", "dög, big", "error"]
    assert first == {
        "image": "a.jpg", "tags": "cat|dög, big", "probabilities": "0.9|0.4", "cat": "0.9", "label:image": "0.123457",
        "dög, big": "0.4", "error": "",
    }  # fmt: skip
    assert (bad["tags"], bad["cat"], bad["error"]) == ("", "", "missing: there is no such file")
    assert second["tags"] == "image|cat"


def test_binary_columns_are_the_decisions(tmp_path):
    rule = make_rule(only_above=True)
    table = pd.read_csv(write(tmp_path / "x.csv", all_labels="binary", rule=rule), keep_default_na=False)
    assert table["cat"].tolist() == ["1", "", "0"] or table["cat"].tolist() == [1, "", 0]
    decided = table[table["error"] == ""][["cat", "label:image", "dög, big"]].astype(int).to_numpy()
    np.testing.assert_array_equal(decided, [rule.decide(p) for p in PROBABILITIES])
    assert table["tags"].tolist() == ["cat|image", "", "image"]


def test_parquet_keeps_every_bit_and_type(tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_output, "_ROW_GROUP", 2)  # so that there are two of them
    table = pd.read_parquet(write(tmp_path / "x.parquet", all_labels="probabilities", embeddings=True, targets=True))
    assert table["image"].tolist() == ["a.jpg", "caf\\udce9.jpg", "sub/b.jpg"]
    assert table["cat"].dtype == np.float32
    np.testing.assert_array_equal(table[["cat", "label:image", "dög, big"]].to_numpy()[[0, 2]], PROBABILITIES)
    assert table["embedding"][0].dtype == np.float32
    assert table["embedding"][2].tolist() == [PROBABILITIES[1, 0], 2, 3]
    assert [list(tags) for tags in table["tags"]] == [["cat", "dög, big"], [], ["image", "cat"]]
    assert list(table["targets"][0]) == ["cat"]
    assert table["error"].notna().tolist() == [False, True, False]
    binary = pd.read_parquet(write(tmp_path / "y.parquet", all_labels="binary"))
    assert binary["cat"].dropna().tolist() == [1, 0]


def test_npz(tmp_path):
    with np.load(write(tmp_path / "x.npz", embeddings=True, targets=True)) as arrays:
        np.testing.assert_array_equal(arrays["probabilities"], PROBABILITIES)
        assert arrays["images"].tolist() == ["a.jpg", "sub/b.jpg"]
        assert arrays["labels"].tolist() == LABELS
        assert arrays["embeddings"].shape == (2, 3)
        assert arrays["targets"][0].tolist() == [1, -1, 0]
        assert arrays["bad_images"].tolist() == ["caf\\udce9.jpg"]
        assert arrays["errors"].tolist() == ["missing: there is no such file"]


def test_text_marks_what_is_above_its_limit(tmp_path):
    text = write(tmp_path / "x.txt").read_text("utf-8")
    assert text == (
        "a.jpg\n  * cat       0.9000\n    dög, big  0.4000\nsub/b.jpg\n  * image  0.2000\n    cat    0.1000\n"
    )
    none = make_rule(only_above=True, limits=np.ones(3))
    assert "(no tags)" in prediction_output.text(predictions(none)[0], none)


# Files


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv", "x.parquet", "x.npz"])
def test_nothing_is_left_of_a_job_that_breaks(name, tmp_path):
    def breaking():
        yield predictions(make_rule())[0]
        raise RuntimeError("power failure")

    options = OutputOptions(rule=make_rule(), format=prediction_output.choose_format(None, name))
    (tmp_path / name).write_text("of an earlier run")
    with pytest.raises(RuntimeError, match="power failure"):
        prediction_output.write(breaking(), str(tmp_path / name), options)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "of an earlier run")]


@pytest.mark.parametrize(
    ("format", "output", "expected"),
    [
        (None, None, "text"),
        ("csv", None, "csv"),
        (None, "a.b/X.CSV", "csv"),
        (None, "gs://b/x.parquet", "parquet"),
        ("jsonl", "x.txt", "jsonl"),
        ("csv", "x", "csv"),
    ],
)
def test_the_format_is_the_one_asked_for_or_the_one_of_the_name(format, output, expected):
    assert prediction_output.choose_format(format, output) == expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: prediction_output.choose_format(None, "x.xls"), r"--output=x\.xls does not say.*\.parquet"),
        (lambda: prediction_output.choose_format("npz", None), "--format=npz needs --output=FILE"),
        (lambda: prediction_output.choose_format("xls", None), "--format must be one of text, jsonl, csv"),
        (lambda: rows.check(format="csv", all_labels="none", embeddings=True), r"--embeddings.*parquet"),
        (lambda: rows.check(format="text", all_labels="binary", embeddings=False), "--all_labels=binary"),
        (lambda: OutputOptions(rule=make_rule(labels=["a|b"]), format="csv"), r"'\|' between tags.*'a\|b'"),
    ],
)
def test_what_a_format_cannot_hold_is_said(call, message):
    with pytest.raises(UsageError, match=message):
        call()
