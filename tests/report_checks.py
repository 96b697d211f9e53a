"""What several tests of reports share: a page taken apart, and predictions made by hand."""

import collections
from html.parser import HTMLParser

import numpy as np

from tfr.train import metrics, run_dir
from tfr.train.prediction.saved_predictions import Predictions
from tfr.train.reporting import material as report_material
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
