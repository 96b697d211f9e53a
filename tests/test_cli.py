"""The `tfr` program, over the table of its commands."""

import dataclasses
import importlib
import json
import re
import subprocess
import sys

import pytest

import tfr
from tfr import cli
from tfr.annotations import ReadOptions
from tfr.config import ConvertConfig
from tfr.flag_groups import CommandFlags
from tfr.images import ImageOptions


def run(capsys, *arguments):
    """(exit code, standard output, standard error) of a command in this process."""
    capsys.readouterr()
    code = cli.main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


# Help


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_of_the_table_is_there(name):
    path, summary = cli.COMMANDS[name]
    module = importlib.import_module(path)
    assert isinstance(module.FLAGS, CommandFlags)
    assert callable(module.main)
    assert re.match(r"[A-Z].*\.\n", module.__doc__)
    assert f"  tfr {name}" in module.__doc__, "the help shows no example"
    assert len(summary) <= 70
    assert not summary.endswith(".")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_overview_lists_every_command_on_a_line(arguments, capsys):
    code, output, errors = run(capsys, *arguments)
    assert (code, errors) == (0, "")
    for name, (_, summary) in cli.COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(summary)}$", output, re.MULTILINE)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_shows_the_flags_of_the_command_by_group_and_no_others(name, capsys):
    code, output, errors = run(capsys, name, "--help")
    flags = importlib.import_module(cli.COMMANDS[name][0]).FLAGS.values
    assert (code, errors) == (0, "")
    shown = re.findall(r"^  --(?:\[no\])?(\w+)", output, re.MULTILINE)
    assert sorted(shown) == sorted(flags)
    groups = re.findall(r"^(\w.*):$", output, re.MULTILINE)
    assert groups[-1] == "Common"
    assert set(flags.flags_by_module_dict()) <= set(groups)
    assert max(map(len, output.splitlines())) <= 120
    assert "None" not in output


_HELP_OF_ALL = """
import contextlib, io, sys
from tfr import cli
with contextlib.redirect_stdout(io.StringIO()):
    assert cli.main(["--help"]) == 0
    assert cli.main(["--version"]) == 0
    overview = sorted({name.split(".")[0] for name in sys.modules})
    for name in cli.COMMANDS:
        assert cli.main([name, "--help"]) == 0
print(overview)
print(sorted({name.split(".")[0] for name in sys.modules}))
"""


def test_help_imports_nothing_heavy(run_python, tmp_path):
    finished = run_python("-c", _HELP_OF_ALL, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    overview, all_commands = map(set, map(eval, finished.stdout.splitlines()))
    heavy = {"tensorflow", "keras", "apache_beam", "tensorflow_datasets", "sklearn", "pandas", "matplotlib"}
    assert not heavy & all_commands
    assert not (heavy | {"numpy", "PIL"}) & overview


def test_version(capsys):
    assert run(capsys, "--version") == (0, f"tfr {tfr.__version__}\n", "")


def test_the_console_script_is_the_program(run_python):
    script = (
        "import importlib.metadata as m; (e,) = m.entry_points(group='console_scripts', name='tfr'); print(e.value)"
    )
    assert run_python("-c", script).stdout == "tfr.cli:run\n"


# Calls that are wrong


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convrt"], r"Unknown command 'convrt'\. Did you mean 'convert'\? The commands are: demo, run, convert,"),
        (["zzz"], r"Unknown command 'zzz'\. The commands are"),
        (["--verbosity=1"], r"Unknown command '--verbosity=1'"),
        (["convert"], r"--\w+ is required\. See `tfr convert --help`"),
        (["convert", "--annotatoins=a.csv"], r"flag 'annotatoins'\. Did you mean: annotations\. See"),
        (["convert", "--format=xls"], r"--format.*xls.*csv"),
        (["convert", "--num_shards=many"], r"flag --num_shards=many: not a whole number\. See"),
        (["convert", "--min_confidence=much"], r"flag --min_confidence=much: not a number\. See"),
        (["convert", "--num_shards=0"], r"--num_shards.*0"),
        (["convert", "--json=perhaps"], r"flag --json=perhaps: neither true nor false\. See"),
        (["inspect", "--num_images"], r"num_images"),
        (["inspect", "--data_dir=x", "."], r"data_dir"),
        (["inspect"], "takes one dataset directory"),
        (["formats", "cocoa"], r"Unknown formats \['cocoa'\]. Known: csv"),
    ],
)
def test_wrong_calls_exit_with_2_and_one_line(arguments, message, capsys):
    code, output, errors = run(capsys, *arguments)
    assert (code, output) == (2, "")
    assert re.fullmatch(r"tfr: .+\n", errors)
    assert re.search(message, errors)


