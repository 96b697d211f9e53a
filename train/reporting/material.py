"""What a report is made of: a run, what it says of a split, and what is known of the dataset."""

import dataclasses
import functools
import re
from typing import Any

import numpy as np

from tfr.duplicates import Duplicates
from tfr.statistics_report import Report as DataReport

from .. import error_analysis, metrics, run_dir, threshold_tuning
from ..prediction.saved_predictions import Predictions
from .shares import Share, headline_shares


@dataclasses.dataclass(frozen=True, kw_only=True)
class Material:
    """Everything that a report is made of.

    Attributes:
      run: the run.
      split: what it is measured on.
      served_for: '' where the training saw nothing of that; 'validation' where thresholds and epochs were chosen by
        it; 'training' where the run may have learnt from it.
      found: targets and probabilities there.
      validation: those of the validation split; None where it cannot be read.
      measured: see evaluation.measure.
      history: history.csv: a row an epoch, numbers where they are.
      dataset_dir, dataset: of the dataset it is measured on: where it is, and its name.
      splits: its splits and their examples.
      train_counts: label to its training images; empty where nobody counted.
      data: what `tfr stats` says of the dataset; None where it is too large to be counted here.
      duplicates: images that are in the dataset more than once; None where they were not looked for.
    """

    run: run_dir.Run
    split: str
    served_for: str
    found: Predictions
    validation: Predictions | None
    measured: dict[str, Any]
    history: list[dict[str, Any]]
    dataset_dir: str
    dataset: str
    splits: dict[str, int]
    train_counts: dict[str, int]
    data: DataReport | None
    duplicates: Duplicates | None

    @functools.cached_property
    def known(self) -> np.ndarray:
        """Of which pairs of an example and a label the truth is known, bool (num_examples, num_labels)."""
        return error_analysis.known_labels(self.run, self.found)

    @functools.cached_property
    def present(self) -> np.ndarray:
        """Which labels are there, bool (num_examples, num_labels)."""
        return self.found.targets == 1

    @functools.cached_property
    def shown(self) -> np.ndarray:
        """Which labels are shown, bool (num_examples, num_labels): those from their threshold on."""
        return self.found.probabilities >= self.run.thresholds.per_label

    @functools.cached_property
    def given(self) -> np.ndarray:
        """What a person is given, bool (num_examples, num_labels): known labels shown; single-label: the likeliest."""
        return error_analysis.given_labels(self.run, self.found) & self.known

    @functools.cached_property
    def prior(self) -> np.ndarray:
        """How frequent each label is in training (else in validation, else here), float64 (num_labels,)."""
        names, counts = self.run.labels, self.train_counts
        if any(counts.values()):
            return np.array([counts.get(name, 0) for name in names]) / max(self.run.config["resolved"]["num_train"], 1)
        targets = (self.validation or self.found).targets
        return (targets == 1).sum(axis=0) / np.maximum((targets != metrics.UNKNOWN).sum(axis=0), 1)

    @functools.cached_property
    def guess(self) -> np.ndarray:
        """The labels, bool (num_labels,), that one would show on every image without looking: the best by micro F1.

        They are the most frequent ones, as many as do best on the validation split (else here, which flatters them).
        """
        prior = self.prior
        if not self.run.multi_label:
            return np.arange(len(prior)) == prior.argmax()
        targets = (self.validation or self.found).targets
        return prior >= threshold_tuning.global_threshold(targets, np.broadcast_to(prior, targets.shape))

    @functools.cached_property
    def shares(self) -> dict[str, Share]:
        """See shares.headline_shares."""
        return headline_shares(
            self.found,
            known=self.known,
            shown=self.shown,
            prior=self.prior,
            guess=self.guess,
            multi_label=self.run.multi_label,
        )

    @functools.cached_property
    def validation_measured(self) -> dict[str, Any]:
        """What `measured` is on the validation split, intervals apart; empty where that cannot be read."""
        if self.validation is None:
            return {}
        targets, probabilities = self.validation.targets, self.validation.probabilities
        thresholds = self.run.thresholds.per_label
        return metrics.compute_metrics(
            targets, probabilities, self.run.labels, threshold=thresholds, multi_label=self.run.multi_label
        )

    @property
    def word(self) -> str:
        """What a label is called: 'tag' where an image has any number of them."""
        return "tag" if self.run.multi_label else "label"

    @functools.cached_property
    def num_leaked(self) -> int:
        """Images of the split measured on that are, nearly, in the training split too."""
        here, learnt = (base_split(split) for split in (self.split, self.run.config["resolved"]["train_split"]))
        groups = self.duplicates.groups if self.duplicates and here != learnt else []
        return sum(m.split == here for group in groups if learnt in group.splits for m in group.members)

    def labels_by_support(self) -> list[str]:
        """Label names, the most frequent here first."""
        per_label = self.measured["per_label"]
        return sorted(self.run.labels, key=lambda name: -per_label[name]["support"])


def base_split(split: str) -> str:
    """The split that a slice is of: 'train' of 'train[:90%]'."""
    return re.split(r"[\[+]", split)[0]
