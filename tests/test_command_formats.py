"""`tfr formats`."""

import pytest

from tfr import cli
from tfr.annotations import FORMATS


def test_lists_every_format(capsys):
    assert cli.main(["formats"]) == 0
    output = capsys.readouterr().out
    for name, entry in FORMATS.items():
        assert f"{name}: {entry.summary}" in output
        assert entry.example.splitlines()[0] in output
    assert max(map(len, output.splitlines())) <= 120


def test_shows_the_formats_that_are_named(capsys):
    assert cli.main(["formats", "coco", "voc"]) == 0
    output = capsys.readouterr().out
    assert "category_id" in output
    assert "JPEGImages" in output
    assert "Vertex" not in output


def test_detects(tmp_path, capsys):
    path = tmp_path / "a.csv"
    path.write_text("TRAIN,gs://b/a.jpg,x\n")
    assert cli.main(["formats", f"--detect={path}"]) == 0
    assert capsys.readouterr().out == f"{path}: automl_csv, because its first line starts with TRAIN\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["cocoa"], 2, "Unknown formats ['cocoa']. Known: csv, tsv"),
        (["--detect=nowhere"], 1, "No annotation file at nowhere"),
    ],
)
def test_fails(arguments, code, message, capsys):
    assert cli.main(["formats", *arguments]) == code
    assert message in capsys.readouterr().err
