"""Labels that are probably wrong: confident learning against its authors' program, and planted errors found again."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
from conversion_checks import labels_of, write_csv

from tfr import cli, dataset_dir, files, synthetic
from tfr.train import bottlenecks, cross_validation, label_issue_files, label_issues, run_dir, training
from tfr.train.config import DataConfig, ModelConfig, TrainConfig
from tfr.train.prediction import saved_predictions

UNKNOWN = -1


def noisy(num_examples=600, num_classes=2, share=0.08, seed=0):
    """Given classes, some of them wrong, with out-of-sample probabilities; returns (given, wrong, probabilities)."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(num_classes, num_examples, p=np.arange(1, num_classes + 1) / np.arange(1, num_classes + 1).sum())
    logits = rng.normal(0, 1, (num_examples, num_classes)) + 3 * np.eye(num_classes)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    wrong = rng.random(num_examples) < share
    given = np.where(wrong, (truth + rng.integers(1, num_classes, num_examples)) % num_classes, truth)
    return given, wrong, probabilities


def test_two_classes_come_out_as_in_cleanlab(run_python, tmp_path):
    cases = [noisy(seed=seed, share=share) for seed, share in enumerate([0.02, 0.1, 0.3])]
    np.savez(
        tmp_path / "cases.npz",
        **{f"{i}{k}": v for i, case in enumerate(cases) for k, v in zip("gwp", case, strict=True)},
    )
    # Elsewhere, in a process of its own: cleanlab imports the package `datasets`, and a checkout has such a folder.
    script = (
        "import numpy as np\n"
        "from cleanlab.filter import find_label_issues\n"
        "f = np.load('cases.npz')\n"
        "for i in range(3):\n"
        "    found = find_label_issues(f[f'{i}g'], f[f'{i}p'], filter_by='confident_learning', n_jobs=1)\n"
        "    print(*np.flatnonzero(found))\n"
    )
    done = run_python("-c", script, cwd=tmp_path, env={"PYTHONPATH": ""})
    if "No module named 'cleanlab'" in done.stderr:
        pytest.skip("cleanlab is not installed")
    assert done.returncode == 0, done.stderr
    for (given, _, probabilities), line in zip(cases, done.stdout.splitlines(), strict=True):
        found = np.flatnonzero(label_issues.confident_classes(given, probabilities) != given).tolist()
        assert found == list(map(int, line.split()))
        assert len(found) > 5


def test_several_classes_by_hand():
    given, wrong, probabilities = noisy(num_classes=4)
    means = [np.mean([p[k] for p, g in zip(probabilities, given, strict=True) if g == k]) for k in range(4)]
    expected = []
    for p, g in zip(probabilities, given, strict=True):
        classes = [k for k in range(4) if p[k] >= means[k] and p[k] > p[g]]
        expected.append(max(classes, key=lambda k: p[k], default=g))
    found = label_issues.confident_classes(given, probabilities)
    assert found.tolist() == expected
    flagged = found != given
    assert (flagged & wrong).sum() / flagged.sum() > 0.7  # of 8 % that are wrong
    assert (flagged & wrong).sum() / wrong.sum() > 0.6


def test_tags_are_judged_one_by_one_and_only_where_they_are_known():
    columns = [noisy(seed=seed) for seed in (5, 6, 7)]
    targets = np.stack([given for given, _, _ in columns], axis=1)
    probabilities = np.stack([p[:, 1] for _, _, p in columns], axis=1)
    known = np.random.default_rng(0).random(targets.shape) < 0.7
    known[:, 2] &= targets[:, 2] == 1  # a label of which no image is known to lack it cannot be judged
    masked = np.where(known, targets, UNKNOWN)
    found = list(label_issues.doubtful_tags(masked, probabilities))
    for column in (0, 1):
        rows = np.flatnonzero(known[:, column])
        given, both = targets[rows, column], columns[column][2][rows]
        expected = rows[label_issues.confident_classes(given, both) != given].tolist()
        assert [row for row, label, _, _ in found if label == column] == expected != []
    assert {label for _, label, _, _ in found} == {0, 1}
    for row, label, replaced, score in found:
        assert replaced is None
        assert score == pytest.approx(abs(1 - masked[row, label] - probabilities[row, label]))  # of what is given


