"""`tfr new`: the folder that it makes is a TFDS builder that works as it stands."""

import ast
import importlib.resources
import os
import pathlib
import subprocess
import sys

import pytest
import tensorflow_datasets as tfds

import tfr
from tfr import cli, scaffolding
from tfr.errors import UsageError

NAME = "my_pets"
FILES = {
    "__init__.py",
    "my_pets_dataset_builder.py",
    "my_pets_dataset_builder_test.py",
    "README.md",
    "CITATIONS.bib",
    "TAGS.txt",
    "checksums.tsv",
    "dummy_data",
}


@pytest.fixture
def folder(tmp_path):
    return pathlib.Path(scaffolding.write_builder(NAME, str(tmp_path / "builders")))


def test_the_folder_has_tfdss_layout_and_nothing_to_fill_in_is_left_open(folder):
    assert {path.name for path in folder.iterdir()} == FILES
    assert [path.name for path in folder.parent.iterdir()] == [NAME]
    assert len(list((folder / "dummy_data" / "images").iterdir())) == 10
    for path in folder.iterdir():
        if path.is_file():
            assert "$" not in path.read_text()
        if path.suffix == ".py":
            ast.parse(path.read_text())


def test_every_template_is_used():
    templates = importlib.resources.files(tfr).joinpath("builder_template").iterdir()
    assert {path.name for path in templates} == set(scaffolding._FILES.values())


def test_its_test_passes_as_it_stands(folder):
    # In a process of its own, as a user runs it: not with this repository's pytest settings.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=", str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    finished = subprocess.run(command, cwd=folder.parent, env=environment, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "passed" in finished.stdout


def test_tfr_builds_it_from_its_folder(folder, tmp_path):
    manual_dir = str(folder / "dummy_data")
    result = tfr.build(str(folder), data_dir=str(tmp_path / "data"), manual_dir=manual_dir)
    assert {name: split["examples"] for name, split in result.splits.items()} == {
        "train": 6,
        "validation": 2,
        "test": 2,
    }
    loaded = tfds.load(NAME, split="train", data_dir=tmp_path / "data")  # by its files: no code is registered
    assert len(loaded) == 6


def test_the_command_says_what_to_do_next(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["new", NAME]) == 0
    output = capsys.readouterr().out
    assert f"Made ./{NAME}" in output
    assert f"tfr build ./{NAME} --data_dir=data" in output
    assert cli.main(["new", NAME]) == 2
    assert f"./{NAME} is there already" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["My-Pets", "7pets", "class", "../pets", ""])
def test_names_that_tfds_could_not_import_are_refused(name, tmp_path):
    with pytest.raises(UsageError, match="must be lower-case letters"):
        scaffolding.write_builder(name, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["numbers", "random", "sys", "pandas", "six"])
def test_names_of_other_modules_are_refused(name, tmp_path):
    with pytest.raises(UsageError, match=f"Python has a module called '{name}' already"):
        scaffolding.write_builder(name, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_names_that_tfds_has_are_refused(tmp_path):
    with pytest.raises(UsageError, match="TFDS has a builder called 'mnist' already"):
        scaffolding.write_builder("mnist", str(tmp_path))
