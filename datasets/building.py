"""Builds a dataset of any TFDS builder: ours, TFDS's own, or one in a folder."""

import contextlib
import dataclasses
import difflib
import inspect
import json
import os
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core import file_adapters, registered
from tensorflow_datasets.core.download import download_manager
from tensorflow_datasets.core.download import util as download_util

from tfr import beam_options, conversion, dataset_dir, files, runners
from tfr.datasets import NAMES
from tfr.errors import DatasetError, MissingDependencyError, UsageError

_MODULE_SUFFIX = "_dataset_builder"
_LIMIT_FILE = (
    "max_examples_per_split.json"  # in dataset directories that were built for a quick try; nothing else tells
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """What to build and how.

    Attributes:
      builder: a name such as 'movie_posters' or 'movie_posters/first_3000:1.0.0', or the folder of a builder, which
        holds `<folder>_dataset_builder.py`.
      data_dir: root of dataset directories. Default: TFDS's own.
      manual_dir: where the data lies that a person has to fetch. Default: `<data_dir>/downloads/manual`.
      download_dir: where downloads are kept. Default: `<data_dir>/downloads`.
      config: name of one of the builder's configs. Default: the builder's own default.
      file_format: of the shards: 'tfrecord', 'array_record', or another that TFDS knows.
      num_shards: shards of each split. Default: by size.
      max_shard_size_mb: size in MiB that no shard is to exceed, where `num_shards` is unset. Default: the builder's.
      max_examples_per_split: takes no more than these, for a quick try; the dataset is marked as one such.
      overwrite: whether to replace a dataset that is there already.
      register_checksums: whether to write the checksums of the downloads to the builder's checksums.tsv.
      runner: Beam runner by name, for builders that use Beam.
      beam_args: further Beam options, e.g. ('--project=p',).
    """

    builder: str
    data_dir: str | None = None
    manual_dir: str | None = None
    download_dir: str | None = None
    config: str | None = None
    file_format: str | None = None
    num_shards: int | None = None
    max_shard_size_mb: int | None = None
    max_examples_per_split: int | None = None
    overwrite: bool = False
    register_checksums: bool = False
    runner: str = "in_process"
    beam_args: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks values before anything is imported or fetched."""
        formats = [file_format.value for file_format in file_adapters.FileFormat]
        if self.file_format is not None and self.file_format not in formats:
            raise UsageError(f"--file_format must be one of {', '.join(formats)}. Received: {self.file_format}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildResult:
    """What a build made.

    Attributes:
      name: 'name/config/version'.
      dataset_dir: where the dataset is.
      reused: whether it was there already.
      file_format: of its shards.
      splits: split name to `examples`, `shards` and `bytes`.
      features: feature name to type.
      max_examples_per_split: the limit that it was built with; None: it is whole.
      conversion: for tfr's own builders, what became of the rows; see tfr.conversion.ConversionResult.
    """

    name: str
    dataset_dir: str
    reused: bool
    file_format: str
    splits: dict[str, dict[str, int]]
    features: dict[str, str]
    max_examples_per_split: int | None
    conversion: dict[str, Any]

    def summary(self) -> str:
        """The same in plain words."""
        lines = [f"{'Already built, nothing to do' if self.reused else 'Built'}: {self.dataset_dir}"]
        for name, split in self.splits.items():
            shards = f"{split['shards']} {'shard' if split['shards'] == 1 else 'shards'}"
            size = f"{split['bytes'] / (1 << 20):.1f} MiB in {shards} ({self.file_format})"
            lines.append(f"  {name:<23} {split['examples']} examples, {size}")
        lines.append(f"  {'features':<23} {', '.join(f'{name} ({kind})' for name, kind in self.features.items())}")
        if self.max_examples_per_split:
            lines.append(f"  {'for a quick try':<23} at most {self.max_examples_per_split} examples of each split")
        if self.conversion:
            rows = conversion.ConversionResult(**{**self.conversion, "dataset_dir": self.dataset_dir})
            lines += conversion.summary(rows).splitlines()[1:]
        return "\n".join(lines)


def build(builder: str, **options: Any) -> BuildResult:
    """Downloads and prepares a dataset, or finds it prepared.

        tfr.build("movie_posters", data_dir="data", manual_dir="downloads/posters")

    Args:
      builder: a builder's name or folder; see BuildConfig.
      **options: further fields of BuildConfig.

    Returns:
      What was made.

    Raises:
      UsageError: there is no such builder, config or option.
      DatasetError: data that a person has to fetch are missing, a download failed, or something incomplete is in the
        dataset's place.
    """
    known = [field.name for field in dataclasses.fields(BuildConfig)]
    if unknown := sorted(set(options) - set(known)):
        raise UsageError(f"tfr.build: unknown options {unknown}. There are: {', '.join(known)}.")
    config = BuildConfig(builder=builder, **options)
    download_config = _download_config(config)
    builder_cls, arguments = _find_builder(config)
    with _errors_in_words(config, builder_cls), contextlib.redirect_stdout(sys.stderr):  # TFDS prints what it does
        instance = _make(builder_cls, arguments)
        reused = instance.is_prepared() and not config.overwrite
        if reused:
            _check_file_format(instance, config.file_format)
            _check_limit(instance, config.max_examples_per_split)
        else:
            _clear(instance, config.overwrite)
            instance = builder_cls(**arguments, file_format=config.file_format)  # anew: it may have read what is gone
            instance.download_and_prepare(download_dir=config.download_dir, download_config=download_config)
            _note_limit(instance, config.max_examples_per_split)
    return _describe(instance, reused)


def _find_builder(config: BuildConfig) -> tuple[type[tfds.core.DatasetBuilder], dict[str, Any]]:
    """The builder's class and the arguments to make it with."""
    if _is_folder(config.builder):
        builder_cls, arguments = _class_in_folder(config.builder)
    else:
        builder_cls, arguments = _class_of_name(config.builder)
    if config.config is not None:
        if arguments.get("config", config.config) != config.config:
            raise UsageError(f"Two configs: {config.builder} and --config={config.config}. Give one.")
        arguments["config"] = config.config
    _check_config(builder_cls, arguments.get("config"))
    arguments |= {"data_dir": config.data_dir} if config.data_dir else {}
    return builder_cls, arguments


def _is_folder(text: str) -> bool:
    """Whether a builder's folder is meant: a dataset directory in the working directory has a builder's name, too."""
    return os.path.isdir(text) and (os.path.isfile(_builder_file(text)) or text[0] in "./~" or text.endswith("/"))


def _builder_file(folder: str) -> str:
    folder = os.path.realpath(folder)
    return os.path.join(folder, f"{os.path.basename(folder)}{_MODULE_SUFFIX}.py")


def _class_in_folder(folder: str) -> tuple[type[tfds.core.DatasetBuilder], dict[str, Any]]:
    folder = os.path.realpath(folder)
    name = os.path.basename(folder)
    if not os.path.isfile(_builder_file(folder)):
        raise UsageError(
            f"{folder} holds no builder: there is no {name}{_MODULE_SUFFIX}.py. `tfr new NAME` makes a folder with one."
        )
    module = f"{name}.{name}{_MODULE_SUFFIX}"
    try:
        with tfds.core.utils.add_sys_path(os.path.dirname(folder)):
            builder_cls = tfds.core.community.builder_cls_from_module(module)
    except ModuleNotFoundError as err:
        if err.name not in (name, module):  # something that the builder imports
            raise
        raise UsageError(
            f"Python finds another module called {name!r}. Rename the folder, and the file in it."
        ) from err
    if (found := os.path.dirname(os.path.realpath(inspect.getfile(builder_cls)))) != folder:
        raise UsageError(f"Python finds another package called {name!r}, in {found}. Rename the folder.")
    return builder_cls, {}


def _class_of_name(text: str) -> tuple[type[tfds.core.DatasetBuilder], dict[str, Any]]:
    try:
        name, arguments = tfds.core.naming.parse_builder_name_kwargs(text)
    except ValueError as err:
        raise UsageError(
            f"A builder's name looks like name, name/config or name/config:1.0.0. Received: {text!r}"
        ) from err
    try:
        return tfds.builder_cls(str(name)), arguments
    except registered.DatasetNotFoundError as err:
        known = tfds.list_builders(with_community_datasets=False)
        close = difflib.get_close_matches(str(name), known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UsageError(
            f"No builder is called {str(name)!r}, and there is no such folder.{hint} tfr has {', '.join(NAMES)}; "
            f"TFDS has {len(known) - len(NAMES)} more: tensorflow.org/datasets/catalog."
        ) from err


def _check_config(builder_cls: type[tfds.core.DatasetBuilder], name: str | None) -> None:
    configs = [config.name for config in builder_cls.BUILDER_CONFIGS]
    if name is not None and name not in configs:
        there_are = f"Its configs are {', '.join(configs)}" if configs else "It has none"
        raise UsageError(f"{builder_cls.name} has no config {name!r}. {there_are}.")


def _make(builder_cls: type[tfds.core.DatasetBuilder], arguments: dict[str, Any]) -> tfds.core.DatasetBuilder:
    try:
        return builder_cls(**arguments)
    except (AssertionError, ValueError) as err:  # such as a version that is not there
        raise UsageError(f"{builder_cls.name}: {' '.join(str(err).split())}") from err


def _download_config(config: BuildConfig) -> tfds.download.DownloadConfig:
    """Runner and options are always named: without, TFDS takes this process's arguments and Beam downloads a runner."""
    options = beam_options.parse(config.beam_args)
    beam_options.refuse_lossy(options)
    size = {"max_shard_size": config.max_shard_size_mb << 20} if config.max_shard_size_mb else {}
    return tfds.download.DownloadConfig(
        **size,
        manual_dir=config.manual_dir,
        max_examples_per_split=config.max_examples_per_split,
        num_shards=config.num_shards,
        register_checksums=config.register_checksums,
        beam_runner=runners.create(config.runner),
        beam_options=options,
    )


def _check_file_format(builder: tfds.core.DatasetBuilder, wanted: str | None) -> None:
    found = builder.info.file_format.value
    if wanted not in (None, found):
        raise UsageError(
            f"{builder.data_path} is there as {found}, not as {wanted}. Say --overwrite to replace it, or give another "
            "--data_dir."
        )


def _note_limit(builder: tfds.core.DatasetBuilder, limit: int | None) -> None:
    if limit is not None:
        files.write_text(os.fspath(builder.data_path / _LIMIT_FILE), json.dumps(limit))


def _read_limit(builder: tfds.core.DatasetBuilder) -> int | None:
    path = os.fspath(builder.data_path / _LIMIT_FILE)
    return json.loads(files.read_bytes(path)) if files.exists(path) else None


def _check_limit(builder: tfds.core.DatasetBuilder, wanted: int | None) -> None:
    """Raises where a part of a dataset would be taken for the whole, or for a larger part."""
    found = _read_limit(builder)
    if found is not None and (wanted is None or wanted > found):
        raise DatasetError(
            f"{builder.data_path} has at most {found} examples of each split: it was built with "
            f"--max_examples_per_split={found}. Say --overwrite to build it anew, or give another --data_dir."
        )


def _clear(builder: tfds.core.DatasetBuilder, overwrite: bool) -> None:
    """Makes room for the dataset.

    Raises:
      DatasetError: something is there that is no complete dataset; TFDS itself would take it for one.
    """
    if not builder.data_path.exists():
        return
    if not overwrite:
        raise DatasetError(f"{builder.data_path} is there, but no complete dataset. Say --overwrite to replace it.")
    builder.data_path.rmtree()


@contextlib.contextmanager
def _errors_in_words(config: BuildConfig, builder_cls: type[tfds.core.DatasetBuilder]) -> Iterator[None]:
    """What TFDS raises for a missing manual folder or a failed download, as errors of tfr."""
    try:
        yield
    except AssertionError as err:
        if not str(err).startswith("Manual directory"):
            raise
        folder = str(err).split()[2]
        raise DatasetError(
            f"{builder_cls.name} needs data that a person has to fetch, and {folder} is missing or empty. Name another "
            f"folder with --manual_dir, or:\n{textwrap.dedent(builder_cls.MANUAL_DOWNLOAD_INSTRUCTIONS).strip()}"
        ) from err
    except (requests.RequestException, download_util.DownloadError, download_manager.NonMatchingChecksumError) as err:
        raise DatasetError(f"{builder_cls.name}: a download failed. {' '.join(str(err).split())}") from err
    except ImportError as err:
        raise MissingDependencyError(
            f"{builder_cls.name} or --file_format={config.file_format} needs {err.name}: {err}"
        ) from err


def _describe(builder: tfds.core.DatasetBuilder, reused: bool) -> BuildResult:
    info = builder.info
    return BuildResult(
        name=info.full_name,
        dataset_dir=os.fspath(builder.data_path),
        reused=reused,
        file_format=info.file_format.value,
        splits={
            name: {"examples": split.num_examples, "shards": split.num_shards, "bytes": split.num_bytes}
            for name, split in info.splits.items()
        },
        features={name: type(feature).__name__ for name, feature in info.features.items()},
        max_examples_per_split=_read_limit(builder),
        conversion=dataset_dir.read_conversion(os.fspath(builder.data_path)).get("result", {}),
    )
