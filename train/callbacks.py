"""What happens at the end of each epoch: exact validation metrics, progress, history, and a stop on NaN."""

import csv
import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tfr import progress
from tfr.errors import TfrError

from . import metrics as metrics_lib
from . import run_dir

_LOGGED = ("macro_map", "micro_map", "macro_roc_auc", "micro_f1", "accuracy")


class Validation(keras.callbacks.Callback):
    """Adds exact metrics of the validation split to the epoch's logs, as val_loss, val_macro_map and so on.

    Must stand first: the callbacks after it see what it adds.
    """

    def __init__(self, predict: Callable[[], np.ndarray], targets: np.ndarray, names: Sequence[str], multi_label: bool):
        """`predict` gives the probabilities of the validation examples; see metrics.compute_metrics for the rest."""
        super().__init__()
        self._predict, self._targets, self._names, self._multi_label = predict, targets, names, multi_label

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measures."""
        if logs is None:
            return
        measured = metrics_lib.compute_metrics(
            self._targets, self._predict(), self._names, multi_label=self._multi_label
        )
        logs["val_loss"] = measured["log_loss"]
        logs.update({f"val_{key}": measured[key] for key in _LOGGED if key in measured})


class Progress(keras.callbacks.Callback):
    """A bar over all steps of a phase; a line for each epoch that improved the monitored metric."""

    def __init__(self, phase: str, monitor: str):
        super().__init__()
        self._phase, self._monitor, self._best = phase, monitor, math.inf
        self._sign = 1 if monitor == "val_loss" else -1

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Opens the bar."""
        self._bar = progress.bar(self.params["epochs"] * self.params["steps"], self._phase, "steps")

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Moves the bar."""
        self._bar.update(1)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Says how the epoch went, if it is the best so far."""
        logs = logs or {}
        value = logs.get(self._monitor, math.nan)
        self._bar.set_postfix_str(f"loss {logs.get('loss', math.nan):.4f}, {self._monitor} {value:.4f}", refresh=False)
        if self._sign * value < self._best:
            self._best = self._sign * value
            shown = ", ".join(f"{key} {number:.4f}" for key, number in logs.items() if key != "learning_rate")
            progress.write(self._bar, f"{self._phase} epoch {epoch + 1}/{self.params['epochs']}: {shown}")

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Closes the bar."""
        self._bar.close()


class History(keras.callbacks.Callback):
    """Writes history.csv after each epoch: phase, epoch, and everything in the logs; keeps the rows."""

    def __init__(self, path: str):
        super().__init__()
        self._path = path
        self.phase = ""
        self.rows: list[dict[str, Any]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds a row."""
        learning_rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        row = {"phase": self.phase, "epoch": epoch + 1, "learning_rate": learning_rate, **(logs or {})}
        self.rows.append(row)
        output = io.StringIO()
        writer = csv.DictWriter(output, list(dict.fromkeys(key for r in self.rows for key in r)), restval="")
        writer.writeheader()
        writer.writerows(self.rows)
        run_dir.write_text(self._path, run_dir.HISTORY_FILE, output.getvalue())


class StopOnNaN(keras.callbacks.Callback):
    """Ends training with an error that says between which steps the loss stopped being a number."""

    def __init__(self, phase: str):
        super().__init__()
        self._phase, self._step = phase, 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at the loss so far in this epoch."""
        self._step += 1
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            raise TfrError(
                f"{self._phase}: the loss is {logs['loss']} at step {self._step}. Lower the learning rate "  # type: ignore[index]
                "(--learning_rate, --finetune_learning_rate)."
            )
