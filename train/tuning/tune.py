"""A search for good settings of a training run, within a budget; what is killed goes on with the next call."""

import dataclasses
import importlib.util
import json
import os
import shutil
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfr import folder_lock, progress
from tfr.errors import DatasetError, MissingDependencyError, TfrError, UsageError

from .. import bootstrap, comparison, run_dir, training
from . import journal, report
from .config import Setting, TuneConfig, command_line, name_of, shown
from .trials import EMBEDDINGS, Bench

if TYPE_CHECKING:
    import optuna

SEARCH_FILE = "search.json"  # what is searched: a search goes on only with the same
_PREDICTIONS = "predictions"
_LOCK_DIR = ".lock"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuneResult:
    """What a search found.

    Attributes:
      output: its directory.
      run_dir: the run of the best settings, trained as `tfr train` would.
      metric: what decided.
      best_trial, best: number of the best trial, and its metric.
      default: the metric of the defaults, the first trial; None if it failed.
      difference: of the two, with its interval over resamples of the validation examples; None where there are not two.
      settings: of the best trial, by name.
      trials, failed: trials that came to an end, over all calls, and those among them that came to nothing.
      killed: trials that did not come to an end; their settings were tried again.
      minutes: spent on trials, over all calls.
      validation_split, num_validation: what decided, and how many examples that is.
      measure_on: the split that says most of how good the best is; see Task.
      command: the `tfr train` command that trains the best again.
      table: all trials, best first, as in trials.csv.
    """

    output: str
    run_dir: str
    metric: str
    best_trial: int
    best: float
    default: float | None
    difference: comparison.Difference | None
    settings: dict[str, Any]
    trials: int
    failed: int
    killed: int
    minutes: float
    validation_split: str
    num_validation: int
    measure_on: str
    command: str
    table: list[dict[str, Any]]


def tune(config: TuneConfig) -> TuneResult:
    """Searches, and trains the best that was found.

    Settings are judged on the validation split alone. The first trial is the defaults, later ones are drawn by Optuna,
    see journal.ask.

    Args:
      config: what to search, and the budget.

    Raises:
      UsageError: the config does not fit the dataset, or `output` holds another search.
      DatasetError: the dataset cannot be used.
      MissingDependencyError: Optuna is not installed.
      TfrError: no trial came to anything.
    """
    check_installed()
    with folder_lock.hold(os.path.join(config.output, _LOCK_DIR), "tfr tune", config.output):
        bench = Bench(config)
        _claim(config, bench.task.multi_label)
        study = journal.open_study(config.output)
        _search(study, config, bench)
        return _finish(study, config, bench)


def check_installed() -> None:
    """Raises MissingDependencyError where Optuna is not installed."""
    if importlib.util.find_spec("optuna") is None:
        raise MissingDependencyError('tfr tune needs Optuna: pip install "tfr[tune]".')


def _claim(config: TuneConfig, multi_label: bool) -> None:
    """Writes what is searched, or checks that it is what `output` was begun with."""
    settings = [dataclasses.asdict(setting) for setting in config.space(multi_label)]
    ours = {**config.base.content(), "backbones": list(config.backbones), "metric": config.metric, "space": settings}
    ours = json.loads(json.dumps(ours))
    path = os.path.join(config.output, SEARCH_FILE)
    if config.overwrite:
        _forget(config.output)
    if not os.path.exists(path):
        if others := sorted(set(os.listdir(config.output)) - {_LOCK_DIR, EMBEDDINGS}):
            raise UsageError(f"--output={config.output} holds what is no search's, such as {others[0]}. Give another.")
        run_dir.write_json(config.output, SEARCH_FILE, ours)
        return
    with open(path, encoding="utf-8") as file:
        before = json.load(file)
    if changed := [key for key in ours if before.get(key) != ours[key]]:
        difference = "; ".join(f"{key}: {before.get(key)!r} -> {ours[key]!r}" for key in changed)
        raise UsageError(
            f"{config.output} holds a search of something else ({difference}). Give another --output, or --overwrite "
            "to forget it. (--max_trials and --max_minutes may change.)"
        )


def _forget(output: str) -> None:
    """Removes a search, if this is one; embeddings stay, they know themselves whether they are of use."""
    if not os.path.exists(os.path.join(output, SEARCH_FILE)):
        return
    ours = (journal.JOURNAL_FILE, _PREDICTIONS, report.TABLE_FILE, report.PLOT_FILE)
    for name in os.listdir(output):
        if name.startswith("trial-") or name in ours:
            _remove(os.path.join(output, name))
    _remove(os.path.join(output, SEARCH_FILE))