def test_classes_without_examples_and_examples_without_a_class_are_left_out():
    given, _, probabilities = noisy(num_classes=3)
    targets, wide = np.zeros((len(given), 5)), np.full((len(given), 5), 1e-9)
    targets[np.arange(len(given)), given * 2] = 1  # classes 0, 2 and 4; 1 and 3 have no example
    wide[:, ::2] = probabilities
    wide[:, 1] = 0.99
    targets[:50] = 0
    found = list(label_issues.doubtful_classes(targets, wide))
    confident = label_issues.confident_classes(given[50:], probabilities[50:])
    rows = np.flatnonzero(confident != given[50:])
    assert [(r, b, g) for r, b, g, _ in found] == [
        (int(i) + 50, int(confident[i]) * 2, int(given[i + 50]) * 2) for i in rows
    ]
    assert all(score == pytest.approx(wide[row, old]) for row, _, old, score in found)


def test_an_example_is_judged_by_heads_that_have_not_seen_it():
    """Labels are coin tosses: who has seen them scores well, who has not scores like chance."""
    rng = np.random.default_rng(0)
    embeddings = bottlenecks.Embeddings(
        rng.normal(size=(120, 256)).astype(np.float32), rng.integers(0, 2, (120, 4)).astype(np.float32)
    )
    head = cross_validation._train_head(embeddings, True, 0)
    seen = np.asarray(head(embeddings.values))[:, 0] > 0
    unseen = cross_validation.out_of_fold(embeddings, True, num_folds=3) > 0.5
    assert (seen == embeddings.targets).mean() > 0.9
    assert (unseen == embeddings.targets).mean() < 0.6


