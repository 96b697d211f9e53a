"""What a run gets wrong: counted by hand on small predictions, and as files of a real run."""

import collections
import csv
import errno
import json
import os
import shutil

import numpy as np
import pytest

from tfr import cli, dataset_dir
from tfr.errors import UsageError
from tfr.train import error_analysis, error_files, input_pipeline, records, run_dir
from tfr.train.prediction import saved_predictions
from tfr.train.thresholds import Thresholds

NAMES = ["cat", "dog", "eel"]


def make_run(multi_label=True, thresholds=(0.5, 0.4, 0.6)):
    return run_dir.Run(
        path="runs/x",
        labels=NAMES,
        thresholds=Thresholds(overall=0.5, per_label=np.array(thresholds), strength=1.0),
        config={"resolved": {"label_mode": "multi" if multi_label else "single"}},
    )


def predictions(targets, probabilities, ids=None):
    targets = np.array(targets, np.float32)
    ids = [f"im{i}" for i in range(len(targets))] if ids is None else ids
    return saved_predictions.Predictions(targets, np.array(probabilities, np.float32), ids)


def by_hand(run, found):
    """(label, kind) to the places of the mistakes, in no order: one pair of an example and a label after the other."""
    mistakes = collections.defaultdict(set)
    for place, (row, given) in enumerate(zip(found.targets, found.probabilities, strict=True)):
        if not run.multi_label and 1 not in row:
            continue
        for i, name in enumerate(run.labels):
            is_given = given[i] >= run.thresholds.per_label[i] if run.multi_label else i == int(np.argmax(given))
            if row[i] == 0 and is_given:
                mistakes[name, "false_positive"].add(place)
            if row[i] == 1 and not is_given:
                mistakes[name, "false_negative"].add(place)
    return mistakes


@pytest.mark.parametrize("multi_label", [True, False])
def test_mistakes_and_confusions_are_those_counted_by_hand(multi_label):
    rng = np.random.default_rng(0)
    probabilities = rng.random((200, 3))
    targets = (
        rng.choice([1, 0, -1], (200, 3), p=[0.4, 0.4, 0.2])
        if multi_label
        else np.eye(4)[rng.integers(0, 4, 200), :3]  # a quarter has no label
    )
    run, found = make_run(multi_label), predictions(targets, probabilities)
    analysis = error_analysis.analyse(run, found)
    expected = by_hand(run, found)
    assert list(analysis.labels) == NAMES
    for name, one in analysis.labels.items():
        for kind, mistakes in (("false_positive", one.false_positives), ("false_negative", one.false_negatives)):
            assert {mistake.place for mistake in mistakes} == expected[name, kind]
            assert {(mistake.label, mistake.kind) for mistake in mistakes} == {(name, kind)}
            probability = [float(found.probabilities[mistake.place, NAMES.index(name)]) for mistake in mistakes]
            assert [mistake.probability for mistake in mistakes] == probability
            assert probability == sorted(probability, reverse=kind == "false_positive")  # the surest first
            assert all(mistake.id == f"im{mistake.place}" for mistake in mistakes)
    assert analysis.num_with_mistakes == len(set().union(*expected.values())) < 200
    counts = {(a, b): len(expected[a, "false_negative"] & expected[b, "false_positive"]) for a in NAMES for b in NAMES}
    assert {(c.missed, c.given): c.num_images for c in analysis.confusions} == {k: v for k, v in counts.items() if v}
    assert [c.num_images for c in analysis.confusions] == sorted(filter(None, counts.values()), reverse=True)
    for one in analysis.confusions:
        missed, wrong = expected[one.missed, "false_negative"], expected[one.given, "false_positive"]
        assert one.num_missed == len(missed)
        assert one.lift == pytest.approx((one.num_images / len(missed)) / (len(wrong) / 200))


def test_what_is_not_known_is_no_mistake():
    found = predictions([[-1, -1, 0], [-1, 1, -1]], [[0.9, 0.1, 0.1], [0.0, 0.9, 1.0]])
    analysis = error_analysis.analyse(make_run(), found)
    assert analysis.num_with_mistakes == 0
    assert not analysis.confusions
    assert [(one.num_positives, one.num_given) for one in analysis.labels.values()] == [(0, 0), (1, 1), (0, 0)]


def test_some_labels_only():
    found = predictions([[1, 0, 0]], [[0.0, 1.0, 1.0]])
    analysis = error_analysis.analyse(make_run(), found, ["eel", "cat"])
    assert list(analysis.labels) == ["cat", "eel"]
    assert [(c.missed, c.given) for c in analysis.confusions] == [("cat", "eel")]
    with pytest.raises(UsageError, match=r"no labels \['cow'\]. It has cat, dog, eel"):
        error_analysis.analyse(make_run(), found, ["cat", "cow"])


