"""The report: a page of a real run that needs nothing but itself, and says what was measured."""

import importlib
import json
import os
import re
import shlex
import shutil
import sys

import numpy as np
import pytest
from report_checks import Page

from tfr import cli, conversion, dataset_dir, splits
from tfr.annotations import ReadOptions
from tfr.config import ConvertConfig
from tfr.errors import DatasetError, MissingDependencyError, UsageError
from tfr.train import run_dir
from tfr.train.reporting import page as report_page
from tfr.train.reporting import report


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


def test_what_the_validation_split_decided(reported_single):
    """So few examples judge no epochs, and the head phase kept the last."""
    assert run_dir.load(reported_single[0]).config["keep"] == "last"
    assert Page(read(reported_single[1])).rows("split")["validation"][1] == "thresholds chosen by"


def test_a_dataset_that_is_gone_can_be_named(reported, tmp_path):
    path = str(shutil.copytree(reported[0], tmp_path / "run"))
    config = json.loads(read(os.path.join(path, run_dir.CONFIG_FILE)))
    config["resolved"] |= {"dataset_dir": str(tmp_path / "gone"), "dataset_from_run": "../gone"}
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