@pytest.mark.parametrize("multi_label", [True, False])
def test_planted_errors_are_found(multi_label):
    """Four kinds of examples, well apart; 6 % of the labels are wrong. Ten times better than chance at the least."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 4, 400)
    centres = rng.normal(size=(4, 32))
    values = (centres[kinds] + 0.7 * rng.normal(size=(400, 32))).astype(np.float32)
    truth = np.eye(4, dtype=np.float32)[kinds]
    if multi_label:
        planted = rng.random(truth.shape) < 0.06
        targets = np.where(planted, 1 - truth, truth)
        found = label_issues.doubtful_tags(
            targets, cross_validation.out_of_fold(bottlenecks.Embeddings(values, targets), True, num_folds=3)
        )
        hits = [bool(planted[row, column]) for row, column, _, _ in found]
    else:
        planted = rng.random(400) < 0.06
        targets = np.eye(4, dtype=np.float32)[np.where(planted, (kinds + 1) % 4, kinds)]
        found = label_issues.doubtful_classes(
            targets, cross_validation.out_of_fold(bottlenecks.Embeddings(values, targets), False, num_folds=3)
        )
        hits = [bool(planted[row]) and column == kinds[row] for row, column, _, _ in found]
    assert np.mean(hits) > 0.7
    assert sum(hits) / planted.sum() > 0.8


def test_the_table_of_a_real_run(run_copy, tmp_path, capsys):
    output = tmp_path / "out"
    assert cli.main(["errors", run_copy, f"--output={output}", "--label_issues=train,test", "--num_images=4"]) == 0
    with open(output / "label_issues.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert f"labels that are probably wrong in train, test: {len(rows)}\n" in capsys.readouterr().out
    assert {row["split"] for row in rows} == {"train", "test"}
    run = run_dir.load(run_copy)
    builder = dataset_dir.open_builder(run.config["resolved"]["dataset_dir"])
    truth = {
        (split, example["id"].decode()): [run.labels[i] for i in sorted(example["labels"])]
        for split in ("train", "test")
        for example in dataset_dir.read_split(builder, split)
    }
    places = {split: [id_ for part, id_ in truth if part == split] for split in ("train", "test")}
    for row in rows:
        assert places[row["split"]][int(row["place"])] == row["id"]
        labels = truth[row["split"], row["id"]]
        assert row["labels"] == "|".join(labels)
        assert row["given"] == ("present" if row["label"] in labels else "absent") != row["suggested"]
        assert row["decision"] == row["replaces"] == ""
        assert float(row["score"]) <= 0.5
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores)
    assert (output / "label_issues-present.png").exists() == any(row["suggested"] == "present" for row in rows)

    # What a person has written is not overwritten; a table without decisions is
    assert cli.main(["errors", run_copy, f"--output={output}", "--label_issues=test", "--json", "--num_images=0"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert 0 < summary["label_issues"]["num_issues"] < len(rows)
    assert not list(output.glob("label_issues-*.png"))
    text = files.read_bytes(str(output / "label_issues.csv")).decode()
    (output / "label_issues.csv").write_text(text.rstrip("\n") + "yes\n")
    assert cli.main(["errors", run_copy, f"--output={output}", "--label_issues=test"]) == 2
    assert "label_issues.csv holds 1 decisions of a person. Give another --output" in capsys.readouterr().err
    assert (output / "label_issues.csv").read_text().endswith("yes\n")
    assert cli.main(["errors", run_copy, f"--output={output}-2", "--label_issues=trian"]) == 1
    assert "has no split 'trian'" in capsys.readouterr().err
    assert not os.path.exists(f"{output}-2")


def test_only_what_the_run_has_seen_is_cross_validated(trained_run, monkeypatch):
    nothing = saved_predictions.Predictions(np.zeros((1, 9)), np.zeros((1, 9)), ["x"])
    judged = {"seen": [], "unseen": []}
    monkeypatch.setattr(cross_validation, "predict", lambda *args, **_: judged["seen"].append(args[2]) or nothing)
    monkeypatch.setattr(
        saved_predictions, "of_split", lambda *_, split, **__: judged["unseen"].append(split) or nothing
    )
    splits = ["train", "train[:20]", "validation", "test", "train[:5]+test"]
    assert label_issues.find_issues(run_dir.load(trained_run), splits) == []
    assert judged == {"seen": ["train", "train[:20]", "train[:5]+test"], "unseen": ["validation", "test"]}


def test_the_table_of_a_single_label_run_names_what_is_replaced(single_label_run, tmp_path):
    run_path = str(shutil.copytree(single_label_run, tmp_path / "run"))
    issues = label_issue_files.write_issues(run_path, str(tmp_path / "out"), ["validation+test"], num_images=0)
    assert issues
    for one in issues:
        assert one.labels == (one.replaces,) != (one.label,)
        assert (one.given, one.suggested) == ("absent", "present")
        assert one.probability > one.score
    assert os.listdir(tmp_path / "out") == ["label_issues.csv"]


@pytest.mark.slow
def test_planted_errors_go_the_whole_way_and_are_right_in_the_end(tmp_path, capsys):
    """Convert with wrong labels, train, `tfr errors`, a person decides, convert with --corrections."""
    csv_path, images = synthetic.write_image_set(str(tmp_path), 150)
    base = [f"--annotations={csv_path}", f"--images={images}", f"--data_dir={tmp_path}/data", "--name=shapes"]
    base += ["--label_delimiter=|"]
    assert cli.main(["convert", *base]) == 0
    right = labels_of(f"{tmp_path}/data/shapes/1.0.0")
    names = sorted({label for labels in right.values() for label in labels})
    rng = np.random.default_rng(0)
    planted = [(id_, str(rng.choice(names))) for id_ in right if rng.random() < 0.15]
    assert len(planted) > 15
    rows = [["id", "label", "present"], *([id_, label, int(label not in right[id_])] for id_, label in planted)]
    wrong = [*base, f"--corrections={write_csv(tmp_path / 'wrong.csv', rows)}", "--version=1.0.1"]
    assert cli.main(["convert", *wrong]) == 0
    wrong_labels = labels_of(f"{tmp_path}/data/shapes/1.0.1")
    assert sum(right[id_] != wrong_labels[id_] for id_ in right) == len(planted)

    run_path, output = f"{tmp_path}/run", f"{tmp_path}/errors"
    training.train(
        TrainConfig(
            run_dir=run_path,
            data=DataConfig(dataset=f"{tmp_path}/data/shapes/1.0.1", batch_size=16),
            model=ModelConfig(image_size=128),
            epochs=10,
        )
    )
    assert cli.main(["errors", run_path, f"--output={output}", "--label_issues=train,validation,test"]) == 0
    with open(f"{output}/label_issues.csv", encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    hits = [(row["id"], row["label"]) in planted for row in found]
    assert np.mean(hits[:10]) >= 0.8  # of all labels 2 in 100 are planted
    assert sum(hits) >= 0.6 * len(planted)

    for row in found:  # the person, who knows
        is_right = (row["suggested"] == "present") == (row["label"] in right[row["id"]])
        row["decision"] = "yes" if is_right else "no"
    write_csv(f"{output}/label_issues.csv", [list(found[0]), *(list(row.values()) for row in found)])
    # Other people's annotations are wrong themselves: the dataset with the wrong labels is what is corrected
    mended = [f"--annotations={tmp_path}/data/shapes/1.0.1", *base[2:4], "--version=1.0.2", "--id_column=id"]
    capsys.readouterr()
    assert cli.main(["convert", *mended, f"--corrections={output}/label_issues.csv", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["corrections"]["changed"], result["corrections"]["unchanged"]) == (sum(hits), 0)
    still_wrong = {id_ for (id_, label) in set(planted) - {(row["id"], row["label"]) for row in found}}
    mended_labels = labels_of(f"{tmp_path}/data/shapes/1.0.2")
    assert {id_ for id_ in right if mended_labels[id_] != right[id_]} == still_wrong
