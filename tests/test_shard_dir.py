"""Directories that are filled shard by shard, stopped and begun again."""

import dataclasses
import itertools
import json
import os
import pathlib
import re

import pytest

from tfr import files
from tfr.errors import ConversionError, DatasetError
from tfr.train.shard_dir import ShardDir, difference


@dataclasses.dataclass(frozen=True)
class Letters:
    file: str
    source: str


@dataclasses.dataclass(frozen=True)
class Written(Letters):
    file_bytes: int


@dataclasses.dataclass(frozen=True)
class LetterDir(ShardDir[Written]):
    kind = "letters"
    content_file = "letters.json"
    report_type = Written
    shard_name = re.compile(r"\w-\d{5}\.txt")


PLANNED = [Letters(f"a-{number:05d}.txt", f"source {number}") for number in range(3)]
OLD, NEW = {"letter": "a"}, {"letter": "b"}


@pytest.fixture
def target(tmp_path):
    return LetterDir(str(tmp_path / "out"))


def write(target, recipe, shard):
    text = recipe["letter"] * 4  # as many bytes whatever the recipe
    files.write_text(f"{target.path}/{shard.file}", text)
    target.write_report(Written(shard.file, shard.source, len(text)))


def fill(target, recipe, planned=PLANNED):
    """Does the whole work; returns the names of the shards that were not there."""
    target.start(recipe)
    target.remove_all_but({shard.file for shard in planned})
    todo = [shard for shard in planned if not target.finished(shard)]
    for shard in todo:
        write(target, recipe, shard)
    target.write_content(recipe, target.reconcile(planned))
    files.remove_tree(target.plan_dir)
    return [shard.file for shard in todo]


def texts(target):
    return {
        name: pathlib.Path(target.path, name).read_text()
        for name in files.list_names(target.path)
        if name.endswith(".txt")
    }


def test_what_is_done_is_not_done_again(target):
    assert fill(target, OLD) == ["a-00000.txt", "a-00001.txt", "a-00002.txt"]
    assert target.read()["recipe"] == OLD
    assert [report.source for report in target.reports_in(target.read())] == [shard.source for shard in PLANNED]
    assert fill(target, OLD) == []
    changed = [PLANNED[0], Letters("a-00001.txt", "another source"), PLANNED[2]]
    assert fill(target, OLD, changed) == ["a-00001.txt"]
    os.truncate(f"{target.path}/a-00002.txt", 2)
    os.remove(f"{target.path}/a-00000.txt")
    assert fill(target, OLD, changed) == ["a-00000.txt", "a-00002.txt"]


def test_another_recipe_is_refused_with_the_difference(target):
    target.check_recipe(OLD)
    target.start(OLD)  # stopped here
    target.check_recipe(OLD)
    with pytest.raises(DatasetError, match=r"letters that were made otherwise \(letter: a -> b\).*--overwrite"):
        target.check_recipe(NEW)
    assert fill(target, NEW) == ["a-00000.txt", "a-00001.txt", "a-00002.txt"]
    with pytest.raises(DatasetError, match=r"letter: b -> a"):
        target.check_recipe(OLD)


def stop_after(patch, steps):
    """Lets so many changes of files happen, and stops at the next."""
    left = iter(range(steps))

    def counted(real):
        def step(*args):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return real(*args)

        return step

    for name in ("write_text", "remove", "make_dirs"):
        patch.setattr(files, name, counted(getattr(files, name)))


def stopped(target, steps, monkeypatch):
    """Whether making all anew by another recipe was stopped after so many steps."""
    with monkeypatch.context() as patch:
        stop_after(patch, steps)
        try:
            fill(target, NEW)
        except KeyboardInterrupt:
            return True
    return False


@pytest.mark.parametrize("is_whole", [False, True])
@pytest.mark.parametrize("then", [OLD, NEW])
def test_stopped_anywhere_no_shard_is_taken_for_one_of_another_recipe(is_whole, then, tmp_path, monkeypatch):
    """The files have the same size and source whatever the recipe: only the order of steps can tell them apart."""
    for steps in itertools.count():
        target = LetterDir(str(tmp_path / f"{steps}"))
        if is_whole:
            fill(target, OLD)
        else:
            target.start(OLD)
            for shard in PLANNED:
                write(target, OLD, shard)
        if not stopped(target, steps, monkeypatch):
            break
        fill(target, then)
        assert texts(target) == {shard.file: then["letter"] * 4 for shard in PLANNED}
        assert target.read()["recipe"] == then
        assert sorted(os.listdir(target.path)) == ["a-00000.txt", "a-00001.txt", "a-00002.txt", "letters.json"]
    assert steps > 10


def test_only_shards_of_its_own_series_are_removed(target):
    """A file that a person put there stays, though its name is like that of a shard."""
    fill(target, OLD)
    for name in ("b-00001.txt", "a-00001.csv", "a-00009.txt"):
        files.write_text(f"{target.path}/{name}", "aaaa")
    assert fill(target, OLD) == []
    assert {"b-00001.txt", "a-00001.csv"} < set(os.listdir(target.path))
    assert not os.path.exists(f"{target.path}/a-00009.txt")
    assert fill(target, NEW) == ["a-00000.txt", "a-00001.txt", "a-00002.txt"]
    assert {"b-00001.txt", "a-00001.csv"} < set(os.listdir(target.path))


def test_a_shard_that_was_written_and_not_reported_is_done_again_or_goes(target):
    target.start(OLD)
    for name in ("a-00000.txt", "a-00007.txt", "a-00008.txt.tmp-1", "notes.md"):
        files.write_text(f"{target.path}/{name}", "aaaa")
    assert fill(target, OLD) == ["a-00000.txt", "a-00001.txt", "a-00002.txt"]
    assert sorted(os.listdir(target.path)) == ["a-00000.txt", "a-00001.txt", "a-00002.txt", "letters.json", "notes.md"]


def test_a_missing_shard_is_no_success(target):
    target.start(OLD)
    write(target, OLD, PLANNED[0])
    with pytest.raises(ConversionError, match=r"a-00001\.txt was not written"):
        target.reconcile(PLANNED)


def test_damaged_json_is_said(target):
    fill(target, OLD)
    files.write_text(f"{target.path}/letters.json", json.dumps(OLD)[:-3])
    with pytest.raises(DatasetError, match=r"letters\.json is not valid JSON.*Remove it"):
        target.read()


def test_differences_are_shown_short():
    assert (
        difference({"a": 1, "digest": "0" * 40}, {"a": 1, "digest": "1" * 40})
        == f"digest: {'0' * 12}... -> {'1' * 12}..."
    )
    assert difference({"a": 1}, {"a": 1, "b": 2}) == "b: None -> 2"
