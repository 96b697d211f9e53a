"""The run file that is written by a look at the annotations, and the guesses in it."""

import json
import re

import pandas as pd
import pytest
import yaml
from conversion_checks import write_csv

from tfr import starting_file
from tfr.annotations import first_rows
from tfr.errors import UsageError


@pytest.fixture
def products(tmp_path, write_photos, monkeypatch):
    """A table with several columns that could be labels, in the working directory, with an image folder beside it."""
    monkeypatch.chdir(tmp_path)
    write_photos([f"{i}.jpg" for i in range(12)], folder="photos")
    (tmp_path / "other").mkdir()
    header = ["number", "file", "country", "pattern", "kind", "note"]
    rows = [
        [i, f"{i}.jpg", "RU" if i % 2 else "PL", f"pattern {i % 3}", "x", "" if i else "# note: 'yes'"]
        for i in range(12)
    ]
    write_csv(tmp_path / "products.csv", [header, *rows])
    return tmp_path


def test_columns_are_guessed_and_every_other_guess_is_shown(products):
    text = starting_file.make("products.csv")
    found = yaml.safe_load(text)
    assert found["dir"] == "products_tagger"
    assert found["convert"] == {
        "annotations": "products.csv",
        "format": "csv",
        "images": "photos",
        "image_column": "file",
        "label_columns": ["pattern"],
    }
    assert "  # label_columns: [country]  # such as PL\n" in text
    assert "number, file, country, pattern, kind, note" in text
    del products


def test_what_was_guessed_converts(products, run_tfr):
    starting_file.write("run.yaml", starting_file.make("products.csv"))
    finished = run_tfr("run", "run.yaml", "--dry_run", cwd=products)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert re.match(r"check +runs: not run yet\n", finished.stdout)


def table(tmp_path, header, rows, name="a.csv"):
    write_csv(tmp_path / name, [header, *rows])
    return first_rows.look(str(tmp_path / name), name.rpartition(".")[2])


def test_ranges_of_flags_are_labels(tmp_path):
    rows = [[f"t{i}", 1, i % 2, i % 3 // 2, f"word {i}", 0, 1] for i in range(9)]
    found = table(tmp_path, ["Id", "a", "b", "c", "note", "d", "e"], rows)
    assert (found.id, found.image) == ("Id", None)
    assert [found.labels, *found.other_labels] == ["a:c", "d:e"]


def test_usual_names_come_first(tmp_path):
    rows = [[f"{i}.jpg", "a|b", "x" if i % 2 else "y", "train" if i % 3 else "val"] for i in range(9)]
    found = table(tmp_path, ["where", "Tags", "other", "part"], rows)
    assert (found.image, found.labels, found.other_labels) == ("where", "Tags", ["other"])
    assert (found.label_delimiter, found.split) == ("|", "part")


def test_nothing_is_guessed_where_nothing_fits(tmp_path):
    found = table(tmp_path, ["x", "y"], [[i / 7, f"text {i}"] for i in range(9)])
    assert (found.image, found.id, found.labels, found.split) == (None, None, None, None)


@pytest.mark.parametrize("kind", ["json", "jsonl", "parquet", "tsv"])
def test_every_kind_of_table_is_looked_at(kind, tmp_path):
    rows = [{"image": f"{i}.jpg", "labels": ["x", "y"] if i % 2 else ["x"]} for i in range(6)]
    path = tmp_path / f"a.{kind}"
    if kind == "json":
        path.write_text(json.dumps(rows))
    elif kind == "jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    elif kind == "parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        path.write_text("image\tlabels\n0.jpg\t['x']\n")
    found = first_rows.look(str(path), kind)
    assert (found.image, found.labels) == ("image", "labels")
    assert found.sample("image") == "0.jpg"


def test_folders_need_no_columns(tmp_path, write_photos):
    folder = write_photos([f"{label}/{i}.jpg" for label in "ab" for i in range(2)])
    found = yaml.safe_load(starting_file.make(str(folder)))
    assert found["convert"] == {"annotations": str(folder), "format": "folders"}
    assert first_rows.look(str(folder), "folders") is None
    del tmp_path


def test_names_that_yaml_would_take_for_something_else_are_quoted(tmp_path):
    write_csv(tmp_path / "a.csv", [["no", "on: [it]"], *([f"{i}.jpg", "x" if i % 2 else "y"] for i in range(4))])
    found = yaml.safe_load(starting_file.make(str(tmp_path / "a.csv")))["convert"]
    assert (found["image_column"], found["label_columns"]) == ("no", ["on: [it]"])


def test_a_file_that_is_there_is_kept(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("mine")
    with pytest.raises(UsageError, match=r"run\.yaml is there already"):
        starting_file.write(str(path), "new")
    assert path.read_text() == "mine"
