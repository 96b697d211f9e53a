"""One phase of training: epochs of steps, exact validation after each, early stopping, plateaus, checkpoints."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfr import progress
from tfr.errors import TfrError

from . import checkpoints
from .loop import Loop


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phase:
    """What a phase does.

    Attributes:
      name: 'head' or 'finetune'.
      epochs: at most so many.
      steps_per_epoch: optimisation steps between two validations.
      monitor: the key of the validation metrics that decides which weights are kept.
      patience: epochs without a better one before the phase ends.
      keep_last: whether the last epoch's weights are kept instead, whatever `monitor` says, and no phase ends early.
      plateau_patience: epochs without a better one before the learning rate falls; None: it does not.
      plateau_factor, plateau_floor: what the rate is multiplied by then, and the least it comes to in all.
      steps_at_once: steps between two looks at the loss.
    """

    name: str
    epochs: int
    steps_per_epoch: int
    monitor: str
    patience: int
    keep_last: bool = False
    plateau_patience: int | None = None
    plateau_factor: float = 10**-0.5
    plateau_floor: float = 0.1
    steps_at_once: int = 8

    def is_better(self, value: float, best: float | None) -> bool:
        """Whether a value of `monitor` is better than the best so far."""
        if best is None or math.isnan(best):
            return True
        return value < best if self.monitor == "val_loss" else value > best


@dataclasses.dataclass(kw_only=True)
class Position:
    """Where a run is: everything besides arrays that the next step depends on; JSON values.

    Attributes:
      phase: its name.
      epoch, step: epochs finished, steps taken in the one after them.
      loss: sum of the losses of those steps.
      best, waited: the best value of `monitor`, of the phases before this one too, and epochs since then.
      plateau_waited: epochs since the last better value or fall of the learning rate.
      plateau: what the learning rate is multiplied by now.
      rows: history of all phases, an epoch each.
    """

    phase: str
    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    best: float | None = None
    waited: int = 0
    plateau_waited: int = 0
    plateau: float = 1.0
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)


# Takes the phase's name and a row of the history; called after each epoch.
Listener = Callable[[dict[str, Any]], None]


class PhaseRunner:
    """Runs a phase from a position to its end."""

    def __init__(
        self,
        phase: Phase,
        loop: Loop,
        position: Position,
        store: checkpoints.Store,
        *,
        validate: Callable[[], dict[str, float]],
        on_epoch: Listener,
    ):
        """Prepares.

        Args:
          phase: what to do.
          loop: the steps.
          position: where to start; kept up to date.
          store: where states are saved.
          validate: measures the model as it is; gives `val_loss` and others.
          on_epoch: called after each epoch with its row of the history.
        """
        self._phase, self._loop, self._position, self._store = phase, loop, position, store
        self._validate, self._on_epoch = validate, on_epoch
        self._best: list[np.ndarray] = []

    def run(self, make_batches: Callable[..., tf.data.Dataset], saved: dict[str, list[np.ndarray]] | None) -> None:
        """Trains, and leaves the model with the weights of its best epoch, or its last.

        Args:
          make_batches: takes start_step; returns a dataset of global batches.
          saved: arrays of the state to go on from, as the store loaded them.

        Raises:
          TfrError: the loss is no number any more.
        """
        phase, position = self._phase, self._position
        if saved:
            self._loop.set_state(saved["state"])
            self._best = saved.get("best", [])
        elif position.best is not None:  # what the phase before came to is to be beaten
            self._best = self._loop.raw_weights()
        done = position.epoch * phase.steps_per_epoch + position.step
        with progress.bar(phase.epochs * phase.steps_per_epoch, phase.name, "steps") as self._bar:
            self._bar.update(done)
            if not self._is_over():
                batches = self._loop.distribute(make_batches, self._loop.steps_done)
            while not self._is_over():
                self._take_steps(batches)
                if position.step == phase.steps_per_epoch:
                    self._end_epoch()
                if self._store.is_due():
                    self.save()
        self._loop.set_weights(self._best)

    def save(self) -> None:
        """Saves the state."""
        self._store.save(dataclasses.asdict(self._position), state=self._loop.state(), best=self._best)

    def _is_over(self) -> bool:
        return self._position.epoch >= self._phase.epochs or self._position.waited >= self._phase.patience

    def _take_steps(self, batches: Any) -> None:
        phase, position = self._phase, self._position
        count = min(phase.steps_at_once, phase.steps_per_epoch - position.step)
        loss = self._loop.run(batches, count)
        position.step += count
        position.loss += loss * count
        if not math.isfinite(loss):
            last = self._loop.steps_done
            raise TfrError(
                f"{phase.name}: the loss is {loss} between steps {last - count + 1} and {last}. Lower the learning "
                "rate (--learning_rate, --finetune_learning_rate), or clip gradients (--clip_norm=1)."
            )
        self._bar.update(count)

    def _end_epoch(self) -> None:
        phase, position = self._phase, self._position
        rate = float(self._loop.optimizer.learning_rate)
        raw = self._loop.raw_weights()
        self._loop.set_weights(self._loop.weights())  # the averages, if there are any
        measured = self._validate()
        value = measured[phase.monitor]
        better = phase.is_better(value, position.best)
        kept = better or phase.keep_last
        if kept:
            self._best = self._loop.raw_weights()
        self._loop.set_weights(raw)
        mean_loss = position.loss / phase.steps_per_epoch
        row = {"phase": phase.name, "epoch": position.epoch + 1, "learning_rate": rate, "loss": mean_loss, **measured}
        position.epoch, position.step, position.loss = position.epoch + 1, 0, 0.0
        position.best, position.waited = (value, 0) if kept else (position.best, position.waited + 1)
        self._follow_plateau(better)
        position.rows.append(row)
        self._report(row, better)
        self._on_epoch(row)

    def _follow_plateau(self, better: bool) -> None:
        phase, position = self._phase, self._position
        position.plateau_waited = 0 if better else position.plateau_waited + 1
        if phase.plateau_patience is not None and position.plateau_waited >= phase.plateau_patience:
            position.plateau = max(position.plateau * phase.plateau_factor, phase.plateau_floor)
            position.plateau_waited = 0
            self._loop.set_rate_factor(position.plateau)

    def _report(self, row: dict[str, Any], better: bool) -> None:
        monitor = self._phase.monitor
        self._bar.set_postfix_str(f"loss {row['loss']:.4f}, {monitor} {row[monitor]:.4f}", refresh=False)
        if better:
            headline = {k: v for k, v in row.items() if isinstance(v, float) and "/" not in k and k != "learning_rate"}
            shown = ", ".join(f"{key} {value:.4f}" for key, value in headline.items())
            progress.write(self._bar, f"{self._phase.name} epoch {row['epoch']}/{self._phase.epochs}: {shown}")
