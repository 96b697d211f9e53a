"""The history of a run, epoch by epoch: history.csv for people and plots, and TensorBoard."""

import csv
import io
import os
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from . import run_dir


class History:
    """Writes each epoch of a run to its directory."""

    def __init__(self, path: str, enabled: bool = True):
        """`enabled` False writes nothing, for all workers but the chief."""
        self._path, self._enabled = path, enabled
        self._writers: dict[str, tf.summary.SummaryWriter] = {}

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """Writes all epochs to history.csv and the last to TensorBoard.

        Args:
          rows: an epoch each: `phase`, `epoch`, `learning_rate`, `loss` and figures of the validation, `val_...`;
            those of single labels, whose keys hold a '/', go to TensorBoard alone.
        """
        if not self._enabled:
            return
        columns = list(dict.fromkeys(key for row in rows for key in row if "/" not in key))
        output = io.StringIO()
        writer = csv.DictWriter(output, columns, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        run_dir.write_text(self._path, run_dir.HISTORY_FILE, output.getvalue())
        self._write_scalars(rows[-1])

    def _write_scalars(self, row: dict[str, Any]) -> None:
        scalars = {key: value for key, value in row.items() if isinstance(value, float)}
        for key, value in scalars.items():
            kind = "validation" if key.startswith("val_") else "train"
            with self._open(row["phase"], kind).as_default():
                tf.summary.scalar(f"epoch_{key.removeprefix('val_')}", value, step=row["epoch"])
        for open_writer in self._writers.values():
            open_writer.flush()

    def writer(self, phase: str, kind: str) -> tf.summary.SummaryWriter | None:
        """TensorBoard's writer for a phase and 'train' or 'validation'; None where nothing is to be written."""
        return self._open(phase, kind) if self._enabled else None

    def _open(self, phase: str, kind: str) -> tf.summary.SummaryWriter:
        folder = os.path.join(self._path, run_dir.TENSORBOARD_DIR, phase, kind)
        if folder not in self._writers:
            self._writers[folder] = tf.summary.create_file_writer(folder)
        return self._writers[folder]

    def close(self) -> None:
        """Closes the event files."""
        for writer in self._writers.values():
            writer.close()