def _search(study: "optuna.Study", config: TuneConfig, bench: Bench) -> None:
    """Runs trials until the budget is spent."""
    settings = config.space(bench.task.multi_label)
    for number in journal.mark_killed(study):
        _remove(_run_path(config, number))
    if not study.trials:
        study.enqueue_trial(config.defaults(map(name_of, settings)))
    with progress.bar(config.max_trials, "tuning", "trials") as bar:
        bar.update(len(journal.ended(study)))
        while len(journal.ended(study)) < config.max_trials and journal.minutes(study) < config.max_minutes:
            started = time.monotonic()
            line = _run_next(study, config, bench, settings)
            journal.add_seconds(study, time.monotonic() - started)
            _tidy(study, config)
            report.write_table(study, config.output)
            bar.update()
            progress.write(bar, line)


def _run_next(study: "optuna.Study", config: TuneConfig, bench: Bench, settings: Sequence[Setting]) -> str:
    """Runs a trial; returns what came of it, for people."""
    trial, values = journal.ask(study, settings, config.base.seed)
    chosen = bench.with_bottlenecks(config.train_config(values, _run_path(config, trial.number)))
    try:
        outcome = bench.run(chosen)
    except (UsageError, DatasetError):  # true of every trial: this one is begun again by the next call
        raise
    except TfrError as err:
        journal.fail(study, trial, str(err))
        return f"trial {trial.number}: {err}"
    trial.set_user_attr(journal.SECONDS, round(outcome.seconds, 1))
    arrays = {"targets": outcome.targets, "probabilities": outcome.probabilities}
    run_dir.write_arrays(config.output, _predictions_name(trial.number), **arrays)
    study.tell(trial, outcome.score)
    best = study.best_trial
    return f"trial {trial.number}: {config.metric} {outcome.score:.4f}; best {best.value:.4f}, trial {best.number}"


def _tidy(study: "optuna.Study", config: TuneConfig) -> None:
    """Keeps predictions, and run directories if any, of the defaults and of the best trial alone."""
    complete = journal.complete(study)
    for trial in complete:
        if trial.number != study.best_trial.number and trial.params != config.defaults(trial.params):
            _remove(os.path.join(config.output, _predictions_name(trial.number)))
            _remove(_run_path(config, trial.number))


def _finish(study: "optuna.Study", config: TuneConfig, bench: Bench) -> TuneResult:
    """Trains the best as a run of its own, unless it is there, and compares it with the defaults."""
    complete, ended = journal.complete(study), journal.ended(study)
    if not complete:
        notes = {trial.user_attrs[journal.NOTE] for trial in ended}
        raise TfrError(f"No trial came to anything. {' '.join(sorted(notes))}")
    best, default = study.best_trial, journal.find(study, config.defaults(study.best_trial.params))
    chosen = config.train_config(best.params, _run_path(config, best.number))
    if not os.path.exists(os.path.join(chosen.run_dir, run_dir.MODEL_FILE)):
        training.train(bench.with_bottlenecks(chosen))
    before = None if default is None else default.value
    report.draw(study, config.output, config.metric, before)
    return TuneResult(
        output=config.output,
        run_dir=chosen.run_dir,
        metric=config.metric,
        best_trial=best.number,
        best=study.best_value,
        default=before,
        difference=_compare(config, bench, best.number, default.number) if default else None,
        settings=shown(best.params),
        trials=len(ended),
        failed=len(ended) - len(complete),
        killed=len(journal.killed(study)),
        minutes=journal.minutes(study),
        validation_split=bench.task.validation_split,
        num_validation=len(_load(config, best.number)[0]),
        measure_on=bench.task.measure_on,
        command=command_line(bench.fill(chosen)),
        table=report.table(study),
    )


def _compare(config: TuneConfig, bench: Bench, best: int, default: int) -> comparison.Difference | None:
    """The best against the defaults, on the same resamples of the validation examples; None if they are one."""
    if default == best:
        return None
    figure = {config.metric: bootstrap.headline(bench.task.multi_label)[config.metric]}
    (targets, ours), (_, theirs) = _load(config, best), _load(config, default)
    values = [bootstrap.whole(targets, p, figure)[config.metric] for p in (ours, theirs)]
    drawn = [bootstrap.resampled(targets, p, figure, config.base.seed)[config.metric] for p in (ours, theirs)]
    names = (f"trial {best}", f"trial {default}, the defaults")
    return comparison.difference(*names, config.metric, values[0] - values[1], drawn[0] - drawn[1])


def _load(config: TuneConfig, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Targets and probabilities of a trial on the validation split."""
    with np.load(os.path.join(config.output, _predictions_name(number))) as saved:
        return saved["targets"], saved["probabilities"]


def _predictions_name(number: int) -> str:
    return os.path.join(_PREDICTIONS, f"trial-{number:04d}.npz")


def _run_path(config: TuneConfig, number: int) -> str:
    return os.path.join(config.output, f"trial-{number:04d}")


def _remove(path: str) -> None:
    """Removes a file or a folder, if there is one."""
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.exists(path):
        os.unlink(path)
