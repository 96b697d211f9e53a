"""The trials of a search, kept by Optuna in a journal: every trial as it goes, so that nothing is lost by a kill."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .config import Choice, Setting, name_of

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial, Trial

JOURNAL_FILE = "trials.journal"
NOTE, SECONDS = "note", "seconds"  # attributes of trials: why one failed, and its time
_KILLED, _MINUTES = "killed", "minutes"  # attributes of the study: numbers of trials, and the time of all
_RANDOM_TRIALS = 10  # before the sampler draws on what it has seen
_NAME = "tfr"


def open_study(folder: str) -> "optuna.Study":
    """The study in a folder, begun if there is none."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    journal = JournalFileBackend(os.path.join(folder, JOURNAL_FILE))  # appends lines
    return optuna.create_study(
        study_name=_NAME,
        storage=optuna.storages.JournalStorage(journal),
        direction="maximize",
        load_if_exists=True,
    )


def mark_killed(study: "optuna.Study") -> list[int]:
    """Marks the trials that a killed process left running, and queues their settings again; returns their numbers."""
    from optuna.trial import TrialState

    found = study.get_trials(states=(TrialState.RUNNING,))
    for trial in found:
        study.tell(trial.number, state=TrialState.FAIL)
        study.set_user_attr(_KILLED, [*killed(study), trial.number])
        study.enqueue_trial(trial.system_attrs.get("fixed_params", trial.params))
    return [trial.number for trial in found]


def killed(study: "optuna.Study") -> list[int]:
    """Numbers of the trials that did not come to an end."""
    return study.user_attrs.get(_KILLED, [])


def ended(study: "optuna.Study") -> list["FrozenTrial"]:
    """The trials that came to an end, good or bad."""
    gone = killed(study)
    return [trial for trial in study.get_trials() if trial.state.is_finished() and trial.number not in gone]


def complete(study: "optuna.Study") -> list["FrozenTrial"]:
    """The trials that came to a value."""
    return [trial for trial in ended(study) if trial.value is not None]


def find(study: "optuna.Study", values: dict[str, Any]) -> "FrozenTrial | None":
    """The first complete trial of these settings."""
    return next((trial for trial in complete(study) if trial.params == values), None)


def minutes(study: "optuna.Study") -> float:
    """Time spent on trials, over all processes."""
    return study.user_attrs.get(_MINUTES, 0.0)


def add_seconds(study: "optuna.Study", seconds: float) -> None:
    """Adds to `minutes`."""
    study.set_user_attr(_MINUTES, minutes(study) + seconds / 60)


def ask(study: "optuna.Study", settings: Sequence[Setting], seed: int) -> tuple["Trial", dict[str, Any]]:
    """Begins a trial: the next in the queue, else one that a tree-structured Parzen estimator draws.

    The estimator is seeded by the trials before it, so that a search that was killed comes to the trials of one that
    was not. Source: Bergstra et al., "Algorithms for Hyper-Parameter Optimization", 2011.

    Returns:
      The trial, and its values by the names of the settings.
    """
    import optuna

    study.sampler = optuna.samplers.TPESampler(
        seed=seed + len(ended(study)), n_startup_trials=_RANDOM_TRIALS, multivariate=True
    )
    trial = study.ask()
    return trial, {name_of(setting): _suggest(trial, setting) for setting in settings}


def _suggest(trial: "Trial", setting: Setting) -> Any:
    name = name_of(setting)
    if isinstance(setting, Choice):
        return trial.suggest_categorical(name, setting.values)
    return trial.suggest_float(name, setting.low, setting.high, log=setting.log)


def fail(study: "optuna.Study", trial: "Trial", why: str) -> None:
    """Ends a trial that came to nothing."""
    from optuna.trial import TrialState

    trial.set_user_attr(NOTE, why)
    study.tell(trial, state=TrialState.FAIL)
