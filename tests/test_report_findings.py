"""Figures, words and findings of a report, on predictions made by hand."""

import dataclasses
import re

import numpy as np
import pytest
from report_checks import Page, drawn_predictions, make_material

from tfr.train.prediction.saved_predictions import Predictions
from tfr.train.reporting import figures as report_figures
from tfr.train.reporting import findings
from tfr.train.reporting import page as report_page
from tfr.train.reporting import words as report_words


def test_a_report_on_what_it_learnt_from_says_so():
    material = dataclasses.replace(make_material(*drawn_predictions(400)), served_for="training")
    assert "learnt_from" in kinds(material)
    page = Page(report_page.render(material, 0))
    assert "may have learnt from" in page.text
    assert "never seen" not in page.text


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
