"""What a search came to: a table of its trials, a plot, and words."""

import csv
import io
import os
from typing import TYPE_CHECKING, Any

from tfr import files

from .. import run_dir
from .config import shown
from .journal import NOTE, SECONDS, complete, killed

if TYPE_CHECKING:
    import optuna

    from .tune import TuneResult

TABLE_FILE = "trials.csv"
PLOT_FILE = "tuning.png"
_LISTED = 10  # trials in the text
_LEAST_FOR_IMPORTANCE = 10  # trials: of fewer it says nothing


def table(study: "optuna.Study") -> list[dict[str, Any]]:
    """A row a trial, best first, those without a value last."""
    finished = [trial for trial in study.get_trials() if trial.state.is_finished()]
    ordered = sorted(finished, key=lambda t: (t.value is None, -(t.value or 0), t.number))
    return [
        {
            "trial": trial.number,
            "value": trial.value,
            **shown(trial.params),
            SECONDS: trial.user_attrs.get(SECONDS),
            NOTE: "killed" if trial.number in killed(study) else trial.user_attrs.get(NOTE, ""),
        }
        for trial in ordered
    ]


def write_table(study: "optuna.Study", folder: str) -> None:
    """Writes trials.csv."""
    rows = table(study)
    columns = list(dict.fromkeys(key for row in rows for key in row if key not in (SECONDS, NOTE)))
    output = io.StringIO()
    writer = csv.DictWriter(output, [*columns, SECONDS, NOTE], restval="")
    writer.writeheader()
    writer.writerows(rows)
    run_dir.write_text(folder, TABLE_FILE, output.getvalue())


def draw(study: "optuna.Study", folder: str, metric: str, default: float | None) -> None:
    """Draws trials by number with the best so far, and how much each setting mattered, to tuning.png."""
    from matplotlib.figure import Figure  # not pyplot: no display, no global state

    trials = complete(study)
    values = [trial.value or 0.0 for trial in trials]
    best = [max(values[: end + 1]) for end in range(len(values))]
    found = importances(study)
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, *others = figure.subplots(1, 2 if found else 1, squeeze=False)[0]
    numbers = [trial.number for trial in trials]
    left.plot(numbers, values, "o", color="0.6", label="trials")
    left.step(numbers, best, where="post", label="best so far")
    if default is not None:
        left.axhline(default, color="gray", linestyle=":", label="defaults")
    left.set(title=f"{metric} on the validation split", xlabel="trial")
    left.grid(alpha=0.3)
    left.legend()
    for right in others:
        right.barh(list(found), list(found.values()))
        right.invert_yaxis()
        right.set(title="Share of each setting in the differences (fANOVA)", xlim=(0, 1))
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    with files.atomic_write(os.path.join(folder, PLOT_FILE)) as file:
        file.write(buffer.getvalue())


def importances(study: "optuna.Study") -> dict[str, float]:
    """Setting to its share in the variance of the metric, greatest first; empty where there are few trials.

    Source: Hutter et al., "An Efficient Approach for Assessing Hyperparameter Importance", 2014.
    """
    from optuna import importance

    values = {trial.value for trial in complete(study)}
    if len(complete(study)) < _LEAST_FOR_IMPORTANCE or len(values) == 1:
        return {}
    found = importance.get_param_importances(study, evaluator=importance.FanovaImportanceEvaluator(seed=0))
    return {name: float(share) for name, share in found.items()}


def text(result: "TuneResult") -> str:
    """What was found, in plain words, and the best trials."""
    lost = "".join(f", {n} {what}" for n, what in ((result.failed, "failed"), (result.killed, "killed")) if n)
    lines = [f"Tuned in {result.minutes:.1f} min ({result.trials} trials{lost}): {result.output}"]
    default = "failed" if result.default is None else f"{result.default:.4f}"
    lines.append(
        f"  {result.metric} of {result.validation_split}, {result.num_validation} examples: defaults {default}, "
        f"best {result.best:.4f} (trial {result.best_trial})"
    )
    lines += [f"  {line}" for line in _verdict(result)]
    lines += ["", *_table_lines(result.table), "", "The best again:", f"  {result.command}"]
    lines += ["Next:", f"  tfr evaluate {result.run_dir} --split={result.measure_on}"]
    return "\n".join(lines)


def _verdict(result: "TuneResult") -> list[str]:
    """Whether the best is really better than the defaults."""
    found = result.difference
    if found is None:
        return ["nothing that was tried is better than the defaults"] if result.default is not None else []
    sure = {
        "better": "more than the chance of the examples explains",
        "no clear difference": "too few examples to tell: the defaults may be as good",
    }.get(found.verdict, "worse")
    return [
        f"difference {found.difference:+.4f} ({found.low:+.4f} to {found.high:+.4f}, 95 % by paired bootstrap): {sure}",
        f"the best of {result.trials} looks better than it is, being chosen on these examples: measure it on others",
    ]


def _table_lines(rows: list[dict[str, Any]]) -> list[str]:
    """The best trials in columns."""
    listed = [row for row in rows if row["value"] is not None][:_LISTED]
    columns = [key for key in listed[0] if key not in (SECONDS, NOTE)]
    cells = [columns] + [[_cell(row[key]) for key in columns] for row in listed]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return ["  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)) for line in cells]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "linear" if value == "" else str(value)
