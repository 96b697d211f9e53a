"""The base class of the named datasets: a TFDS builder that generates by tfr's conversion."""

import abc
import dataclasses
import inspect
import os
from typing import TYPE_CHECKING, Any

import tensorflow_datasets as tfds
from absl import logging
from etils import epath
from tensorflow_datasets.core import dataset_builder  # FileReaderBuilder has no public name

from tfr import api, splits
from tfr.config import ConvertConfig
from tfr.features import RecordSchema

if TYPE_CHECKING:
    from tfr import runners

HASH_SPLITS = "train=0.8,validation=0.1,test=0.1"
_LABEL_KEYS = ("labels", "label", "labels_unknown")


@dataclasses.dataclass(eq=False, kw_only=True)
class TaggedImagesConfig(tfds.core.BuilderConfig):
    """What the configs of all named datasets have in common.

    Attributes:
      splits: shares of the splits, 'train=0.8,validation=0.1,test=0.1'; a record's place depends on the stable hash of
        its id alone. Datasets that come with splits of their own have no use for it.
      image_size: length in pixels that the shorter side of larger images is reduced to; None keeps every size.
    """

    splits: str = HASH_SPLITS
    image_size: int | None = None

    def __post_init__(self) -> None:
        """Checks the values before anything is downloaded."""
        splits.parse_ratios(self.splits)


class TaggedImagesBuilder(dataset_builder.FileReaderBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A TFDS builder whose records tfr plans, verifies and writes.

    A subclass says what its records hold (`_schema`) and where rows and images are (`_conversion`). Generation is the
    Beam job of `tfr convert`: rows only are handed to workers, which read the images, so memory stays flat on any
    runner; shards, rejected rows and label counts are those that `tfr convert` makes of the same rows. That is why
    this is neither a GeneratorBasedBuilder, whose Beam writer shuffles whole examples through memory, nor a
    ShardBasedBuilder, which has no place for rejected rows and makes one branch of the Beam graph a shard.

    README.md, CITATIONS.bib, TAGS.txt, checksums.tsv and dummy_data/ are found beside the file of the subclass,
    whatever the name that it is imported by.

    Attributes:
      HOMEPAGE: the dataset's page in the web.
      LICENSE: under which its images are.
    """

    HOMEPAGE: str | None = None
    LICENSE: str | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Tells TFDS where the class is: it would look below the first package of the import name."""
        super().__init_subclass__(**kwargs)
        try:
            path = epath.Path(inspect.getfile(cls))
        except (TypeError, OSError):  # defined in a notebook
            return
        cls.code_path, cls.pkg_dir_path = path, path.parent

    @abc.abstractmethod
    def _schema(self) -> RecordSchema | None:
        """What records hold. Empty `names` stand for labels that only the data can tell, None for a whole schema."""

    @abc.abstractmethod
    def _conversion(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        """Fetches the source; returns options of `tfr.convert`: `annotations`, `images`, and what else is needed."""

    def _info(self) -> tfds.core.DatasetInfo:
        schema = self._schema()
        return self.dataset_info_from_configs(
            features=schema and schema.features,
            supervised_keys=schema and schema.supervised_keys,
            homepage=self.HOMEPAGE,
            license=self.LICENSE,
            metadata=tfds.core.MetadataDict(),
        )

    def _download_and_prepare(
        self, dl_manager: tfds.download.DownloadManager, download_config: tfds.download.DownloadConfig
    ) -> None:
        """Generates the dataset in `self.data_dir`, which TFDS moves to its place afterwards."""
        from tfr import conversion  # imports Beam

        config = self._convert_config(dl_manager, download_config)
        if download_config.max_examples_per_split == 0:  # download only, as in TFDS's own builders
            return
        result = dataclasses.asdict(conversion.convert(config, _make_runner(download_config)))
        written = tfds.builder_from_directory(config.dataset_dir).info
        if self.info.features is None:
            self.info.read_from_directory(self.data_dir)
        else:
            self._take_label_names(written.features)
            self.info.set_splits(written.splits)
        self.info.metadata.update({key: value for key, value in result.items() if key not in ("dataset_dir", "reused")})

    def _convert_config(
        self, dl_manager: tfds.download.DownloadManager, download_config: tfds.download.DownloadConfig
    ) -> ConvertConfig:
        schema = self._schema()
        options = {
            "data_dir": os.fspath(self.data_dir),
            "output_dir": os.fspath(self.data_path),
            "name": self.name,
            "version": str(self.version),
            "file_format": self.info.file_format.value,
            "num_shards": download_config.num_shards,
            "max_shard_size_mb": _max_shard_size_mb(download_config.max_shard_size),
            "max_examples_per_split": download_config.max_examples_per_split or None,
        }
        if schema is not None:
            options |= {
                "label_mode": "multi" if schema.multi_label else "single",
                "labels": schema.names,
                "has_unknown": schema.has_unknown,
                "keep_columns": schema.columns,
            }
        if isinstance(config := self.builder_config, TaggedImagesConfig):
            options |= {"split_ratios": config.splits, "image_size": config.image_size}
        return api.make_config(**{**options, **self._conversion(dl_manager)})

    def _post_download_and_prepare_hook(self) -> None:
        """Says what was lost, now that the dataset is in its place."""
        metadata = self.info.metadata
        if metadata.get("num_lost"):
            lost = {k: v for k, v in metadata["rejects_by_reason"].items() if k not in ("duplicate_id", "over_limit")}
            logging.warning(
                "%s: %d of %d rows became no example (%s); they are listed in %s.",
                self.info.full_name,
                metadata["num_lost"],
                metadata["rows_read"],
                ", ".join(f"{reason} {count}" for reason, count in sorted(lost.items())),
                self.data_path / "rejected.jsonl",
            )

    def _take_label_names(self, features: tfds.features.FeaturesDict) -> None:
        """Fills in label names that only the data could tell."""
        for key in _LABEL_KEYS:
            if key in features:
                mine, found = (getattr(side[key], "feature", side[key]) for side in (self.info.features, features))
                mine.names = found.names


def _max_shard_size_mb(num_bytes: int) -> int:
    """The size in MiB that shards are made for: ours, unless the user names another than TFDS's 1 GiB."""
    is_default = num_bytes == tfds.download.DownloadConfig.max_shard_size
    return ConvertConfig.max_shard_size_mb if is_default else max(num_bytes >> 20, 1)


def _make_runner(config: tfds.download.DownloadConfig) -> "runners.Runner":
    """The runner that is asked for, by default the local one.

    Without options TFDS and Beam would take this process's arguments for theirs, and try to download a runner.
    """
    from tfr import runners

    return runners.of_beam(config.beam_runner, config.beam_options)
