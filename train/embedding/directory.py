"""The directory of a dataset's embeddings: which shards are done, what can be kept, and publishing it.

A shard of embeddings belongs to one shard of the dataset, and is known by the checksum of that one's records: what a
killed run finished is kept, and so is what did not change when a dataset has grown. Everything else that the numbers
depend on is the Recipe, one for the directory.
"""

import dataclasses
import importlib.metadata
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds
from etils import epath

from tfr import dataset_dir, files, taking_over, tfds_metadata
from tfr.errors import ConversionError, DatasetError

from .plan import FEATURE, Recipe, Report, Shard, difference, features_of

FILE = "embedding.json"
_STARTED_FILE = "started.json"
_REPORT_SUFFIX = ".report.json"


@dataclasses.dataclass(frozen=True)
class EmbeddingDir:
    """A directory of embeddings, finished or not; small and picklable.

    Attributes:
      path: the dataset directory, a path or a URI.
    """

    path: str

    @property
    def plan_dir(self) -> str:
        """The folder for what an unfinished run has to remember."""
        return f"{self.path}/{dataset_dir.PLAN_DIR}"

    @property
    def is_published(self) -> bool:
        """Whether it is a dataset that TFDS opens."""
        return files.exists(f"{self.path}/{tfds_metadata.INFO_FILE}")

    def read(self) -> dict[str, Any]:
        """What embedding.json says; of an unfinished run, its recipe alone; empty where there is neither."""
        for path in (f"{self.path}/{FILE}", f"{self.plan_dir}/{_STARTED_FILE}"):
            if files.exists(path):
                return _read_json(path)
        return {}

    def check(self, recipe: Recipe, planned: Sequence[Shard], overwrite: bool) -> None:
        """Raises DatasetError where there is something that `planned` does not continue, and says what differs."""
        found = self.read()
        if not found and (self.is_published or files.exists(f"{self.path}/{dataset_dir.CONVERSION_FILE}")):
            raise DatasetError(f"{self.path} holds a dataset that tfr embed did not make. Give another --output.")
        if not found or overwrite:
            return
        advice = "Say --overwrite to replace them, or give another --output."
        if changed := difference(found["recipe"], dataclasses.asdict(recipe)):
            raise DatasetError(f"{self.path} holds embeddings that were made otherwise ({changed}). {advice}")
        sources = {shard.source for shard in planned}
        gone = [shard.file for shard in reports_in(found) if shard.source not in sources]
        if gone:
            shown = ", ".join(gone[:3]) + (", ..." if len(gone) > 3 else "")
            raise DatasetError(
                f"{self.path} holds embeddings of other examples: the dataset changed, and no longer has the records "
                f"behind {len(gone)} of its {len(found['shards'])} shards ({shown}). {advice}"
            )

    def is_current(self, recipe: Recipe, planned: Sequence[Shard], features: tfds.features.FeaturesDict) -> bool:
        """Whether there is nothing to do."""
        found = self.read() if self.is_published else {}
        same = found.get("recipe") == dataclasses.asdict(recipe) and found["features"] == repr(features)
        done = {(report.file, report.source) for report in reports_in(found)}
        return same and done == {(shard.file, shard.source) for shard in planned}

    def begin(self, recipe: Recipe, planned: Sequence[Shard]) -> list[Shard]:
        """Takes note of what is done, keeps what can be kept, removes the rest, and returns what is to do."""
        before = self.read()
        same = before.get("recipe") == dataclasses.asdict(recipe)
        self._unpublish(reports_in(before) if same else ())
        if not same:
            self._remove_all_but(())
        files.write_text(f"{self.plan_dir}/{_STARTED_FILE}", _to_json({"recipe": dataclasses.asdict(recipe)}))
        self._keep(planned, [(self.path, report) for report in self._finished_reports()])
        self._keep(planned, self._of_other_versions(recipe))
        self._remove_all_but({shard.file for shard in planned if self.finished(shard)})
        return [shard for shard in planned if not self.finished(shard)]

    def _unpublish(self, reports: Iterable[Report]) -> None:
        """From here on the directory is no dataset, and its shards are those of an unfinished run."""
        files.make_dirs(self.plan_dir)
        for report in reports:
            self.write_report(report)
        for name in (tfds_metadata.INFO_FILE, FILE):
            files.remove(f"{self.path}/{name}")

    def _finished_reports(self) -> list[Report]:
        names = [name for name in files.list_names(self.plan_dir) if name.endswith(_REPORT_SUFFIX)]
        return [Report(**_read_json(f"{self.plan_dir}/{name}")) for name in names]

    def _of_other_versions(self, recipe: Recipe) -> list[tuple[str, Report]]:
        """Shards of embeddings of other versions of the dataset, beside these, made by the same recipe."""
        above = os.path.dirname(self.path.rstrip("/"))
        if not files.is_local(above) or not os.path.isdir(above):
            return []
        found = []
        for path in sorted(str(file.parent) for file in epath.Path(above).glob(f"*/{FILE}")):
            content = EmbeddingDir(path).read()
            if content["recipe"] == dataclasses.asdict(recipe):
                found += [(path, report) for report in reports_in(content)]
        return found

    def _keep(self, planned: Iterable[Shard], candidates: Iterable[tuple[str, Report]]) -> None:
        """Gives finished shards of the same records, which have other names or are elsewhere, to those planned.

        On a local disk; an object store would have to copy them, through this machine.
        """
        by_source = {report.source: (folder, report) for folder, report in candidates}
        for shard in planned:
            folder, report = by_source.get(shard.source, ("", None))
            target = f"{self.path}/{shard.file}"
            if report is None or self.finished(shard) or not files.is_local(folder) or os.path.exists(target):
                continue
            if files.size(f"{folder}/{report.file}") == report.file_bytes:
                taking_over.link(f"{folder}/{report.file}", target)
                self.write_report(dataclasses.replace(report, **dataclasses.asdict(shard)))

    def _remove_all_but(self, keep: Iterable[str]) -> None:
        """Removes all shards and reports but those of these files, and what killed runs left half-written."""
        if not files.exists(self.plan_dir):
            return
        for name in files.list_names(self.plan_dir):
            file = name.removesuffix(_REPORT_SUFFIX)
            if ".tmp-" in name or (file != name and file not in keep):
                files.remove(f"{self.plan_dir}/{name}")
        for name in files.list_names(self.path):
            if (".tfrecord-" in name or ".tmp-" in name) and name not in keep:
                files.remove(f"{self.path}/{name}")

    def _report_path(self, file: str) -> str:
        return f"{self.plan_dir}/{file}{_REPORT_SUFFIX}"

    def write_report(self, report: Report) -> None:
        """Marks a shard as done."""
        files.write_text(self._report_path(report.file), json.dumps(dataclasses.asdict(report)))

    def finished(self, shard: Shard) -> Report | None:
        """The report of a shard that is whole and was made of the very same records, else None."""
        path = self._report_path(shard.file)
        if not files.exists(path):
            return None
        report = Report(**_read_json(path))
        same = (report.source, report.num_records) == (shard.source, shard.num_records)
        return report if same and files.size(f"{self.path}/{shard.file}") == report.file_bytes else None

    def reconcile(self, planned: Iterable[Shard]) -> list[Report]:
        """The reports of all shards.

        Raises:
          ConversionError: one was not written.
        """
        reports = []
        for shard in planned:
            report = self.finished(shard)
            if report is None:
                raise ConversionError(
                    f"The job ended, but shard {shard.file} was not written. Run the same command again."
                )
            reports.append(report)
        return reports

    def publish(
        self, recipe: Recipe, weights: str, builder: tfds.core.DatasetBuilder, name: str, reports: Sequence[Report]
    ) -> None:
        """Writes what makes the shards a dataset; dataset_info.json comes last."""
        features = features_of(builder, recipe)
        content = {
            "recipe": dataclasses.asdict(recipe),
            "weights": weights,
            "source": {"dataset": builder.info.full_name, "dataset_dir": absolute(os.fspath(builder.data_path))},
            "features": repr(features),
            "versions": {package: importlib.metadata.version(package) for package in ("tensorflow", "keras")},
            "shards": [dataclasses.asdict(report) for report in reports],
        }
        files.write_text(f"{self.path}/{FILE}", _to_json(content))
        tfds_metadata.write(
            self.path,
            f"{self.plan_dir}/metadata",
            tfds_metadata.Description(
                name=name,
                version=str(builder.info.version),
                features=features,
                supervised_keys=(FEATURE, dataset_dir.label_key(builder)),
                text=f"Embeddings of {builder.info.full_name} by {recipe.backbone}, made by tfr.",
                file_format="tfrecord",
                shards=[(report.split, report.num_records, report.num_bytes) for report in reports],
            ),
        )
        files.remove_tree(self.plan_dir)


def absolute(path: str) -> str:
    """A path as it is from anywhere; a URI is that already."""
    return os.path.abspath(path) if files.is_local(path) else path


def reports_in(content: Mapping[str, Any]) -> list[Report]:
    """The shards that embedding.json lists."""
    return [Report(**entry) for entry in content.get("shards", [])]


def _read_json(path: str) -> dict[str, Any]:
    try:
        with files.open_text(path) as file:
            return json.load(file)
    except ValueError as err:
        raise DatasetError(f"{path} is not valid JSON: {err}. Remove it to embed anew.") from err


def _to_json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
