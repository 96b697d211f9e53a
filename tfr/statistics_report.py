"""Statistics, the differences between splits and what is worth knowing, as text, JSON or a page: what commands show."""

import dataclasses
from typing import Any

from tfr import drift, files, findings, statistics, statistics_text

PAGE_FILE = "statistics.html"  # beside the shards, by `tfr convert --stats`


@dataclasses.dataclass(frozen=True)
class Report:
    """Everything that `tfr stats` says of a dataset."""

    statistics: statistics.Statistics
    drifts: list[drift.Drift]
    findings: list[findings.Finding]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return statistics_text.to_json(self.statistics, self.drifts, self.findings)

    def to_text(self) -> str:
        """As tables and sentences."""
        return statistics_text.to_text(self.statistics, self.drifts, self.findings)

    def write_html(self, path: str) -> None:
        """As one HTML file that needs no other."""
        from tfr import statistics_page  # imports Jinja

        files.write_text(path, statistics_page.render(self.statistics, self.drifts, self.findings))


def make(path: str, *, num_workers: int | None = None, rare: int = 20, samples_per_label: int = 0) -> Report:
    """Counts what a dataset directory holds and judges it.

    Args:
      path: a dataset directory, or a folder with only one below.
      num_workers: cores to use; None: all.
      rare: labels on fewer training images than this are called out.
      samples_per_label: sample images of each label on the page.

    Raises:
      DatasetError: see `statistics.compute`.
    """
    counted = statistics.compute(path, num_workers=num_workers, samples_per_label=samples_per_label)
    return Report(counted, drift.compare_splits(counted), findings.find(counted, rare=rare))
