"""The run files in examples/: every key is a flag, and they fit the data that they are written for."""

import os
import pathlib

import pytest

from tfr import cli, preflight
from tfr.train import one_command

EXAMPLES = pathlib.Path(__file__).resolve().parent.parent / "examples"
# Links to make, path in the example: path in the data; then rows that can be used, labels, label mode and splits.
EXPECTED = {
    "posters": ({"movie_posters": "movie_posters"}, 2997, 19, True, {"train", "validation", "test"}),
    "decor": ({"decor": "decor"}, 285, 7, False, {"train", "validation", "test"}),
    "folders": ({"images": "pickles_sample/data/images"}, 120, 12, False, {"train", "validation"}),
    "pickles": (
        {"images": "pickles_sample/data/images", "meta": "pickles_sample/data/meta"},
        120, 20, True, {"train", "validation"},
    ),
    "tags_json": (
        {"annotations.json": "json_samples/annotations.json", "images": "movie_posters/Images"},
        400, 21, True, {"train", "validation", "test"},
    ),
}  # fmt: skip


def test_all_are_tested():
    assert {path.stem for path in EXAMPLES.glob("*.yaml")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_examples_fit_the_data_that_they_are_for(name, shared_data, tmp_path, monkeypatch, capsys):
    links, num_usable, num_labels, multi_label, splits = EXPECTED[name]
    for link, target in links.items():
        os.symlink(shared_data / target, tmp_path / link)
    monkeypatch.chdir(tmp_path)
    configs = []
    monkeypatch.setattr(one_command, "make_pipeline", lambda config: configs.append(config) or _Nothing())
    assert cli.main(["run", str(EXAMPLES / f"{name}.yaml"), "--dry_run"]) == 0, capsys.readouterr().err
    checked = preflight.check(configs[0].convert)
    assert (checked.num_usable, len(checked.label_counts)) == (num_usable, num_labels)
    assert (checked.multi_label, set(checked.splits)) == (multi_label, splits)
    assert not checked.bad_images


class _Nothing:
    def plan(self):
        return []


@pytest.mark.parametrize("name", EXPECTED)
def test_every_key_of_the_examples_is_a_flag(name, tmp_path, monkeypatch, capsys):
    """Without the data the first thing that is wrong is that it is not there."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", str(EXAMPLES / f"{name}.yaml")]) == 1
    assert capsys.readouterr().err.startswith("tfr: No annotation file at ")
