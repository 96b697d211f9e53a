"""Stages one after the other, each done once: a record on disk tells which are done and with what.

A stage runs again when its settings, what it reads, or what it made is not what the record says. Where nothing of that
changed but it did not come to its end, it runs on what it left, so that stages that can resume do.
"""

import abc
import dataclasses
import json
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from tfr import files, folder_lock, recorded
from tfr.errors import TfrError, UsageError

_LOCK_DIR = ".lock"


class Stage(abc.ABC):
    """A piece of work.

    Attributes:
      name: one word.
      title: what it does, for people.
      place: the file or folder that it makes.
      is_exclusive: whether its place may hold nothing that the record does not know of.
    """

    name: str
    title: str
    place: str
    is_exclusive: bool = False

    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """What decides the result besides the input, as JSON values by the names that users know."""

    @abc.abstractmethod
    def inputs(self) -> Any:
        """A digest of what is read, as a JSON value; what the stages before make is there when it is asked for."""

    @abc.abstractmethod
    def outputs(self) -> Any:
        """A digest of what is there of the stage's work, as a JSON value; None where it is missing or incomplete."""

    @abc.abstractmethod
    def run(self, *, is_resumed: bool) -> str:
        """Does the work; returns what is to be said of it.

        Args:
          is_resumed: whether it was begun with the same settings on the same input, and did not come to its end.
        """

    def clear(self) -> None:
        """Removes what the stage made, because it no longer fits. By default its run replaces it."""
        return


@dataclasses.dataclass(frozen=True)
class Step:
    """What there is to do of a stage: nothing where `reason` is empty; `is_resumed` as in Stage.run."""

    stage: Stage
    reason: str = ""
    is_resumed: bool = False


class Pipeline:
    """Runs stages in their order, those that need it."""

    def __init__(self, stages: Sequence[Stage], record: str):
        """Reads the record.

        Args:
          stages: in the order in which they run; each may read what those before it made.
          record: the JSON file that remembers them.

        Raises:
          TfrError: the record cannot be read.
        """
        self._stages, self._path = stages, record
        self._folder = os.path.dirname(record)
        self._record = _read_record(record)

    def plan(self) -> list[Step]:
        """What `run` would do as things are; what comes after the first step to do is a guess, but for its settings."""
        steps: list[Step] = []
        for stage in self._stages:
            waits_for = next((step.stage.name for step in steps if step.reason), None)
            if waits_for is None:
                steps.append(self._step(stage))
            else:
                entry = self._record.get(stage.name)
                changed = "not run yet" if entry is None else _difference(entry["settings"], stage.settings())
                steps.append(Step(stage, changed or f"if {waits_for} comes to another result"))
        return steps

    def run(self, say: Callable[[str], None]) -> dict[str, bool]:
        """Runs every stage that is not done.

        Args:
          say: takes what is to be told, a paragraph at a time.

        Returns:
          Stage name to whether it ran.

        Raises:
          UsageError: something else lies where a stage writes.
          TfrError: from a stage; the same call goes on where it was. Or another process is at it.
        """
        with folder_lock.hold(f"{self._folder}/{_LOCK_DIR}", "run", self._folder):
            self._record = _read_record(self._path)  # another process may have ended since
            return self._run_all(say)

    def _run_all(self, say: Callable[[str], None]) -> dict[str, bool]:
        ran = {}
        for number, stage in enumerate(self._stages, 1):
            step = self._step(stage)
            heading = f"== {number} of {len(self._stages)}: {stage.title}"
            ran[stage.name] = bool(step.reason)
            if step.reason:
                say(f"{heading} ({step.reason})")
                say(self._run(step))
            else:
                say(f"{heading}: done already, nothing changed")
        return ran

    def _step(self, stage: Stage) -> Step:
        entry = self._record.get(stage.name)
        if entry is None:
            return Step(stage, "not run yet")
        if changed := _difference(entry["settings"], stage.settings()):
            return Step(stage, changed)
        if entry["inputs"] != stage.inputs():
            return Step(stage, "what it reads has changed")
        if entry["outputs"] is None:
            return Step(stage, "it was interrupted", is_resumed=True)
        if entry["outputs"] != stage.outputs():
            return Step(stage, "what it made is gone, or is not what it was")
        return Step(stage)

    def _run(self, step: Step) -> str:
        stage, started = step.stage, time.monotonic()
        place = os.path.relpath(stage.place, self._folder)  # the folder may be moved
        if not step.is_resumed:
            if self._record.get(stage.name, {}).get("place") == place:
                stage.clear()
            elif stage.is_exclusive and stage.outputs() is not None:
                raise UsageError(
                    f"{stage.place} holds results of {stage.name!r} that are not recorded in {self._path}: they may "
                    "belong to something else. Give another folder with --dir."
                )
        entry = {"settings": stage.settings(), "inputs": stage.inputs(), "place": place, "outputs": None}
        self._note(stage, entry)
        said = stage.run(is_resumed=step.is_resumed)
        outputs = stage.outputs()
        if outputs is None:
            raise TfrError(f"Stage {stage.name!r} ended, but what it makes is not there. Run the same command again.")
        self._note(stage, {**entry, "outputs": outputs, "seconds": round(time.monotonic() - started, 1)})
        return said

    def _note(self, stage: Stage, entry: dict[str, Any]) -> None:
        self._record[stage.name] = json.loads(json.dumps(entry))  # tuples as lists, as they are read back
        files.write_text(self._path, json.dumps(self._record, indent=1, ensure_ascii=False) + "\n")


def _read_record(path: str) -> dict[str, Any]:
    if not files.exists(path):
        return {}
    try:
        with files.open_text(path) as file:
            return json.load(file)
    except ValueError as err:
        raise TfrError(f"{path} cannot be read as JSON: {err}. Give another folder with --dir, or remove it.") from err


def _difference(before: dict[str, Any], after: dict[str, Any]) -> str:
    """See recorded.difference; `after` has tuples where what was read back has lists."""
    return recorded.difference(before, json.loads(json.dumps(after)))
