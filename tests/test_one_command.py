"""The whole way by `tfr run` on drawn images: once, again, with changes, and after it was stopped."""

import dataclasses
import json
import os
import re
import shutil

import pytest
import yaml
from conversion_checks import write_csv

from tfr import cli, synthetic
from tfr.train import one_command, one_command_stages, run_dir
from tfr.train.exporting.config import ExportConfig

TRAIN = {"weights": "none", "image_size": 64, "hidden_units": 16, "epochs": 2, "batch_size": 16}


def run(capsys, *arguments):
    """(exit code, standard output, standard error) of `tfr run` in this process."""
    capsys.readouterr()
    code = cli.main(["run", *arguments])
    return code, *capsys.readouterr()


def write_run_file(folder, **train):
    """Writes folder/run.yaml, for folder/annotations.csv and folder/images."""
    sections = {
        "dir": f"{folder}/out",
        "convert": {
            "annotations": f"{folder}/annotations.csv",
            "images": f"{folder}/images",
            "label_columns": ["labels"],
            "label_delimiter": "|",
        },
        "train": {**TRAIN, **train},
        "evaluate": None,
    }
    path = os.path.join(folder, "run.yaml")
    with open(path, "w", encoding="utf-8") as file:
        yaml.safe_dump(sections, file)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which `tfr run run.yaml` was run; copied by `world`."""
    folder = tmp_path_factory.mktemp("finished")
    synthetic.write_image_set(str(folder), 80)
    assert cli.main(["run", write_run_file(folder)]) == 0
    return folder


@pytest.fixture
def world(finished, tmp_path_factory, monkeypatch):
    """A copy of it, which is the working directory, at the same path for the stages."""
    folder = tmp_path_factory.mktemp("world")
    kept = shutil.copytree(finished, folder / "kept")
    monkeypatch.chdir(finished)
    yield finished
    shutil.rmtree(finished)
    shutil.copytree(kept, finished)


def plan(capsys, path, *arguments):
    """Stage to what --dry_run says of it."""
    code, output, errors = run(capsys, str(path), "--dry_run", *arguments)
    assert (code, errors) == (0, "")
    return {line.split()[0]: line.partition(" ")[2].strip() for line in output.splitlines()}


def test_it_leaves_everything(finished):
    out = finished / "out"
    assert run_dir.load(str(out / "run")).labels == sorted(synthetic.LABELS)
    assert (out / "statistics.html").stat().st_size > 1000
    assert (
        (out / "checks.txt").read_text().startswith("  rows    87; 85 of them have an image and labels to learn from")
    )
    measured = json.loads((out / "run" / "metrics.json").read_text())
    assert "intervals" in measured["test"]
    assert "<title>Report: out</title>" in (out / "run" / "report.html").read_text()


def test_what_is_exported_is_named_by_the_folder(finished):
    assert ExportConfig(run=f"{finished}/out/run/", output="x").model_name == "out"
    assert ExportConfig(run=f"{finished}/out", output="x").model_name == "out"
    assert ExportConfig(run="/run", output="x").model_name == "run"


def test_again_it_does_nothing_and_says_where_everything_is(world, capsys):
    before = {path: path.stat().st_mtime_ns for path in (world / "out").rglob("*") if path.is_file()}
    code, output, errors = run(capsys, "run.yaml")
    assert (code, errors) == (0, "")
    assert output.count("done already, nothing changed") == 6
    assert f"The report, for any browser: {world}/out/run/report.html" in output
    assert f"tfr predict {world}/out/run --image=PHOTO.jpg" in output
    assert before == {path: path.stat().st_mtime_ns for path in (world / "out").rglob("*") if path.is_file()}


def test_a_folder_that_moved_goes_on_there(world, capsys):
    (world / "drive").mkdir()
    shutil.move(world / "out", world / "drive" / "out")
    (world / "drive" / "out" / "run" / "report.html").unlink()
    code, output, errors = run(capsys, "run.yaml", "--dir=drive/out")
    assert code == 0, errors
    assert output.count("done already, nothing changed") == 5
    assert (world / "drive" / "out" / "run" / "report.html").stat().st_size > 0
    shutil.rmtree(world / "drive" / "out" / "data")
    assert cli.main(["evaluate", "drive/out/run"]) == 1
    message = capsys.readouterr().err
    assert f"No dataset directory at {world}/out/data/out/1.0.0 nor at {world}/drive/out/data/out/1.0.0" in message
    assert "if it lies elsewhere now, say where: --dataset=DIRECTORY" in message


def test_the_result_as_json(world, capsys):
    code, output, _ = run(capsys, "run.yaml", "--json")
    found = json.loads(output)
    assert code == 0
    assert found["ran"] == dict.fromkeys(["check", "convert", "stats", "train", "evaluate", "report"], False)
    assert found["metrics"]["num_examples"] > 0
    assert found["report"] == f"{world}/out/run/report.html"


@pytest.mark.usefixtures("world")
def test_a_changed_setting_is_named(capsys):
    found = plan(capsys, "run.yaml", "--set=train.epochs=3")
    assert [found[name] for name in ("check", "convert", "stats")] == ["done already"] * 3
    assert found["train"] == "runs: epochs: 2 -> 3"
    assert found["evaluate"] == found["report"] == "runs: if train comes to another result"
    assert plan(capsys, "run.yaml", "--set=convert.min_label_count=9")["check"] == "runs: min_label_count: 1 -> 9"


def test_changed_annotations_are_seen(world, capsys):
    rows = (world / "annotations.csv").read_text().splitlines()
    (world / "annotations.csv").write_text("\n".join(rows[:-4]))
    found = plan(capsys, "run.yaml")
    assert found["check"] == "runs: what it reads has changed"
    assert all(text.startswith("runs: if check ") for name, text in found.items() if name != "check")


def test_a_tagger_that_was_calibrated_is_measured_again_and_not_trained_again(world, capsys):
    path = world / "out" / "run" / "thresholds.json"
    thresholds = json.loads(path.read_text())
    path.write_text(json.dumps({**thresholds, "note": "tuned by hand"}))
    found = plan(capsys, "run.yaml")
    assert found["train"] == "done already"
    assert found["evaluate"] == "runs: what it reads has changed"


def test_a_lost_model_is_trained_again_alone(world, capsys):
    (world / "out" / "run" / run_dir.MODEL_FILE).unlink()
    found = plan(capsys, "run.yaml")
    assert (found["stats"], found["train"]) == ("done already", "runs: what it made is gone, or is not what it was")


def test_a_shard_that_is_gone_is_written_again(world, capsys):
    next((world / "out" / "data").rglob("*train.tfrecord*")).unlink()
    assert plan(capsys, "run.yaml")["convert"] == "runs: what it made is gone, or is not what it was"


@pytest.mark.slow
def test_a_training_that_was_stopped_goes_on(world, capsys, monkeypatch):
    from tfr.train import history

    write, epochs = history.History.write, []

    def stop_in_the_second(self, rows):
        epochs.append(rows[-1]["epoch"])
        write(self, rows)
        if rows[-1]["epoch"] == 2 and len(epochs) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(history.History, "write", stop_in_the_second)
    path = write_run_file(world, epochs=3, checkpoint_secs=0.0)
    assert run(capsys, path)[0] == 130
    assert plan(capsys, path)["train"] == "runs: it was interrupted"
    code, output, _ = run(capsys, path)
    assert code == 0
    assert epochs == [1, 2, 2, 3]  # the first is not trained again
    assert "4 of 6: Train (it was interrupted)" in output
    assert "2 of 6: Convert to TFRecords, every image verified: done already" in output
    assert plan(capsys, path) == dict.fromkeys(plan(capsys, path), "done already")


@pytest.mark.slow
def test_one_label_an_image_and_no_test_split(world, capsys):
    names = sorted(os.listdir(world / "images"))[10:70]
    parts = ("train", "train", "train", "validation")
    rows = [[name, ("red", "green", "blue")[i % 3], parts[i // 3 % 4]] for i, name in enumerate(names)]
    write_csv(world / "one.csv", [["image", "kind", "part"], *rows])
    flags = [f"--set=train.{key}={value}" for key, value in TRAIN.items()]
    flags += ["--annotations=one.csv", "--images=images", "--label_columns=kind", "--set=convert.split_column=part"]
    code, output, errors = run(capsys, "--dir=Single 1", *flags)
    assert code == 0, errors
    assert "15 validation examples are too few to tell epochs apart by" in errors
    assert "3, exactly one an image: blue (20), green (20), red (20)" in output
    assert "validation: 15 examples" in output
    assert "next: tfr evaluate Single 1/run --split=validation" in output
    assert "'validation' also decided the thresholds: new images may do a little worse" in output
    assert run_dir.load("Single 1/run").config["resolved"]["dataset"] == "single_1/1.0.0"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, r"tfr run needs --dir"),
        (["--dir=o"], 2, r"tfr run needs --annotations"),
        (["a.yaml", "b.yaml"], 2, r"takes one run file at most"),
        (["nowhere.yaml"], 2, r"No run file at nowhere\.yaml"),
        (["run.yaml", "--annotations=nowhere.csv"], 1, r"No annotation file at nowhere\.csv"),
        (["run.yaml", "--images=nowhere"], 1, r"No image folder at nowhere"),
        (["run.yaml", "--dir=gs://bucket/x"], 2, r"--dir must be a folder on this machine"),
        (["run.yaml", "--dir=run.yaml"], 2, r"--dir=run\.yaml is a file"),
        (["run.yaml", "--set=train.epoch=3"], 2, r"--set=train\.epoch=3: unknown key 'epoch'.*Did you mean 'epochs'"),
        (["run.yaml", "--set=train.run_dir=x"], 2, r"'run_dir' cannot be set in section 'train': tfr run decides that"),
        (["run.yaml", "--set=train.dropout=2"], 2, r"--dropout must be at least 0 and below 1"),
        (["run.yaml", "--set=convert.splits=x=1", "--dir=new"], 2, r"No row is in a split called 'train'.*\['x'\]"),
        (["run.yaml", "--set=train.train_split=train+x", "--dir=new"], 2, r"No row is in a split called 'x'"),
        (["run.yaml", "--set=train.batch_size=90", "--dir=new"], 2, r"There are \d+ images to train on.*batch of 90\."),
        (["run.yaml", "--dir=foreign"], 2, r"foreign/run holds results of 'train' that are not recorded in"),
        (["--init=run.yaml", "--annotations=annotations.csv"], 2, r"run\.yaml is there already"),
        (["--init=new.yaml"], 2, r"--init=FILE wants --annotations"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments, code, message, world, capsys):
    if "--dir=foreign" in arguments:
        shutil.copytree(world / "out" / "run", world / "foreign" / "run")
    got, _, errors = run(capsys, *arguments)
    assert got == code
    assert re.fullmatch(rf"tfr: .*{message}.*\n", errors), errors


def test_the_line_of_the_file_is_named(world, capsys):
    text = (world / "run.yaml").read_text()
    (world / "bad.yaml").write_text(text.replace("label_delimiter", "label_delimeter"))
    number = next(i for i, line in enumerate(text.splitlines(), 1) if "label_delimiter" in line)
    code, _, errors = run(capsys, "bad.yaml")
    assert code == 2
    assert f"tfr: bad.yaml:{number}: unknown key 'label_delimeter' in section 'convert'. Did you mean" in errors
    (world / "bad.yaml").write_text("dir: x\nconvert:\n  annotation: annotations.csv\n")
    assert run(capsys, "bad.yaml")[2].startswith("tfr: bad.yaml:3: unknown key 'annotation' in section 'convert'. Did")


def test_a_starting_file_says_what_it_would_do(world, capsys):
    code, output, _ = run(capsys, "--init=start.yaml", "--annotations=annotations.csv")
    assert code == 0
    assert "Written: start.yaml. As it stands, it says:" in output
    assert "9, any number an image" in output
    found = yaml.safe_load((world / "start.yaml").read_text())
    assert found["convert"]["label_delimiter"] == "|"
    assert found["convert"]["images"] == "images"


def test_the_training_reads_what_the_conversion_writes(small_train_config, make_config):
    from tfr.errors import UsageError

    with pytest.raises(UsageError, match="must read what the conversion writes"):
        one_command.OneCommandConfig(dir="x", convert=make_config(), train=small_train_config("elsewhere", "run"))


def test_training_again_where_embeddings_or_weights_are_others(small_train_config, tmp_path):
    """Their paths are settings; what is at them is an input."""
    (tmp_path / "embedding.json").write_text("{}")
    weights = tmp_path / "w.h5"
    weights.write_bytes(b"first")
    base = small_train_config(str(tmp_path / "no_dataset"), tmp_path / "run")
    plain = one_command_stages.Train(base)
    assert plain.inputs() is None
    config = dataclasses.replace(
        base,
        data=dataclasses.replace(base.data, bottlenecks=f"{tmp_path}/"),
        model=dataclasses.replace(base.model, weights=str(weights)),
    )
    stage, seen = one_command_stages.Train(config), []
    for path, content in ((weights, b"second"), (tmp_path / "embedding.json", b'{"views": 2}')):
        seen.append(stage.inputs())
        path.write_bytes(content)
    assert len({json.dumps(one) for one in [*seen, stage.inputs()]}) == 3
