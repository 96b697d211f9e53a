"""Stages that run where something changed, on small stages that write files."""

import json

import pytest

from tfr.errors import TfrError, UsageError
from tfr.train.pipeline import Pipeline, Stage


class Copy(Stage):
    """Reads a file, writes its text with a suffix to another; counts its runs."""

    title = "Copy"

    def __init__(self, name, source, target, suffix="", fails=False):
        self.name, self.place, self.is_exclusive = name, str(target), True
        self._source, self._target, self.suffix, self.fails = source, target, suffix, fails
        self.runs = []  # whether each was resumed

    def settings(self):
        return {"suffix": self.suffix, "list": ("a", "b")}

    def inputs(self):
        return self._source.read_text()

    def outputs(self):
        return self._target.read_text() if self._target.exists() else None

    def clear(self):
        self._target.unlink(missing_ok=True)

    def run(self, *, is_resumed):
        self.runs.append(is_resumed)
        if self.fails:
            raise TfrError("half way")
        self._target.write_text(self._source.read_text() + self.suffix)
        return f"copied to {self._target.name}"


class World:
    """Two stages, one after the other, and a fresh Pipeline of them each time."""

    def __init__(self, folder):
        self.folder = folder
        self.a, self.b, self.c = (folder / name for name in "abc")
        self.a.write_text("one")
        (folder / "out").mkdir()
        self.first, self.second = Copy("first", self.a, self.b), Copy("second", self.b, self.c)

    def pipeline(self):
        return Pipeline([self.first, self.second], str(self.folder / "out" / "stages.json"))

    def run(self):
        said = []
        ran = self.pipeline().run(said.append)
        assert len(said) == sum(1 + did for did in ran.values())  # a heading, and what was done
        return [name for name, did in ran.items() if did]

    def reasons(self):
        return [step.reason for step in self.pipeline().plan()]


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_all_run_once(world):
    assert world.reasons() == ["not run yet", "not run yet"]
    assert world.run() == ["first", "second"]
    assert world.c.read_text() == "one"
    assert world.reasons() == ["", ""]
    assert world.run() == []
    assert world.first.runs == world.second.runs == [False]


def test_a_changed_input_runs_what_depends_on_it(world):
    world.run()
    world.a.write_text("two")
    assert world.reasons() == ["what it reads has changed", "if first comes to another result"]
    assert world.run() == ["first", "second"]
    assert world.c.read_text() == "two"


def test_a_changed_setting_is_named_and_runs_from_there(world):
    world.run()
    world.second.suffix = "!"
    assert world.reasons() == ["", "suffix: '' -> '!'"]
    assert world.run() == ["second"]
    assert world.c.read_text() == "one!"


def test_what_comes_to_the_same_result_ends_there(world):
    world.run()
    world.a.write_text("")
    world.first.suffix = "one"
    assert world.run() == ["first"]


def test_what_is_gone_or_was_changed_is_made_again(world):
    world.run()
    world.b.unlink()
    assert world.run() == ["first"]
    world.c.write_text("tampered")
    assert world.run() == ["second"]
    assert world.c.read_text() == "one"


def test_what_stopped_is_resumed_and_not_cleared(world):
    world.second.fails = True
    with pytest.raises(TfrError, match="half way"):
        world.run()
    world.c.write_text("half")
    assert world.reasons() == ["", "it was interrupted"]
    world.second.fails = False
    assert world.run() == ["second"]
    assert world.second.runs == [False, True]


def test_what_stopped_begins_anew_with_other_settings(world):
    world.second.fails = True
    with pytest.raises(TfrError, match="half way"):
        world.run()
    world.c.write_text("half")
    world.second.fails, world.second.suffix = False, "!"
    assert world.run() == ["second"]
    assert world.second.runs == [False, False]
    assert world.c.read_text() == "one!"


def test_what_others_made_is_left_alone(world):
    world.b.write_text("somebody's")
    with pytest.raises(UsageError, match="holds results of 'first' that are not recorded"):
        world.run()
    assert world.b.read_text() == "somebody's"
    assert not world.first.runs


def test_what_others_made_in_a_new_place_is_left_alone(world):
    world.run()
    other = world.folder / "other"
    other.write_text("somebody's")
    world.second = Copy("second", world.b, other, suffix="!")
    with pytest.raises(UsageError, match="other holds results of 'second' that are not recorded"):
        world.run()
    assert other.read_text() == "somebody's"


def test_a_folder_that_was_moved_is_known_again(world):
    world.run()
    moved = world.folder / "moved"
    moved.mkdir()
    for name in ("a", "b", "c", "out"):
        (world.folder / name).rename(moved / name)
    again = World.__new__(World)
    again.folder, again.a, again.b, again.c = moved, *(moved / name for name in "abc")
    again.first, again.second = Copy("first", again.a, again.b), Copy("second", again.b, again.c, suffix="!")
    assert again.run() == ["second"]
    assert again.c.read_text() == "one!"


def test_a_stage_that_makes_nothing_is_an_error(world, monkeypatch):
    monkeypatch.setattr(world.first, "run", lambda **_: "done")
    with pytest.raises(TfrError, match="'first' ended, but what it makes is not there"):
        world.run()
    assert world.reasons()[0] == "it was interrupted"


def test_two_at_a_time_are_refused(world, monkeypatch):
    def run_another(**_):
        return world.pipeline().run(lambda _: None)

    monkeypatch.setattr(world.first, "run", run_another)
    with pytest.raises(TfrError, match=r"Another run is writing to .*out\. Wait for it"):
        world.run()


def test_the_record_is_whole_and_says_how_long_it_took(world):
    world.run()
    record = json.loads((world.folder / "out" / "stages.json").read_text())
    assert set(record) == {"first", "second"}
    assert record["first"].keys() == {"settings", "inputs", "place", "outputs", "seconds"}


def test_a_record_that_cannot_be_read_is_said(world):
    world.run()
    (world.folder / "out" / "stages.json").write_text("{")
    with pytest.raises(TfrError, match=r"stages\.json cannot be read as JSON"):
        world.run()