def test_the_summary_tells_the_numbers():
    found = predictions([[1, 0, 0], [1, 0, 1], [0, 1, 1]], [[0.0, 1.0, 0.0], [0.1, 0.9, 1.0], [0.0, 1.0, 0.0]])
    text = error_files.text(error_analysis.analyse(make_run(), found), "test")
    lines = [line.split() for line in text.splitlines()]
    assert text.startswith("test: 3 examples, 3 with a mistake")
    assert ["cat", "2", "2", "0", "0"] in lines  # positives, missed, given, given wrongly
    assert ["dog", "1", "0", "3", "2"] in lines
    assert any(line[:7] == ["cat", "dog", "2", "of", "2", "missed,", "1.5"] for line in lines)


def test_mistakes_of_a_real_run_become_files(run_copy, tmp_path):
    output = tmp_path / "out"
    analysis = error_files.write_errors(run_copy, str(output), split="train", num_images=6)
    run = run_dir.load(run_copy)
    found = saved_predictions.of_split(run, split="train")
    with open(output / "errors.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = by_hand(run, found)
    assert len(rows) == sum(map(len, expected.values())) > 50
    assert {(row["label"], row["kind"], int(row["place"])) for row in rows} == {
        (*key, place) for key, places in expected.items() for place in places
    }
    truth = {}
    builder = dataset_dir.open_builder(run.config["resolved"]["dataset_dir"])
    for place, example in enumerate(dataset_dir.read_split(builder, "train")):
        truth[place] = (example["id"].decode(), "|".join(run.labels[i] for i in sorted(example["labels"])))
    assert all(truth[int(row["place"])] == (row["id"], row["labels"]) for row in rows)
    sheets = sorted(path.name for path in (output / "sheets").iterdir())
    assert sheets == sorted(
        f"{run.labels.index(name):03d}-{name}-{kind}s.png" for (name, kind), places in expected.items() if places
    )
    assert analysis.num_with_mistakes == len(set().union(*expected.values()))


def test_a_run_that_may_only_be_read_is_looked_at_all_the_same(run_copy, tmp_path, monkeypatch, capsys):
    """Made by hand: a superuser may write wherever there is a file system that can be written to."""

    def refuse(code):
        def write(*_, **__):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(run_dir, "write_arrays", write)

    shutil.rmtree(os.path.join(run_copy, run_dir.PREDICTIONS_DIR), ignore_errors=True)
    refuse(errno.EROFS)
    assert cli.main(["errors", run_copy, f"--output={tmp_path / 'out'}", "--num_images=1"]) == 0
    assert f"Predictions are not kept in {run_copy}: Read-only file system." in capsys.readouterr().err
    refuse(errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        saved_predictions.of_split(run_dir.load(run_copy), split="test")


def test_the_command_takes_the_predictions_that_are_kept(run_copy, tmp_path, monkeypatch, capsys):
    output = tmp_path / "out"
    (output / "sheets").mkdir(parents=True)
    (output / "sheets" / "017-of another run-false_negatives.png").write_bytes(b"old")
    (output / "sheets" / "mine.png").write_bytes(b"nobody's business")
    saved_predictions.of_split(run_dir.load(run_copy), split="test")
    monkeypatch.setattr(run_dir.Run, "load_model", lambda _: pytest.fail("predicted again"))
    command = ["errors", run_copy, f"--output={output}", "--label=red", "--label=circle", "--num_images=3"]
    assert cli.main([*command, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert list(summary["labels"]) == sorted(["red", "circle"], key=run_dir.load(run_copy).labels.index)
    found = saved_predictions.of_split(run_dir.load(run_copy), split="test")
    expected = by_hand(run_dir.load(run_copy), found)
    for name, one in summary["labels"].items():
        assert one["missed"] == len(expected[name, "false_negative"])
        assert [mistake["place"] for mistake in one["surest_given_wrongly"]] == sorted(
            expected[name, "false_positive"],
            key=lambda place: -found.probabilities[place, run_dir.load(run_copy).labels.index(name)],
        )[:3]
    sheets = set(os.listdir(output / "sheets")) - {"mine.png"}
    assert sheets
    assert all("-red-" in name or "-circle-" in name for name in sheets)
    assert cli.main([*command, "--num_images=0"]) == 0
    assert capsys.readouterr().out.startswith("test: ")
    assert os.listdir(output / "sheets") == ["mine.png"]


def test_what_the_command_refuses(run_copy, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for arguments, message in [
        ([run_copy, f"--output={tmp_path}/out", "--label=cow"], "tfr: --label: "),
        ([run_copy, f"--output={tmp_path}/file"], "is a file; give a folder"),
        ([f"--output={tmp_path}/out"], "takes one run directory"),
    ]:
        assert cli.main(["errors", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_stored_images_are_those_of_the_split(drawn):
    builder = input_pipeline.open_dataset(drawn[0])
    images = [example["image"] for example in dataset_dir.read_split(builder, "train")]
    stored = records.StoredImages(builder, "train")
    assert stored.read([7, 0, len(images) - 1, 7]) == [images[7], images[0], images[-1], images[7]]
    assert stored.read([]) == []
    assert records.StoredImages(builder, "train[3:]").read([0]) == [images[3]]
