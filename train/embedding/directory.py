"""The directory of a dataset's embeddings: which shards are done, what can be kept, and publishing it.

A shard of embeddings belongs to one shard of the dataset, and is known by the checksum of that one's records: what a
killed run finished is kept, and so is what did not change when a dataset has grown. Everything else that the numbers
depend on is the Recipe, one for the directory.
"""

import dataclasses
import importlib.metadata
import os
import re
from collections.abc import Iterable, Sequence

import tensorflow_datasets as tfds
from etils import epath

from tfr import dataset_dir, files, recorded, taking_over, tfds_metadata
from tfr.errors import DatasetError

from ..shard_dir import ShardDir
from .plan import FEATURE, Recipe, Report, Shard, features_of

FILE = "embedding.json"


@dataclasses.dataclass(frozen=True)
class EmbeddingDir(ShardDir[Report]):
    """A directory of embeddings, finished or not; see ShardDir. Finished, it is a dataset directory."""

    kind = "embeddings"
    content_file = FILE
    report_type = Report
    shard_name = re.compile(r".*\.tfrecord-.*")

    @property
    def is_published(self) -> bool:
        """Whether it is a dataset that TFDS opens."""
        return files.exists(f"{self.path}/{tfds_metadata.INFO_FILE}")

    def check(self, recipe: Recipe, planned: Sequence[Shard], overwrite: bool) -> None:
        """Raises DatasetError where there is something that `planned` does not continue, and says what differs."""
        found = self.read()
        if not found and (self.is_published or files.exists(f"{self.path}/{dataset_dir.CONVERSION_FILE}")):
            raise DatasetError(f"{self.path} holds a dataset that tfr embed did not make. Give another --output.")
        if overwrite:
            return
        self.check_recipe(recorded.values(recipe))
        sources = {shard.source for shard in planned}
        gone = [shard.file for shard in self.reports_in(found) if shard.source not in sources]
        if gone:
            shown = ", ".join(gone[:3]) + (", ..." if len(gone) > 3 else "")
            raise DatasetError(
                f"{self.path} holds embeddings of other examples: the dataset changed, and no longer has the records "
                f"behind {len(gone)} of its {len(found['shards'])} shards ({shown}). Say --overwrite to replace them, "
                "or give another --output."
            )

    def is_current(self, recipe: Recipe, planned: Sequence[Shard], features: tfds.features.FeaturesDict) -> bool:
        """Whether there is nothing to do."""
        found = self.read() if self.is_published else {}
        same = found.get("recipe") == recorded.values(recipe) and found["features"] == repr(features)
        done = {(report.file, report.source) for report in self.reports_in(found)}
        return same and done == {(shard.file, shard.source) for shard in planned}

    def begin(self, recipe: Recipe, planned: Sequence[Shard]) -> list[Shard]:
        """Takes note of what is done, keeps what can be kept, removes the rest, and returns what is to do."""
        files.remove(f"{self.path}/{tfds_metadata.INFO_FILE}")  # from here on it is no dataset
        self.start(recorded.values(recipe))
        self._keep(planned, [(self.path, report) for report in self.finished_reports()])
        self._keep(planned, self._of_other_versions(recipe))
        self.remove_all_but({shard.file for shard in planned if self.finished(shard)})
        return [shard for shard in planned if not self.finished(shard)]

    def _of_other_versions(self, recipe: Recipe) -> list[tuple[str, Report]]:
        """Shards of embeddings of other versions of the dataset, beside these, made by the same recipe."""
        above = os.path.dirname(self.path.rstrip("/"))
        if not files.is_local(above) or not os.path.isdir(above):
            return []
        found = []
        for path in sorted(str(file.parent) for file in epath.Path(above).glob(f"*/{FILE}")):
            content = EmbeddingDir(path).read()
            if content.get("recipe") == recorded.values(recipe):  # another program's file may have the same name
                found += [(path, report) for report in self.reports_in(content)]
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

    def publish(
        self, recipe: Recipe, weights: str, builder: tfds.core.DatasetBuilder, name: str, reports: Sequence[Report]
    ) -> None:
        """Writes what makes the shards a dataset; dataset_info.json comes last."""
        features = features_of(builder, recipe)
        self.write_content(
            recorded.values(recipe),
            reports,
            weights=weights,
            source={"dataset": builder.info.full_name, "dataset_dir": files.absolute(os.fspath(builder.data_path))},
            features=repr(features),
            versions={package: importlib.metadata.version(package) for package in ("tensorflow", "keras")},
        )
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
