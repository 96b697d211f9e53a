"""The report: a page of a real run that needs nothing but itself, and says what was measured."""

import collections
import dataclasses
import importlib
import json
import os
import re
import shlex
import shutil
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from tfr import cli, conversion, dataset_dir, splits
from tfr.annotations import ReadOptions
from tfr.config import ConvertConfig
from tfr.errors import DatasetError, MissingDependencyError, UsageError
from tfr.train import metrics, run_dir
from tfr.train.prediction.saved_predictions import Predictions
from tfr.train.reporting import figures as report_figures
from tfr.train.reporting import findings, report
from tfr.train.reporting import material as report_material
from tfr.train.reporting import page as report_page
from tfr.train.reporting import words as report_words
from tfr.train.thresholds import Thresholds


class Page(HTMLParser):
    """What a page holds: tags that are opened and not closed, links, ids, tables by row and cell, text and scripts."""

    VOID = frozenset({"meta", "img", "br", "path", "rect", "circle"})

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.ids, self.tags, self.text = [], [], set(), collections.Counter(), ""
        self.tables, self.scripts = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        self.ids |= {value for name, value in attrs if name == "id"}
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in self.VOID or tag in ("path", "rect", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("script", "style"):
            self.scripts.append(data)
            return
        self.text += data
        if self.tables and {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def rows(self, header):
        """The table whose first cell is `header`: first cell of a row to the texts of the others."""
        (table,) = [table for table in self.tables if table[0] and table[0][0] == header]
        return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in table[1:]}


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


@pytest.fixture(scope="module")
def reported(trained_run, tmp_path_factory):
    """A copy of the trained run and its report's path."""
    path = str(shutil.copytree(trained_run, tmp_path_factory.mktemp("report") / "run"))
    return path, report.write_report(path, num_examples=2)


@pytest.fixture(scope="module")
def reported_single(single_label_run, tmp_path_factory):
    """A copy of the single-label run, which has no fine-tuning, and its report's path."""
    path = str(shutil.copytree(single_label_run, tmp_path_factory.mktemp("report") / "run"))
    return path, report.write_report(path, num_examples=2, explain=False)


def measured(path, split="test"):
    return json.loads(read(os.path.join(path, run_dir.METRICS_FILE)))[split]


@pytest.mark.parametrize("which", ["reported", "reported_single"])
def test_the_page_is_whole_and_needs_nothing_but_itself(which, request):
    path, html = request.getfixturevalue(which)
    assert html == os.path.join(path, "report.html")
    text = read(html)
    page = Page(text)
    assert page.open == []
    inside = [link for link in page.links if link.startswith("#")]
    assert inside
    assert {link[1:] for link in inside} <= page.ids
    assert all(link.startswith("data:image/") for link in page.links if link not in inside)
    assert not re.search(r"https?://|url\(|@import", text)
    assert len(text) < 2_000_000
    assert page.tags["script"] == 1
    assert ("copy on which the parts glow" in page.text) == (which == "reported")
    assert page.tags["img"] >= 4
    assert {"nan", "inf"}.isdisjoint(re.findall(r"\w+", page.text))


def test_every_label_has_its_row_with_the_figures_of_metrics_json(reported):
    path, html = reported
    rows = {name.split("\u00a0")[0]: cells for name, cells in Page(read(html)).rows("tag").items()}
    per_label = measured(path)["per_label"]
    assert set(rows) == set(run_dir.load(path).labels)
    for name, cells in rows.items():
        expected = per_label[name]
        assert cells[1] == str(expected["support"])
        assert cells[6] == report_page.number_text(expected["average_precision"])
        assert cells[7] == report_page.number_text(expected["roc_auc"])
        assert cells[8] == f"{expected['threshold']:.0%}"


def test_the_table_of_figures_is_metrics_json(reported):
    path, html = reported
    rows, figures = Page(read(html)).rows("figure"), measured(path)
    for name, key in (("F1 (micro)", "micro_f1"), ("mAP (macro)", "macro_map"), ("log loss", "log_loss")):
        assert rows[name][0] == f"{figures[key]:.3f}"
    interval = figures["intervals"]["macro_map"]
    assert rows["mAP (macro)"][1] == f"{interval['low']:.3f} to {interval['high']:.3f}"
    assert rows["ROC-AUC (macro)"][3] == "0.500"  # without looking


def test_a_single_label_report_has_the_confusion_matrix(reported_single):
    path, html = reported_single
    text, figures = read(html), measured(path)
    names, matrix = run_dir.load(path).labels, np.array(figures["confusion_matrix"])
    for i, row in enumerate(matrix):
        if row.sum():
            assert f"{names[i]}: given on {row[i]} of its images" in text
    page = Page(text)
    assert page.rows("figure")["accuracy"][0] == f"{figures['accuracy']:.3f}"
    assert "precision (micro)" not in page.rows("figure")
    assert "fine-tuning, number" not in page.text


def test_the_page_says_what_was_trained_on_what(reported, drawn):
    path, html = reported
    page, resolved = Page(read(html)), run_dir.load(path).config["resolved"]
    uses = page.rows("split")
    assert uses["train"] == [str(resolved["num_train"]), "learnt from"]
    assert uses["test"][1] == "measured on, in this report"
    reasons = dataset_dir.read_conversion(drawn[0])["result"]["rejects_by_reason"]
    assert reasons
    assert {reason: cells[0] for reason, cells in page.rows("reason").items()} == {
        reason: str(count) for reason, count in reasons.items()
    }


@pytest.mark.parametrize("which", ["reported", "reported_single"])
def test_the_commands_on_the_page_are_commands(which, request):
    path, html = request.getfixturevalue(which)
    lines = [line for line in Page(read(html)).text.splitlines() if line.startswith("tfr ")]
    assert len(lines) >= 4
    for line in lines:
        _, name, *arguments = shlex.split(line)
        command = importlib.import_module(cli.COMMANDS[name][0])
        assert command.FLAGS.parse(arguments)[0] == path


def test_without_a_test_split_the_validation_split_stands_in_and_the_report_says_so(run_copy, drawn, tmp_path):
    converted = conversion.convert(
        ConvertConfig(
            annotations=os.path.join(os.path.dirname(drawn[1]), "annotations.csv"),
            images=drawn[1],
            data_dir=str(tmp_path / "data"),
            name="shapes",
            read=ReadOptions(label_delimiter="|"),
            split_ratios=splits.parse_ratios("train=0.6,validation=0.4"),
        )
    )
    config = json.loads(read(os.path.join(run_copy, run_dir.CONFIG_FILE)))
    config["resolved"]["dataset_dir"] = converted.dataset_dir
    run_dir.write_json(run_copy, run_dir.CONFIG_FILE, config)
    page = Page(read(report.write_report(run_copy, num_examples=1, explain=False)))
    number = measured(run_copy, "validation")["num_examples"]
    assert number == converted.records_per_split["validation"]
    assert page.rows("split")["validation"] == [
        str(number),
        "best epoch and thresholds chosen by and measured on, in this report",
    ]
    assert "there is no separate test split" in " ".join(page.text.split())
    assert "already served to choose thresholds" in page.text


@pytest.mark.parametrize(
    ("dataset", "split", "expected"),
    [("a/1.0.0", "test", ""), ("a/1.0.0", "train[90%:]", "validation"), ("a/1.0.0", "train[:10%]", "training"),
     ("a/1.0.0", "train", "training"), ("b/1.0.0", "train", "")],
)  # fmt: skip
def test_what_a_split_served_for(dataset, split, expected):
    resolved = {"dataset": "a/1.0.0", "train_split": "train[:90%]", "validation_split": "train[90%:]"}
    assert report._served_for(resolved, dataset, split) == expected


def test_a_report_on_what_it_learnt_from_says_so():
    material = dataclasses.replace(make_material(*drawn_predictions(400)), served_for="training")
    assert "learnt_from" in kinds(material)
    page = Page(report_page.render(material, 0))
    assert "may have learnt from" in page.text
    assert "never seen" not in page.text


def test_a_dataset_that_is_gone_can_be_named(reported, tmp_path):
    path = str(shutil.copytree(reported[0], tmp_path / "run"))
    config = json.loads(read(os.path.join(path, run_dir.CONFIG_FILE)))
    config["resolved"]["dataset_dir"] = str(tmp_path / "gone")
    run_dir.write_json(path, run_dir.CONFIG_FILE, config)
    with pytest.raises(DatasetError, match="--dataset"):
        report.write_report(path)


def test_other_missing_splits_are_an_error(reported):
    with pytest.raises(DatasetError, match="holdout"):
        report.write_report(reported[0], split="holdout")


def test_a_run_without_history_still_has_a_report(reported, tmp_path):
    path = str(shutil.copytree(reported[0], tmp_path / "run"))
    os.remove(os.path.join(path, run_dir.HISTORY_FILE))
    page = Page(read(report.write_report(path, num_examples=0)))
    assert "no record of the epochs" in page.text
    assert page.tags["img"] == 0


@pytest.mark.parametrize("multi_label", [True, False])
def test_names_of_labels_cannot_become_markup(multi_label):
    names = ["<script>alert(1)</script>", "a \"quoted\" & 'b'", "</title><b>"]
    targets, probabilities = drawn_predictions(60)
    if not multi_label:
        targets = np.eye(3)[targets.argmax(axis=1)]
    page = Page(report_page.render(make_material(targets, probabilities, multi_label=multi_label, names=names), 0))
    assert page.tags["script"] == 1
    assert page.open == []
    found = page.rows("tag" if multi_label else "label")
    assert {name.split("\u00a0")[0] for name in found} == set(names)


@pytest.mark.parametrize("number", [1, 40])
@pytest.mark.parametrize("num_labels", [1, 2])
def test_even_of_nothing_there_is_a_page(number, num_labels):
    targets, probabilities = np.zeros((number, num_labels)), np.full((number, num_labels), 0.3)
    page = Page(report_page.render(make_material(targets, probabilities), 0))
    assert "None of these images has a tag" in page.text
    assert "nan" not in re.findall(r"\w+", page.text)


# The command, and paper


def test_the_command_writes_the_same_page_and_says_where(reported, tmp_path, capsys):
    path, html = reported
    output = str(tmp_path / "folder" / "page.html")
    assert cli.main(["report", path, f"--output={output}", "--num_examples=2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"html": output}
    assert read(output) == read(html)


@pytest.mark.parametrize(
    ("arguments", "code"), [([], 2), (["a", "b"], 2), (["nowhere"], 1), (["nowhere", "--num_examples=-1"], 2)]
)
def test_the_command_fails_in_one_line(arguments, code, capsys):
    assert cli.main(["report", *arguments]) == code
    assert capsys.readouterr().err.count("\n") == 1


def test_the_output_is_html(reported):
    with pytest.raises(UsageError, match=r"\.html"):
        report.write_report(reported[0], output="page.pdf")


def test_the_report_as_pdf(reported, tmp_path):
    try:
        import weasyprint  # noqa: F401
    except (ImportError, OSError):
        pytest.skip("WeasyPrint or its library Pango is not installed")
    html = report.write_report(reported[0], num_examples=1, explain=False, output=str(tmp_path / "page.html"), pdf=True)
    with open(report.pdf_path(html), "rb") as file:
        data = file.read()
    assert data.startswith(b"%PDF-")
    assert data.rstrip().endswith(b"%%EOF")
    assert re.search(rb"/Count (\d+)", data) is None or int(re.search(rb"/Count (\d+)", data)[1]) > 3


@pytest.mark.parametrize(
    ("error", "message"),
    [(ImportError("no weasyprint"), "tfr\\[pdf\\]"), (OSError("cannot load library 'libpango'"), "libpango-1.0-0")],
)
def test_what_a_pdf_needs_is_said_before_anything_is_written(reported, tmp_path, monkeypatch, error, message):
    class Finder:
        def find_spec(self, name, path=None, target=None):
            del path, target
            if name == "weasyprint":
                raise error

    for name in [name for name in sys.modules if name.split(".")[0] == "weasyprint"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(MissingDependencyError, match=message):
        report.write_report(reported[0], output=str(tmp_path / "page.html"), pdf=True)
    assert os.listdir(tmp_path) == []


# Figures, words and warnings, on predictions made by hand


def make_material(
    targets, probabilities, *, multi_label=True, threshold=0.5, history=(), validation=None, names="abcdefgh", **config
):
    """Material of a run with labels a, b, ... and one threshold, without a dataset."""
    targets, probabilities = np.array(targets, np.float32), np.array(probabilities, np.float32)
    names = list(names[: targets.shape[1]])
    thresholds = Thresholds(overall=threshold, per_label=np.full(len(names), threshold), strength=np.inf)
    resolved = {"label_mode": "multi" if multi_label else "single", "dataset": "made/1.0.0", "num_train": 100}
    defaults = {"monitor": "val_loss", "schedule": "cosine", "finetune_epochs": 0, "model": {"weights": "imagenet"}}
    resolved |= {"train_split": "train", "validation_split": "validation", "num_validation": 50, "image_size": 64}
    resolved |= {"backbone": "made", "parameters": 1, "seconds": 1.0}
    run = run_dir.Run(
        path="runs/made", labels=names, thresholds=thresholds, config={**defaults, "resolved": resolved, **config}
    )
    found = Predictions(targets, probabilities, [])
    values = metrics.compute_metrics(targets, probabilities, names, threshold=threshold, multi_label=multi_label)
    values["intervals"] = {
        key: {"low": 0.0, "high": 1.0} for key in ("micro_map", "macro_map", "accuracy", "macro_roc_auc")
    }
    return report_material.Material(
        run=run,
        split="test",
        served_for="",
        found=found,
        validation=validation,
        measured=values,
        history=list(history),
        dataset_dir="data/made",
        dataset="made/1.0.0",
        splits={"train": 100, "test": len(targets)},
        train_counts=dict(zip(names, (60, 30, 10, 5, 1, 1, 1, 1), strict=False)),
        data=None,
        duplicates=None,
    )


def drawn_predictions(number, num_labels=3, skill=2.0, seed=0):
    rng = np.random.default_rng(seed)
    targets = (rng.random((number, num_labels)) < 0.4).astype(np.float32)
    logits = skill * (targets - 0.5) + rng.normal(size=targets.shape)
    return targets, 1 / (1 + np.exp(-logits))


def kinds(material):
    return {finding.kind for finding in findings.find(material)}


def test_headline_shares_are_those_counted_by_hand():
    targets = [[1, 0, 1], [0, 1, 0], [1, 1, -1], [0, 0, 0]]
    probabilities = [[0.9, 0.6, 0.2], [0.7, 0.8, 0.1], [0.4, 0.9, 0.95], [0.1, 0.2, 0.3]]
    material = make_material(targets, probabilities)
    shares = material.shares
    assert shares["right"].value == pytest.approx(3 / 5)  # shown and known: a b; a b; b
    assert shares["found"].value == pytest.approx(3 / 5)  # there: a c; b; a b
    assert shares["first"].value == pytest.approx(3 / 4)
    assert shares["none_shown"].value == pytest.approx(1 / 4)
    assert shares["right"].value == pytest.approx(material.measured["micro_precision"])
    assert shares["f1"].value == pytest.approx(material.measured["micro_f1"])
    assert 0 <= shares["right"].low <= shares["right"].value <= shares["right"].high <= 1


def test_a_share_of_all_is_not_certain():
    targets = np.eye(2)[np.arange(20) % 2]
    share = make_material(targets, 0.9 * targets, multi_label=False).shares["first"]
    assert share.value == 1
    assert share.low == pytest.approx(1 / (1 + 1.96**2 / 20))


@pytest.mark.parametrize(
    ("share", "words"),
    [(0, "None"), (0.001, "1 in 100"), (0.04, "4 in 100"), (0.06, "1 in 10"), (0.52, "5 in 10"), (0.94, "9 in 10"),
     (0.97, "97 in 100"), (0.999, "99 in 100"), (1, "All"), (float("nan"), "\u2013")],
)  # fmt: skip
def test_shares_in_words(share, words):
    assert report_words.in_ten(share) == words


def test_the_guess_is_what_does_best_without_looking():
    targets, probabilities = drawn_predictions(200)
    targets[:, 0] = 1
    material = make_material(targets, probabilities)
    assert material.guess.tolist()[0]
    guess = report_figures.guess_metrics(material)
    assert material.shares["guess_right"].value == pytest.approx(guess["micro_precision"])
    assert material.shares["guess_found"].value == pytest.approx(guess["micro_recall"])
    single = make_material(np.eye(3)[np.arange(30) % 3], np.full((30, 3), 1 / 3), multi_label=False)
    assert single.guess.tolist() == [True, False, False]


def test_a_tagger_that_guesses_is_called_out():
    targets, probabilities = drawn_predictions(400, skill=0.0)
    assert "no_better" in kinds(make_material(targets, probabilities))
    assert "no_better" not in kinds(make_material(*drawn_predictions(400, skill=4.0)))


def test_too_sure_and_too_modest_taggers_are_called_out():
    targets, probabilities = drawn_predictions(600)
    too_sure = np.where(probabilities > 0.5, 0.99, probabilities)
    too_modest = np.where(probabilities > 0.5, 0.51, probabilities)
    assert "overconfident" in kinds(make_material(targets, too_sure))
    assert "underconfident" in kinds(make_material(targets, too_modest))
    rng = np.random.default_rng(0)
    exact = rng.random((3000, 2))
    assert not {"overconfident", "underconfident", "uncalibrated"} & kinds(
        make_material(rng.random(exact.shape) < exact, exact)
    )


def test_few_examples_and_labels_that_are_never_shown_are_called_out():
    targets, probabilities = drawn_predictions(60)
    targets[5:, 2] = 0
    probabilities[:, 2] = 0.1
    found = {finding.kind: finding for finding in findings.find(make_material(targets, probabilities))}
    assert {"small_split", "few_positives", "never_shown"} <= set(found)
    assert "c" in found["few_positives"].found.split(": ")[1]
    targets, probabilities = drawn_predictions(600)
    assert not {"small_split", "few_positives", "never_shown"} & kinds(make_material(targets, probabilities))


def epochs(losses, val_losses, phase="head"):
    return [
        {"phase": phase, "epoch": i + 1.0, "loss": one, "val_loss": other}
        for i, (one, other) in enumerate(zip(losses, val_losses, strict=True))
    ]


def test_overfitting_is_seen_in_the_curves():
    data = drawn_predictions(400)
    overfitted = epochs([1.0, 0.8, 0.6, 0.4], [1.0, 0.9, 1.0, 1.1])
    found = {finding.kind: finding for finding in findings.find(make_material(*data, history=overfitted))}
    assert "after epoch 2" in found["overfitted"].found
    settled = epochs([1.0, 0.8, 0.6, 0.4], [1.0, 0.9, 0.905, 0.91])
    assert "overfitted" not in kinds(make_material(*data, history=settled))
    still_falling = epochs([1.0, 0.8, 0.6], [1.0, 0.9, 0.8])
    assert "too_short" in kinds(make_material(*data, history=still_falling, schedule="constant"))
    assert "too_short" not in kinds(make_material(*data, history=still_falling))


def test_stricter_settings_keep_what_they_were_chosen_for():
    validation = Predictions(*drawn_predictions(2000, seed=1), [])
    settings = report_figures.stricter_settings(make_material(*drawn_predictions(2000), validation=validation))
    assert len(settings) > 2
    assert [s.threshold for s in settings] == sorted({s.threshold for s in settings})
    assert all(abs(s.right - s.wanted) < 0.06 for s in settings)
    assert [s.found for s in settings] == sorted((s.found for s in settings), reverse=True)


@pytest.mark.parametrize("multi_label", [True, False])
def test_what_is_given_instead_is_counted(multi_label):
    targets = [[1, 0, 0], [1, 0, 0], [0, 1, 0]]
    probabilities = [[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.2, 0.1, 0.7]]
    material = make_material(targets, probabilities, multi_label=multi_label)
    shares, counts = report_figures.given_instead(material, [0, 1, 2])
    assert counts.tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert shares[0].tolist() == [0.5, 0.5, 0]
    assert np.isnan(shares[2]).all()


def test_labels_are_grouped_by_what_can_be_said_of_them():
    targets, probabilities = drawn_predictions(400, num_labels=4, skill=6.0)
    probabilities[:, 1] = np.where(np.arange(400) < 40, 0.9, 0.1)  # has nothing to do with the truth
    targets[5:, 2] = 0
    groups = {row.name: row.group for row in report_figures.label_rows(make_material(targets, probabilities))}
    assert groups == {"a": "reliable", "b": "weak", "c": "unsure", "d": "reliable"}
