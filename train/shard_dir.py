"""A directory that is filled shard by shard, by work that may be killed and goes on with the next call.

A shard is done when its report lies in the plan folder beside it; a shard whose source is still what it was is never
done twice. What all shards depend on is the recipe. The content file, written last, has the recipe and all reports, and
takes the place of the plan folder.
"""

import dataclasses
import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from tfr import dataset_dir, files, recorded
from tfr.errors import ConversionError, DatasetError

_STARTED_FILE = "started.json"  # the recipe, while the content file is not there
_REPORT_SUFFIX = ".report.json"
_NUMBERS = re.compile(r"\d{5}")  # of a shard, and of all of them
_SHORT = 12  # characters of a digest in messages


class Shard(Protocol):
    """What is to be done: `file`, the name of what is written, and `source`, a digest of what it is made of."""

    @property
    def file(self) -> str: ...

    @property
    def source(self) -> str: ...


class Report(Shard, Protocol):
    """What is done: `file_bytes` is the size of the file. A dataclass of JSON values."""

    @property
    def file_bytes(self) -> int: ...


R = TypeVar("R", bound=Report)


@dataclasses.dataclass(frozen=True)
class ShardDir(Generic[R]):
    """The directory, finished or not; small and picklable. A subclass says what is in it.

    Attributes:
      path: a path or a URI.
      kind: what it holds, for messages.
      content_file: name of the file that is written last.
      report_type: the class of its reports.
      shard_name: what the names of its shards look like; files that are called otherwise are left alone.
    """

    path: str
    kind: ClassVar[str]
    content_file: ClassVar[str]
    report_type: ClassVar[type[Any]]
    shard_name: ClassVar[re.Pattern[str]]

    @property
    def plan_dir(self) -> str:
        """The folder for what unfinished work has to remember."""
        return f"{self.path}/{dataset_dir.PLAN_DIR}"

    def read(self) -> dict[str, Any]:
        """What the content file says; of unfinished work, its recipe alone; empty where there is neither."""
        for path in (f"{self.path}/{self.content_file}", f"{self.plan_dir}/{_STARTED_FILE}"):
            if files.exists(path):
                return _read_json(path)
        return {}

    def reports_in(self, content: Mapping[str, Any]) -> list[R]:
        """The shards that the content file lists."""
        return [self.report_type(**entry) for entry in content.get("shards", [])]

    def check_recipe(self, recipe: Mapping[str, Any]) -> None:
        """Raises DatasetError where there is something that was made by another recipe, and says what differs."""
        if (found := self.read()) and (changed := difference(found["recipe"], recipe)):
            raise DatasetError(
                f"{self.path} holds {self.kind} that were made otherwise ({changed}). Say --overwrite to replace them, "
                "or give another --output."
            )

    def start(self, recipe: Mapping[str, Any]) -> None:
        """From here on the directory is unfinished; what was made by the same recipe counts as done, the rest goes.

        In an order in which it can be stopped anywhere: no shard is ever taken for one of another recipe.
        """
        before = self.read()
        files.make_dirs(self.plan_dir)
        if before.get("recipe") == recipe:
            for report in self.reports_in(before):
                self.write_report(report)
        else:
            self.remove_all_but(())
        files.write_text(f"{self.plan_dir}/{_STARTED_FILE}", json.dumps({"recipe": recipe}, ensure_ascii=False))
        files.remove(f"{self.path}/{self.content_file}")

    def remove_all_but(self, keep: Collection[str]) -> None:
        """Removes all shards and reports but those of these files, and what killed work left half-written.

        Shards are files called like one that is to be kept or was written, but for its number: others are not ours.
        """
        known = {*keep, *(report.file for report in (*self.reports_in(self.read()), *self.finished_reports()))}
        series = {_series(name) for name in known}
        for name in files.list_names(self.plan_dir):
            file = name.removesuffix(_REPORT_SUFFIX)
            if ".tmp-" in name or (file != name and file not in keep):
                files.remove(f"{self.plan_dir}/{name}")
        for name in files.list_names(self.path):
            if ".tmp-" in name or (self.shard_name.fullmatch(name) and _series(name) in series and name not in keep):
                files.remove(f"{self.path}/{name}")

    def finished_reports(self) -> list[R]:
        """The reports of unfinished work."""
        names = [name for name in files.list_names(self.plan_dir) if name.endswith(_REPORT_SUFFIX)]
        return [self.report_type(**_read_json(f"{self.plan_dir}/{name}")) for name in names]

    def _report_path(self, file: str) -> str:
        return f"{self.plan_dir}/{file}{_REPORT_SUFFIX}"

    def write_report(self, report: R) -> None:
        """Marks a shard as done."""
        content = dataclasses.asdict(report)  # type: ignore[call-overload]
        files.write_text(self._report_path(report.file), json.dumps(content))

    def finished(self, shard: Shard) -> R | None:
        """The report of a shard whose file is whole and was made of the very same source, else None."""
        path = self._report_path(shard.file)
        if not files.exists(path):
            return None
        report = self.report_type(**_read_json(path))
        same = report.source == shard.source and files.size(f"{self.path}/{shard.file}") == report.file_bytes
        return report if same else None

    def reconcile(self, planned: Iterable[Shard]) -> list[R]:
        """The reports of all shards.

        Raises:
          ConversionError: one was not written.
        """
        found = {shard.file: self.finished(shard) for shard in planned}
        if missing := [file for file, report in found.items() if report is None]:
            raise ConversionError(f"The job ended, but {missing[0]} was not written. Run the same command again.")
        return [report for report in found.values() if report is not None]

    def write_content(self, recipe: Mapping[str, Any], reports: Iterable[R], **more: Any) -> None:
        """Writes the content file."""
        shards = [dataclasses.asdict(report) for report in reports]  # type: ignore[call-overload]
        content = {"recipe": recipe, **more, "shards": shards}
        files.write_text(f"{self.path}/{self.content_file}", json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _series(name: str) -> str:
    """What the names of the shards of one series have in common."""
    return _NUMBERS.sub("", name)


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """See recorded.difference; digests are shortened."""
    return recorded.difference(before, now, _shown)


def _shown(value: Any) -> str:
    return f"{value[:_SHORT]}..." if isinstance(value, str) and len(value) > 2 * _SHORT else str(value)


def _read_json(path: str) -> dict[str, Any]:
    try:
        with files.open_text(path) as file:
            return json.load(file)
    except ValueError as err:
        raise DatasetError(f"{path} is not valid JSON: {err}. Remove it to begin anew.") from err