@pytest.mark.parametrize("name", [name for name, (path, _) in cli.COMMANDS.items() if ".train." in path])
def test_flags_of_the_other_commands_are_unknown_too(name, capsys):
    code, output, errors = run(capsys, name, "--no_such_flag=1")
    assert (code, output) == (2, "")
    assert re.fullmatch(rf"tfr: .*no_such_flag.* See `tfr {name} --help`\.\n", errors)


def test_one_call_does_not_inherit_the_flags_of_another(capsys):
    assert run(capsys, "formats", "--detect=nowhere")[0] == 1
    assert run(capsys, "formats", "csv")[0] == 0


def test_exit_codes_and_streams_of_the_real_program(run_tfr):
    for arguments, code in ((["convrt"], 2), (["inspect", "nowhere"], 1), (["--version"], 0)):
        finished = run_tfr(*arguments)
        assert finished.returncode == code
        assert (finished.stdout == "") == (code != 0)
        assert len(finished.stderr.splitlines()) == (code != 0)


@pytest.mark.parametrize("arguments", ["--help", "convert --help", "formats"])
@pytest.mark.parametrize("buffering", ["", "PYTHONUNBUFFERED=1"])
def test_a_reader_that_has_seen_enough_is_no_error(arguments, buffering, tmp_path):
    command = f"{buffering} {sys.executable} -m tfr {arguments} | : ; exit ${{PIPESTATUS[0]}}"
    finished = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert (finished.returncode, finished.stderr) == (0, "")


def test_a_keyboard_interrupt_is_said_in_one_line(capsys, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("tfr.commands.formats"), "main", interrupt)
    assert run(capsys, "formats") == (130, "", "tfr: Stopped.\n")


# Input that is wrong


@pytest.fixture
def pets(tmp_path, write_photos, monkeypatch):
    """The working directory: images/, annotations.csv of eight images, and files that are wrong in some way."""
    write_photos([f"{i}.jpg" for i in range(8)])
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{i},{i % 2},{i % 3 // 2}\n" for i in range(8))
    (tmp_path / "annotations.csv").write_text(f"id,cat,dog\n{rows}")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "header.csv").write_text("id,cat,dog\n")
    (tmp_path / "numbers.csv").write_text(f"id,cat,dog\n{rows.replace(',1', ',2')}")
    (tmp_path / "latin1.csv").write_bytes("id,label\n1,Kätzchen\n".encode("latin-1"))
    (tmp_path / "broken.json").write_text('[{"image": "1.jpg", "label": "cat"},\n')
    (tmp_path / "file").touch()
    return tmp_path


