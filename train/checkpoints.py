"""The state of a training run on disk, so that the same command goes on after a crash."""

import glob
import json
import os
import shutil
import time
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfr import recorded
from tfr.errors import RunDirError, UsageError

from . import run_dir

_LAYOUT = 2  # raised whenever the same settings come to variables of other shapes or in another order
EXAMPLES = "examples of the dataset"  # a digest of them, on record beside the settings
_PLACES = ("data.dataset", "data.data_dir")  # settings that may change as long as the examples are the same
_STATE_FILE = os.path.join(run_dir.CHECKPOINT_DIR, "state.npz")


class Store:
    """Saves and loads the state of one run directory; a save replaces the one before it in one step."""

    def __init__(self, path: str, config: dict[str, Any], *, every_secs: float = 60.0, enabled: bool = True):
        """Prepares.

        Args:
          path: the run directory.
          config: what decides the result, of the examples too (EXAMPLES); a state made with another one is refused.
          every_secs: seconds between two saves.
          enabled: False never saves, for all workers but the chief.
        """
        self._path, self._config = path, json.dumps(config, sort_keys=True)
        self._every, self._enabled, self._last = every_secs, enabled, time.monotonic()

    def is_due(self) -> bool:
        """Whether the last save is long enough ago."""
        return self._enabled and time.monotonic() - self._last >= self._every

    def save(self, position: dict[str, Any], **arrays: Sequence[np.ndarray]) -> None:
        """Saves a position (JSON values) and lists of arrays by name."""
        if not self._enabled:
            return
        flat = {f"{name}/{i}": value for name, values in arrays.items() for i, value in enumerate(values)}
        run_dir.write_arrays(
            self._path,
            _STATE_FILE,
            layout=np.array(_LAYOUT),
            position=np.array(json.dumps(position)),
            config=np.array(self._config),
            **flat,
        )
        self._last = time.monotonic()

    def load(self) -> tuple[dict[str, Any], dict[str, list[np.ndarray]]] | None:
        """What `save` was given last; None where there is nothing.

        Raises:
          UsageError: it was made with another config; names the difference.
          RunDirError: the file cannot be read, or is of a version of tfr whose networks are laid out otherwise.
        """
        full = os.path.join(self._path, _STATE_FILE)
        if not os.path.exists(full):
            return None
        self._remove_unfinished(full)
        try:
            with np.load(full) as saved:
                values = {key: saved[key] for key in saved.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as err:
            raise RunDirError(f"{full} cannot be read: {err}. Remove it, or say --overwrite to start anew.") from err
        if int(values.pop("layout", 1)) != _LAYOUT:
            raise RunDirError(
                f"{full} was written by another version of tfr, whose networks are laid out otherwise. Go on with that "
                "version, or remove the file to start anew."
            )
        self._check_config(json.loads(str(values.pop("config"))))
        position = json.loads(str(values.pop("position")))
        lists: dict[str, list[np.ndarray]] = {}
        for key in values:  # in the order in which they were written
            lists.setdefault(key.rpartition("/")[0], []).append(values[key])
        return position, lists

    def _remove_unfinished(self, full: str) -> None:
        """Removes the states that processes were writing when they were killed: each is as large as the network."""
        for path in glob.glob(f"{glob.escape(full)}.tmp-*") if self._enabled else ():
            os.unlink(path)

    def _check_config(self, before: dict[str, Any]) -> None:
        now = json.loads(self._config)
        if EXAMPLES not in before:  # earlier versions told datasets by their places alone
            now.pop(EXAMPLES, None)
        elif before[EXAMPLES] == now.get(EXAMPLES):
            before = {**before, **{key: now.get(key) for key in _PLACES}}
        if changed := recorded.difference(before, now):
            raise UsageError(
                f"{self._path} holds an unfinished run with other settings ({changed}). Give the "
                "settings of before to go on with it, --overwrite to start anew, or another --run_dir."
            )

    def remove(self) -> None:
        """Removes the state of a run that is finished, and what was being written when it was killed."""
        folder = os.path.join(self._path, run_dir.CHECKPOINT_DIR)
        if self._enabled and os.path.exists(folder):
            shutil.rmtree(folder)
