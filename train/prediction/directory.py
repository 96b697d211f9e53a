"""The folder of a prediction job: which shards are done, and the summary that says that all are."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tfr import files
from tfr.errors import ConversionError, DatasetError

from ..shard_dir import ShardDir

SUMMARY_FILE = "summary.json"
FORMATS = ("jsonl", "csv", "parquet", "npz")  # those of files; also what their names end in


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
class PredictionDir(ShardDir[Report]):
    """The folder, finished or not; see ShardDir."""

    kind = "predictions"
    content_file = SUMMARY_FILE
    report_type = Report
    shard_name = re.compile(rf"[\w.-]+-\d{{5}}\.({'|'.join(FORMATS)})")

    def check(self, recipe: Mapping[str, Any], overwrite: bool) -> None:
        """Raises DatasetError where the folder holds something else, or predictions that were made otherwise."""
        if not self.read() and files.exists(self.path) and any(files.list_names(self.path)):
            raise DatasetError(
                f"--output={self.path} holds files that are no predictions of a job. Give another folder."
            )
        if not overwrite:
            self.check_recipe(recipe)

    def publish(self, recipe: Mapping[str, Any], planned: Sequence[Shard]) -> list[Report]:
        """Writes the summary, and returns the reports of all shards.

        Raises:
          ConversionError: one was not written, or has not as many predictions as images.
        """
        reports = self.reconcile(planned)
        for report, shard in zip(reports, planned, strict=True):
            if report.num_images != shard.num_images:
                raise ConversionError(f"{shard.file} has {report.num_images} predictions of {shard.num_images} images.")
        counts = {
            "images": sum(report.num_images for report in reports),
            "bad": sum(report.num_bad for report in reports),
        }
        self.write_content(recipe, reports, **counts)
        files.remove_tree(self.plan_dir)
        return reports