def convert(**flags):
    settings = {
        "annotations": "annotations.csv", "images": "images", "label_columns": "cat,dog", "data_dir": "data",
        "name": "pets", "splits": "train=1", "num_shards": 2,
    }  # fmt: skip
    return ["convert", *(f"--{name}={value}" for name, value in {**settings, **flags}.items() if value is not None)]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (convert(annotations="nowhere.csv"), 1, "No annotation file at nowhere.csv"),
        (convert(annotations="empty.csv"), 1, "empty.csv"),
        (convert(annotations="header.csv"), 1, "no usable rows"),
        (convert(annotations="latin1.csv", label_columns="label"), 1, "latin1.csv.*--encoding"),
        (convert(annotations="broken.json", label_columns="label"), 1, "broken.json.*JSON"),
        (convert(annotations="numbers.csv", label_encoding="one_hot"), 1, "numbers.csv:3: column 'cat' holds '2'"),
        (convert(label_columns="cat,cow"), 1, "no column 'cow' .*The columns are: 'id', 'cat', 'dog'"),
        (convert(id_column="Id"), 1, "no column 'Id' .*The columns are: 'id', 'cat', 'dog'"),
        (convert(label_columns=None), 1, "--label_columns.*'id', 'cat', 'dog'"),
        (convert(images="nowhere"), 1, "No image folder at nowhere"),
        (convert(image_template="{id}.png"), 1, "None of the rows has an image: row 1 wants '0.png'"),
        (convert(data_dir="file/data"), 1, "file"),
        (convert(data_dir="file"), 1, "file"),
        (convert(labels_file="nowhere.txt"), 1, "No labels file at nowhere.txt"),
        (convert(exclude_labels="cow"), 2, "--exclude_labels.*'cow'"),
        (convert(name="My Pets"), 2, "--name"),
        (convert(version="1"), 2, "--version"),
        (convert(splits="train=x"), 2, "--splits"),
        (convert(jpeg_quality=101), 2, "--jpeg_quality must be from 1 to 100"),
        (convert(runner="NoRunner"), 2, "--runner=NoRunner"),
        ([*convert(), "more.csv"], 2, "takes flags only.*Received: more.csv"),
        ([*convert(), "--", "--direct_running_mode=multi_threading"], 2, "loses records silently"),
        ([*convert(), "--", "--direct_num_workers=x"], 2, "--direct_num_workers"),
        (["inspect", "images"], 1, "images is not a dataset directory"),
        (["formats", "--detect=file"], 1, "file"),
    ],
)
@pytest.mark.usefixtures("pets")
def test_wrong_input_is_said_in_one_line(arguments, code, message, capsys):
    got, output, errors = run(capsys, *arguments)
    assert re.fullmatch(r"tfr: .+\n", errors), errors
    assert re.search(message, errors)
    assert not re.match(r"tfr: Unexpected \w+:", errors)
    assert (got, output) == (code, "")


@pytest.mark.usefixtures("pets")
def test_verbosity_shows_the_traceback_and_the_same_line(capsys):
    quiet = run(capsys, "inspect", "nowhere")[2]
    code, _, errors = run(capsys, "inspect", "nowhere", "--verbosity=1")
    assert code == 1
    assert errors.startswith("Traceback (most recent call last):\n")
    assert errors.endswith(quiet)


def test_an_error_in_the_job_is_one_line_too(pets, run_tfr):
    (pets / "data" / "pets" / "1.0.0" / "pets-train.tfrecord-00001-of-00002").mkdir(parents=True)
    finished = run_tfr(*convert(), cwd=pets)
    assert (finished.returncode, finished.stdout) == (1, "")
    assert re.fullmatch(
        r"tfr: The Beam job failed: .*IsADirectoryError: .+ run the same command again .+\n", finished.stderr
    )
    assert "Traceback" in run_tfr(*convert(), "--verbosity=1", cwd=pets).stderr


def test_results_go_to_standard_output_and_nothing_else_does(pets, run_tfr):
    finished = run_tfr(*convert(), "--json", cwd=pets, env={"TFR_PROGRESS": "1"})
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["records_written"] == 8
    assert finished.stderr == ""
    again = run_tfr(*convert(), cwd=pets)
    assert again.stdout.startswith("Already converted, nothing to do: data/pets/1.0.0\n")


@pytest.mark.usefixtures("pets")
def test_options_after_two_dashes_go_to_beam(capsys):
    code, output, _ = run(capsys, *convert(), "--", "--direct_num_workers=2")
    assert code == 0
    assert "records written         8" in output


def test_every_setting_of_a_conversion_is_a_flag():
    from tfr.commands import convert as command

    fields = {field.name for kind in (ConvertConfig, ReadOptions, ImageOptions) for field in dataclasses.fields(kind)}
    elsewhere = {"read", "image", "split_ratios", "beam_args"}  # made of other flags, of --splits, of what follows --
    elsewhere |= {"labels", "has_unknown", "output_dir"}  # for programs: who calls by hand has --labels_file
    assert fields - elsewhere - set(command.FLAGS.values) == set()
