"""Is one run better than another? The same examples, paired bootstrap."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfr.errors import RunDirError, UsageError

from . import bootstrap, run_dir
from .prediction import saved_predictions


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunFigures:
    """The headline figures of one run.

    Attributes:
      path: the run directory.
      figures: figure to its value on the split.
      intervals: figure to its 95 % interval (low, high).
    """

    path: str
    figures: dict[str, float]
    intervals: dict[str, tuple[float, float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """How much better `path` is than `reference` in one figure.

    Attributes:
      figure: its name.
      difference: value of `path` minus value of `reference`.
      low, high: 95 % interval of the difference over resamples of the examples.
      share_better: share of the resamples in which `path` is better.
    """

    path: str
    reference: str
    figure: str
    difference: float
    low: float
    high: float
    share_better: float

    @property
    def verdict(self) -> str:
        """'better', 'worse', or 'no clear difference' where the interval has both signs."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "no clear difference"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs on the same examples.

    Attributes:
      split: the split.
      num_examples: its examples.
      runs: their figures, in the order given.
      differences: of every other run against the first.
    """

    split: str
    num_examples: int
    runs: list[RunFigures]
    differences: list[Difference]


def compare(paths: Sequence[str], *, dataset: str | None = None, split: str = "test", seed: int = 0) -> Comparison:
    """Compares runs with the first of them.

    Args:
      paths: run directories, two or more.
      dataset: dataset directory or TFDS name for all; default: each run's own, which must be the same examples.
      split: the split to compare on.
      seed: fixes the resamples.

    Raises:
      UsageError: fewer than two runs, or one named twice.
      RunDirError: the runs have other labels or other examples than the first.
    """
    if len(paths) < 2 or len(set(paths)) < len(paths):
        raise UsageError(f"Comparing takes two or more different run directories. Received: {list(paths)}")
    runs = [run_dir.load(path) for path in paths]
    found = [saved_predictions.of_split(run, dataset=dataset, split=split) for run in runs]
    columns = [_columns(run, runs[0]) for run in runs]
    for run, predictions, order in zip(runs, found, columns, strict=True):
        _check_same_examples(run, predictions, order, runs[0], found[0])
    figures = bootstrap.headline(runs[0].multi_label)
    targets = found[0].targets
    aligned = [predictions.probabilities[:, order] for predictions, order in zip(found, columns, strict=True)]
    drawn = [bootstrap.resampled(targets, probabilities, figures, seed) for probabilities in aligned]
    whole = [bootstrap.whole(targets, probabilities, figures) for probabilities in aligned]
    return Comparison(
        split=split,
        num_examples=len(targets),
        runs=[
            RunFigures(
                path=path, figures=values, intervals={key: _interval(samples[key], values[key]) for key in values}
            )
            for path, values, samples in zip(paths, whole, drawn, strict=True)
        ],
        differences=[
            difference(paths[i], paths[0], key, whole[i][key] - whole[0][key], drawn[i][key] - drawn[0][key])
            for i in range(1, len(paths))
            for key in figures
        ],
    )


def _columns(run: run_dir.Run, first: run_dir.Run) -> list[int]:
    """Where the first run's labels stand in this run's outputs."""
    if set(run.labels) != set(first.labels) or run.multi_label != first.multi_label:
        only = sorted(set(run.labels) ^ set(first.labels))
        raise RunDirError(f"{run.path} and {first.path} cannot be compared: labels of one alone: {only}.")
    return [run.labels.index(name) for name in first.labels]


def _check_same_examples(
    run: run_dir.Run,
    predictions: saved_predictions.Predictions,
    order: list[int],
    first: run_dir.Run,
    reference: saved_predictions.Predictions,
) -> None:
    same_ids = predictions.ids == reference.ids
    if not same_ids or not np.array_equal(predictions.targets[:, order], reference.targets):
        what = "the labels of some examples" if same_ids else "the examples"
        raise RunDirError(
            f"{run.path} and {first.path} were measured on different data: {what} differ "
            f"({len(predictions.targets)} and {len(reference.targets)}). Give one --dataset for all."
        )


def _interval(samples: np.ndarray, value: float) -> tuple[float, float]:
    found = bootstrap.interval(samples, value)
    return found.low, found.high


def difference(path: str, reference: str, figure: str, value: float, samples: np.ndarray) -> Difference:
    """A paired difference in one figure, from its value and that on each resample, (num_samples,)."""
    low, high = _interval(samples, value)
    better = float(np.mean(samples > 0) + np.mean(samples == 0) / 2)
    return Difference(
        path=path, reference=reference, figure=figure, difference=value, low=low, high=high, share_better=better
    )


def text(comparison: Comparison) -> str:
    """A table of the figures, then each run's differences from the first."""
    keys = list(comparison.runs[0].figures)
    width = max(len(run.path) for run in comparison.runs) + 2
    lines = [f"{comparison.split}: {comparison.num_examples} examples; 95 % intervals by bootstrap", ""]
    lines.append("run".ljust(width) + "".join(f"{key:<28}" for key in keys))
    for run in comparison.runs:
        cells = [f"{run.figures[key]:.4f} ({run.intervals[key][0]:.4f} to {run.intervals[key][1]:.4f})" for key in keys]
        lines.append(run.path.ljust(width) + "".join(f"{cell:<28}" for cell in cells))
    for one in comparison.differences:
        if one.figure == keys[0]:
            lines += ["", f"{one.path} against {one.reference}:"]
        lines.append(
            f"  {one.figure:<16}{one.difference:+.4f} ({one.low:+.4f} to {one.high:+.4f}), better in "
            f"{one.share_better:.0%} of the resamples: {one.verdict}"
        )
    return "\n".join(lines)


def draw(comparison: Comparison, path: str) -> None:
    """Draws the figures of all runs with their intervals to a PNG or SVG file."""
    from matplotlib.figure import Figure  # not pyplot: no display, no global state

    keys = list(comparison.runs[0].figures)
    figure = Figure(figsize=(4 * len(keys), 1.2 + 0.45 * len(comparison.runs)), layout="constrained")
    for axes, key in zip(np.atleast_1d(figure.subplots(1, len(keys), sharey=True)), keys, strict=True):
        for row, run in enumerate(comparison.runs):
            low, high = run.intervals[key]
            axes.plot([low, high], [row, row], color="tab:blue", linewidth=2)
            axes.plot(run.figures[key], row, "o", color="tab:blue")
        axes.set_title(key)
        axes.grid(axis="x", alpha=0.3)
        axes.set_yticks(range(len(comparison.runs)), [run.path for run in comparison.runs])
        axes.set_ylim(len(comparison.runs) - 0.5, -0.5)
    figure.savefig(path, dpi=110)
