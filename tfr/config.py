"""The one object that says what a conversion does."""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Union

from tfr import files, near_duplicates, recorded, splits
from tfr.annotations import Event, ReadOptions
from tfr.errors import UsageError
from tfr.images import ImageOptions

if TYPE_CHECKING:
    import pandas as pd

ON_DUPLICATE = ("merge", "first", "error")
LABEL_MODES = ("auto", "multi", "single")
PLANNERS = ("local", "beam")
FILE_FORMATS = ("tfrecord", "array_record")  # TFDS's names
# Fields that change how a conversion runs, but not a byte of what it writes.
_NOT_CONTENT = (
    "data_dir",
    "output_dir",
    "runner",
    "num_workers",
    "beam_args",
    "threads_per_worker",
    "max_rejects",
    "overwrite",
    "planner",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """A conversion: from annotations and images to a dataset directory.

    Attributes:
      annotations: an annotation file or folder, a pandas DataFrame, or a function that yields what readers yield
        (tfr.annotations.Event) each time it is called.
      images: the image folder; default: the folder of the annotation file.
      data_dir: the root of dataset directories; the result is `<data_dir>/<name>/<version>/`.
      output_dir: the dataset directory itself, where it is not to be `<data_dir>/<name>/<version>`.
      name: the dataset's name: lower-case letters, digits, underscores.
      version: the dataset's version, 'major.minor.patch'; default: 1.0.0, or the next minor one after `append_to`.
      append_to: a finished version that the new one begins with. Its records are taken over: their images are neither
        read nor verified again, and on a local disk shards in which nothing changes become second names of the old
        files (hard links). Labels keep their ids, new ones come behind them; records keep their splits, and new rows
        of a group follow those that carry it in a kept column. The
        annotations name what is new; rows of an id that is there already follow `on_duplicate`. The old version stays
        as it is. Settings of images, splits and columns must be the old ones.
      format: a key of tfr.annotations.FORMATS, or 'auto'.
      read: how to read the annotations; its `images` is filled in from here.
      image: limits and sizes of images.
      label_mode: 'multi' (any number of labels an image), 'single' (exactly one), or 'auto': single where every row
        has exactly one label.
      label_map: CSV table `from,to` that renames labels before anything else; an empty `to` drops one.
      corrections: CSV table of labels of single images that are to be corrected, see tfr.corrections.read; applied
        after `label_map` and `on_duplicate`, before splits and labels are chosen.
      labels_file: file with one label a line that fixes the labels and their order.
      labels: the same as a tuple, instead of a file.
      has_unknown: whether records have `labels_unknown`; default: where any label of any row is unknown.
      min_label_count: labels on fewer images are left out.
      exclude_labels: labels to leave out.
      on_duplicate: what to do with rows of the same id: 'merge' their labels, take the 'first', or 'error'.
      split_ratios: shares of the splits for rows whose source names none.
      stratify: whether rows whose source names no split are split so that every label keeps its share in every split
        (iterative stratification), instead of by the hash of their ids. Adding images may then move others.
      group_near_duplicates: keep images whose fingerprints differ in at most so many of 64 bits, and exact duplicates,
        in one split; None does not look. Reads every image once more, before the splits are chosen.
      split_seed: another number gives another random split.
      list_images: whether to list the image folder before: it finds images by stem, counts images without a row and
        sizes the shards. Without it rows must name files in full and `num_shards` is needed.
      max_examples_per_split: rows of each split that are taken, for a quick try; the others are listed as rejected.
      num_shards: shards of each split; default: by size.
      max_shard_size_mb: size in MiB of image files that shards stay below, but for rare bad luck, when `num_shards` is
        unset.
      file_format: 'tfrecord', or 'array_record' for reading records at random (`tfds.data_source`, Grain).
      max_rejects: the conversion fails when more rows than this become no example; None: any number is fine.
      overwrite: whether to replace a dataset that is there already.
      runner: 'in_process', 'dask', 'portable', or any Beam runner by its name.
      num_workers: processes; None: as many as the number of images is worth.
      beam_args: further Beam options, e.g. ('--project=p', '--region=r').
      planner: who reads and sorts the annotations: 'local', the launching process; or 'beam', jobs on the runner, for
        tables too large for that. The result is the same.
      threads_per_worker: threads that read and verify images ahead of the writer; 0: none.
      description: text for the dataset's metadata.
    """

    annotations: Union[str, "pd.DataFrame", Callable[[], Iterable[Event]]]
    data_dir: str
    name: str
    output_dir: str | None = None
    images: str | None = None
    version: str = ""
    append_to: str | None = None
    format: str = "auto"
    read: ReadOptions = dataclasses.field(default_factory=ReadOptions)
    image: ImageOptions = dataclasses.field(default_factory=ImageOptions)
    label_mode: str = "auto"
    label_map: str | None = None
    corrections: str | None = None
    labels_file: str | None = None
    labels: tuple[str, ...] = ()
    has_unknown: bool | None = None
    min_label_count: int = 1
    exclude_labels: tuple[str, ...] = ()
    on_duplicate: str = "merge"
    split_ratios: splits.SplitRatios = splits.DEFAULT_RATIOS
    stratify: bool = False
    group_near_duplicates: int | None = None
    split_seed: int = 0
    list_images: bool = True
    max_examples_per_split: int | None = None
    num_shards: int | None = None
    max_shard_size_mb: int = 128
    file_format: str = "tfrecord"
    max_rejects: int | None = None
    overwrite: bool = False
    planner: str = "local"
    runner: str = "in_process"
    num_workers: int | None = None
    beam_args: tuple[str, ...] = ()
    threads_per_worker: int = 2
    description: str = ""

    def __post_init__(self) -> None:
        """Checks values and combinations before anything is read."""
        if not self.version:  # known from here on to everyone
            object.__setattr__(self, "version", self._next_minor() if self.append_to else "1.0.0")
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise UsageError(f"--name must be lower-case letters, digits and '_'. Received: --name={self.name}")
        if not re.fullmatch(r"\d+\.\d+\.\d+", self.version):
            raise UsageError(f"--version must look like 1.0.0. Received: --version={self.version}")
        if self.append_to and (self.output_dir or self.version == self.append_to):
            raise UsageError("--append_to wants another --version beside the old one, below --data_dir.")
        _one_of("--on_duplicate", self.on_duplicate, ON_DUPLICATE)
        _one_of("--label_mode", self.label_mode, LABEL_MODES)
        _one_of("--file_format", self.file_format, FILE_FORMATS)
        _one_of("--planner", self.planner, PLANNERS)
        if self.group_near_duplicates is not None:
            near_duplicates.check_radius("--group_near_duplicates", self.group_near_duplicates)
        if self.planner == "beam":
            self._check_for_beam()
        for flag in ("num_shards", "max_examples_per_split", "num_workers"):
            value = getattr(self, flag)
            if value is not None and value < 1:
                raise UsageError(f"--{flag} must be at least 1. Received: --{flag}={value}")
        if self.labels and self.labels_file:
            raise UsageError("--labels_file and `labels` both fix the labels: give one of them.")
        if not self.list_images and self.num_shards is None:
            raise UsageError("--nolist_images leaves the sizes of the images unknown: give --num_shards as well.")

    def _check_for_beam(self) -> None:
        """Raises where something is asked for that needs all rows in one place."""
        whys = {
            "--stratify looks at all rows, one after the other": self.stratify,
            "--group_near_duplicates compares all images": self.group_near_duplicates is not None,
            "--max_examples_per_split wants the rows of a split in order": self.max_examples_per_split is not None,
            "--group_column with splits that the source names wants all rows of a group at once": (
                self.read.group_column is not None
                and not self.read.ignore_splits
                and (self.read.split_column is not None or self.read.split_from_folder)
            ),
            "--append_to begins with records that no table lists": self.append_to is not None,
            "annotations that are no file are in one place already": self.annotations_path is None,
            "--template_location writes one job, and the next one needs what this one finds": any(
                argument.startswith("--template_location") for argument in self.beam_args
            ),
        }
        if reasons := [why for why, is_so in whys.items() if is_so]:
            raise UsageError(f"--planner=beam: {'; '.join(reasons)}. Leave that out, or plan with --planner=local.")

    @property
    def salt(self) -> str:
        """What goes into the hashes of ids that order the rows and choose their splits."""
        return f"tfr:{self.split_seed}"

    def _next_minor(self) -> str:
        """TFDS's rule: the old data as they were and additional ones are a new minor version."""
        match = re.fullmatch(r"(\d+)\.(\d+)\.\d+", self.append_to or "")
        if match is None:
            raise UsageError(f"--append_to must be a version like 1.0.0. Received: --append_to={self.append_to}")
        return f"{match[1]}.{int(match[2]) + 1}.0"

    @property
    def append_to_dir(self) -> str:
        """The dataset directory of the version that is appended to; '' where there is none."""
        return f"{str(self.data_dir).rstrip('/')}/{self.name}/{self.append_to}" if self.append_to else ""

    @property
    def annotations_path(self) -> str | None:
        """The annotation file or folder; None for a DataFrame or a function."""
        return os.fspath(self.annotations) if isinstance(self.annotations, (str, os.PathLike)) else None

    @property
    def source_name(self) -> str:
        """What the annotations are called in messages and metadata: the path, or what stands for it."""
        function = getattr(self.annotations, "func", self.annotations)  # what a functools.partial calls
        name: str = getattr(function, "__qualname__", type(function).__name__)
        return self.annotations_path or name

    @property
    def image_dir(self) -> str:
        """The image folder."""
        if self.images is not None:
            return self.images
        path = self.annotations_path
        if path is None:
            source = f"A {type(self.annotations).__name__}"
            raise UsageError(f"{source} says nothing of where its images are: give `images`, the image folder.")
        return path if files.is_dir(path) else os.path.dirname(path) or "."

    @property
    def dataset_dir(self) -> str:
        """The dataset directory that the conversion makes."""
        return self.output_dir or f"{str(self.data_dir).rstrip('/')}/{self.name}/{self.version}"

    @property
    def places(self) -> dict[str, str]:
        """Flag to path of what the workers of a job read and write."""
        return {"--data_dir": str(self.data_dir), "--images": self.image_dir}

    def content(self) -> dict[str, Any]:
        """What decides the bytes of the result, as JSON values."""
        return {"annotations": self.source_name, **recorded.values(self, without=(*_NOT_CONTENT, "annotations"))}

    def content_hash(self) -> str:
        """A hex digest of `content()`."""
        return digest(self.content())


def digest(value: Any) -> str:
    """A hex digest of JSON values, whatever the order of keys."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode("utf-8"), digest_size=16).hexdigest()


def _one_of(flag: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{flag} must be one of {', '.join(allowed)}. Received: {flag}={value}")
