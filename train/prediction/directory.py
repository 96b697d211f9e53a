"""The folder of a prediction job: which shards are done, and the summary that says that all are."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfr import dataset_dir, files
from tfr.errors import ConversionError, DatasetError

from ..embedding.plan import difference

SUMMARY_FILE = "summary.json"  # written last: without it a job is not finished
_STARTED_FILE = "started.json"
_REPORT_SUFFIX = ".report.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
    """Images whose predictions make one file.

    Attributes:
      file: its name.
      source: a digest of the records, or of the paths of the images.
      num_images: how many there are.
      items: the dataset directory, or the file that lists the images.
      split, index, first: of a dataset: its split, the shard's number, and the number of its first example.
    """

    file: str
    source: str
    num_images: int
    items: str
    split: str = ""
    index: int = 0
    first: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report(Shard):
    """A shard that is written.

    Attributes:
      num_bad: images that could not be used.
      file_bytes: size of the file.
    """

    num_bad: int
    file_bytes: int


@dataclasses.dataclass(frozen=True)
class PredictionDir:
    """The folder, finished or not; small and picklable.

    Attributes:
      path: a path or a URI.
    """

    path: str

    @property
    def plan_dir(self) -> str:
        """The folder for what an unfinished job has to remember."""
        return f"{self.path}/{dataset_dir.PLAN_DIR}"

    def _read(self) -> dict[str, Any]:
        for path in (f"{self.path}/{SUMMARY_FILE}", f"{self.plan_dir}/{_STARTED_FILE}"):
            if files.exists(path):
                return _read_json(path)
        return {}

    def check(self, recipe: Mapping[str, Any], overwrite: bool) -> None:
        """Raises DatasetError where the folder holds something else, or predictions that were made otherwise."""
        found = self._read()
        if not found and files.exists(self.path) and any(files.list_names(self.path)):
            raise DatasetError(
                f"--output={self.path} holds files that are no predictions of a job. Give another folder."
            )
        if found and not overwrite and (changed := difference(found["recipe"], recipe)):
            raise DatasetError(
                f"--output={self.path} holds predictions that were made otherwise ({changed}). Say --overwrite to "
                "replace them, or give another folder."
            )

    def begin(self, recipe: Mapping[str, Any]) -> None:
        """From here on the job is unfinished; what was made by the same recipe counts as done."""
        before = self._read()
        if before.get("recipe") == recipe:
            for entry in before.get("shards", []):
                self.write_report(Report(**entry))
        else:
            self._remove_all_but((), before)
        files.write_text(f"{self.plan_dir}/{_STARTED_FILE}", json.dumps({"recipe": recipe}))
        files.remove(f"{self.path}/{SUMMARY_FILE}")

    def remove_others(self, planned: Sequence[Shard]) -> None:
        """Removes what shards that are not planned left, and what killed attempts did."""
        self._remove_all_but({shard.file for shard in planned}, {})

    def _remove_all_but(self, keep: Iterable[str], before: Mapping[str, Any]) -> None:
        names = files.list_names(self.plan_dir) if files.exists(self.plan_dir) else []
        done = {name.removesuffix(_REPORT_SUFFIX) for name in names if name.endswith(_REPORT_SUFFIX)}
        done |= {entry["file"] for entry in before.get("shards", [])}
        for file in done.difference(keep):
            files.remove(f"{self.path}/{file}")
            files.remove(self._report_path(file))
        for folder in (self.path, self.plan_dir):
            for name in files.list_names(folder) if files.exists(folder) else ():
                if ".tmp-" in name:
                    files.remove(f"{folder}/{name}")

    def _report_path(self, file: str) -> str:
        return f"{self.plan_dir}/{file}{_REPORT_SUFFIX}"

    def write_report(self, report: Report) -> None:
        """Marks a shard as done."""
        files.write_text(self._report_path(report.file), json.dumps(dataclasses.asdict(report)))

    def finished(self, shard: Shard) -> Report | None:
        """The report of a shard whose file is whole and was made of the very same images, else None."""
        path = self._report_path(shard.file)
        if not files.exists(path):
            return None
        report = Report(**_read_json(path))
        same = report.source == shard.source and files.size(f"{self.path}/{shard.file}") == report.file_bytes
        return report if same else None

    def publish(self, recipe: Mapping[str, Any], planned: Sequence[Shard]) -> list[Report]:
        """Writes the summary, and returns the reports of all shards.

        Raises:
          ConversionError: one was not written, or has not as many predictions as images.
        """
        reports = [self._whole(shard) for shard in planned]
        content = {
            "recipe": recipe,
            "images": sum(report.num_images for report in reports),
            "bad": sum(report.num_bad for report in reports),
            "shards": [dataclasses.asdict(report) for report in reports],
        }
        files.write_text(f"{self.path}/{SUMMARY_FILE}", json.dumps(content, indent=1) + "\n")
        files.remove_tree(self.plan_dir)
        return reports

    def _whole(self, shard: Shard) -> Report:
        report = self.finished(shard)
        if report is None:
            raise ConversionError(f"The job ended, but {shard.file} was not written. Run the same command again.")
        if report.num_images != shard.num_images:
            raise ConversionError(f"{shard.file} has {report.num_images} predictions of {shard.num_images} images.")
        return report


def _read_json(path: str) -> dict[str, Any]:
    try:
        with files.open_text(path) as file:
            return json.load(file)
    except ValueError as err:
        raise DatasetError(f"{path} is not valid JSON: {err}. Remove it to predict anew.") from err
