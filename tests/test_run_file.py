"""Run files: what they may hold, and that what is wrong is said with its line."""

import re

import pytest

from tfr import run_file
from tfr.errors import UsageError
from tfr.flag_groups import CommandFlags
from tfr.run_file import Setting

SECTIONS = ("convert", "train")


@pytest.fixture
def read(tmp_path, monkeypatch):
    """read(text): what a run file of that text says; it is called run.yaml."""
    monkeypatch.chdir(tmp_path)

    def read_text(text):
        (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
        return run_file.read("run.yaml", SECTIONS)

    return read_text


@pytest.fixture(scope="module")
def flags():
    """Flags of each kind."""
    made = CommandFlags()
    group = made.group("All")
    group.string("name", None, "")
    group.integer("count", None, "", lower=1)
    group.bool("deep", False, "")
    group.list("columns", [], "")
    group.enum("mode", "auto", ["auto", "single"], "")
    group.optional_integer("near", 4, "")
    return made


def test_keys_have_their_values_and_lines(read):
    top, sections = read("dir: out\n\nconvert:\n  name: pets\n  columns: [a, 'b:c']\ntrain:\n")
    assert top == {"dir": Setting("out", "run.yaml:1")}
    assert sections == {
        "convert": {"name": Setting("pets", "run.yaml:4"), "columns": Setting(["a", "b:c"], "run.yaml:5")},
        "train": {},
    }


def test_values_are_text_as_it_is_written(read):
    """YAML 1.1 would make a number, a truth value, a date and a number of minutes of these."""
    _, sections = read("convert:\n  a: 1.10\n  b: no\n  c: 2001-01-01\n  d: 12:30\n  e: 007\n  f: ~\n")
    assert [setting.value for setting in sections["convert"].values()] == ["1.10", "no", "2001-01-01", "12:30", "007"]


@pytest.mark.parametrize("text", ["", "# nothing\n", "convert:\n", "train: ~\n"])
def test_what_is_left_out_is_not_set(text, read):
    assert read(text) == ({}, {"convert": {}, "train": {}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dir: out\ndir: again\n", r"run\.yaml:2: 'dir' stands on line 1 already"),
        ("convert:\n  a: 1\n  b: 2\n  a: 3\n", r"run\.yaml:4: 'a' stands on line 2 already"),
        ("convert: [a]\n", r"run\.yaml:1: expected lines of `key: value` here"),
        ("just text\n", r"run\.yaml:1: expected lines of `key: value` here"),
        ("convert:\n  a:\n    b: 1\n", r"run\.yaml:3: 'a' must be a value or a list of values"),
        ("convert:\n  a: [b: 1]\n", r"run\.yaml:2: 'a' must be a value or a list of values"),
        ("? [a]\n: b\n", r"run\.yaml:1: a key must be a name"),
        ("convert:\n  a: 'b\n", r"run\.yaml:\d+: not YAML: found unexpected end of stream"),
        ("convert:\n\ta: b\n", r"run\.yaml:2: not YAML: found character '\\t' that cannot start any token"),
    ],
)
def test_what_has_another_shape_is_said_with_its_line(text, message, read):
    with pytest.raises(UsageError, match=message):
        read(text)


def test_a_file_that_is_not_there_is_said_with_how_to_make_one(tmp_path):
    with pytest.raises(UsageError, match=r"No run file at .*x\.yaml.*--init"):
        run_file.read(f"{tmp_path}/x.yaml", SECTIONS)


def make_section(**values):
    return {key: Setting(value, "run.yaml:7") for key, value in values.items()}


@pytest.mark.parametrize(
    ("section", "parsed"),
    [
        ({"name": "no"}, ("name", "no")),
        ({"deep": "yes"}, ("deep", True)),
        ({"deep": "off"}, ("deep", False)),
        ({"count": "5"}, ("count", 5)),
        ({"columns": ["a,b", 'c"d', "e"]}, ("columns", ["a,b", 'c"d', "e"])),
        ({"columns": "a,b"}, ("columns", ["a", "b"])),
        ({"near": "true"}, ("near", 4)),
        ({"near": "6"}, ("near", 6)),
    ],
)
def test_settings_become_the_flags_that_they_name(section, parsed, flags):
    flags.parse(run_file.arguments("convert", make_section(**section), flags, {}))
    key, value = parsed
    assert flags.values[key].value == value


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"nmae": "x"}, "run.yaml:7: unknown key 'nmae' in section 'convert'. Did you mean 'name'? Known: "),
        ({"count": "many"}, "run.yaml:7: convert.count: not a whole number. Received: many"),
        ({"count": "0"}, "run.yaml:7: convert.count: .*Received: 0"),
        ({"mode": "double"}, "run.yaml:7: convert.mode: value should be one of <auto|single>. Received: double"),
        ({"name": ["a", "b"]}, "run.yaml:7: 'name' takes one value"),
        ({"verbosity": "1"}, "run.yaml:7: 'verbosity' cannot be set in section 'convert': it is the run's"),
    ],
)
def test_settings_that_are_no_flags_are_said_with_their_line(section, message, flags):
    with pytest.raises(UsageError, match=re.escape(message).replace(r"\.\*", ".*")):
        run_file.arguments("convert", make_section(**section), flags, {"verbosity": "it is the run's"})


def test_assignments_name_section_and_flag():
    assert run_file.parse_assignment("convert.where=a == 'b=c'", SECTIONS) == (
        "convert",
        "where",
        Setting("a == 'b=c'", "--set=convert.where=a == 'b=c'"),
    )


@pytest.mark.parametrize("text", ["epochs=5", "train.epochs", "export.format=x", "train.=5"])
def test_assignments_of_another_shape_are_refused(text):
    with pytest.raises(UsageError, match=r"--set takes SECTION\.FLAG=VALUE.*section of convert, train\. Received"):
        run_file.parse_assignment(text, SECTIONS)
