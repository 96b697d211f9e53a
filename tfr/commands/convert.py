"""Converts annotations and images to a dataset directory of TFRecord shards that TFDS opens.

Usage:
  tfr convert --annotations=train.csv --images=Images --name=posters --data_dir=data
  tfr convert --annotations=train.csv --images=Images --name=posters --data_dir=data \\
      --id_column=Id --label_columns=Action:Western
  tfr convert --annotations=photos/ --name=pets --data_dir=data        (one folder a label)

The result is <data_dir>/<name>/<version>/. The same command on the same input changes nothing; after a crash it keeps
the shards that are complete.

--num_workers=N takes N processes of this machine; --runner=dask a local Dask cluster or the one at
--dask_client_address; --runner=portable Beam's local job service. Any other Beam runner goes by its name, and arguments
after `--` go to Beam: `tfr convert ... --runner=DataflowRunner -- --project=p --region=r`.
"""

import dataclasses
import json

from tfr import splits
from tfr.annotations.base import EMPTY_LABELS, LABEL_ENCODINGS, MINUS_ONE, MIRFLICKR_LABELS, ReadOptions
from tfr.annotations.formats import FORMATS
from tfr.beam_flags import BeamFlags
from tfr.config import FILE_FORMATS, LABEL_MODES, ON_DUPLICATE, PLANNERS, ConvertConfig
from tfr.flag_groups import CommandFlags
from tfr.images import CHECKS, ImageOptions

FLAGS = CommandFlags()

_input = FLAGS.group("Input")
_ANNOTATIONS = _input.string("annotations", None, "Annotation file, or folder of label folders.", required=True)
_IMAGES = _input.string("images", None, "Image folder. Default: the folder of the annotations.")
_FORMAT = _input.enum(
    "format", "auto", ["auto", *FORMATS], "Format; auto decides by content and name. See `tfr formats`."
)
_ENCODING = _input.string("encoding", "utf-8-sig", "Text encoding of the annotations.")
_DELIMITER = _input.string("delimiter", None, "Field delimiter of a CSV file. Default: the one the header uses.")
_LIST_IMAGES = _input.bool(
    "list_images", True, "List the image folder first. --nolist_images wants full file names and --num_shards."
)

_WHERE = _input.string("where", None, "Keep rows that meet a condition, e.g. \"type == 'product' and year > 1990\".")
_STRIP_PREFIX = _input.string("strip_prefix", None, "Text to remove from the front of image paths.")
_ALLOW_OUTSIDE = _input.bool("allow_outside", False, "Allow images outside the image folder: trusted files only.")
_FILENAME_TEMPLATE = _input.string("filename_template", None, "Labels in file names, e.g. '{label}_{}.jpg'.")
_CLASSES_FILE = _input.string("classes_file", None, "Names of classes (Open Images), or the pickled class table.")
_MIN_CONFIDENCE = _input.float("min_confidence", 1.0, "Open Images: present from this confidence on, below unknown.")
_MIRFLICKR_LABELS = _input.enum("mirflickr_labels", "potential", MIRFLICKR_LABELS, "Which labels of MIRFLICKR.")

_columns = FLAGS.group("Columns (or JSON keys)")
_ID_COLUMN = _columns.string("id_column", None, "Column with a row's id. Default: the usual names, else the path.")
_IMAGE_COLUMN = _columns.string("image_column", None, "Column with the image's path below --images.")
_IMAGE_TEMPLATE = _columns.string("image_template", None, "Image path made from columns, e.g. '{Id}.jpg'.")
_LABEL_COLUMNS = _columns.list("label_columns", [], "Columns with labels; First:Last is a range of the header.")
_LABEL_ENCODING = _columns.enum(
    "label_encoding",
    "auto",
    LABEL_ENCODINGS,
    "What label cells hold: 0/1 flags, a list literal, or text; auto decides on the first rows.",
)
_LABEL_DELIMITER = _columns.string("label_delimiter", None, "What stands between the labels of one cell, e.g. '|'.")
_EMPTY_LABELS = _columns.enum(
    "empty_labels", "unknown", EMPTY_LABELS, "What an empty label cell says: labels are unknown, or none applies."
)
_MINUS_ONE = _columns.enum(
    "minus_one", None, MINUS_ONE[1:], "What -1 says in 0/1 label columns: the label is absent (CelebA), or not known."
)
_SPLIT_COLUMN = _columns.string("split_column", None, "Column that names each row's split.")
_GROUP_COLUMN = _columns.string("group_column", None, "Rows with equal values here never end in two splits.")
_KEEP_COLUMNS = _columns.list("keep_columns", [], "Columns to carry into the records as text.")

_labels = FLAGS.group("Labels and splits")
_LABEL_MODE = _labels.enum(
    "label_mode", "auto", LABEL_MODES, "Labels an image: any number, or exactly one; auto looks at the rows."
)
_LABEL_MAP = _labels.string("label_map", None, "CSV table from,to that renames labels; an empty `to` drops one.")
_CORRECTIONS = _labels.string(
    "corrections", None, "CSV table id,label,present, or a reviewed label_issues.csv of `tfr errors`: corrects labels."
)
_LABELS_FILE = _labels.string("labels_file", None, "File with one label a line: fixes the labels and their order.")
_MIN_LABEL_COUNT = _labels.integer("min_label_count", 1, "Leave out labels on fewer images than this.", lower=0)
_EXCLUDE_LABELS = _labels.list("exclude_labels", [], "Labels to leave out.")
_ON_DUPLICATE = _labels.enum(
    "on_duplicate", "merge", ON_DUPLICATE, "Rows with the same id: merge their labels, take the first, or stop."
)
_SPLITS = _labels.string("splits", "train=0.8,validation=0.1,test=0.1", "Shares of rows whose source names no split.")
_STRATIFY = _labels.bool("stratify", False, "Split so that every label keeps its share, instead of by hash.")
_IGNORE_SPLITS = _labels.bool("ignore_splits", False, "Forget the splits that the source names; split anew.")
_SPLIT_FROM_FOLDER = _labels.bool("split_from_folder", False, "Take train/, val/, ... in front of a path as its split.")
_GROUP_NEAR_DUPLICATES = _labels.optional_integer(
    "group_near_duplicates", 4, "Keep exact and near duplicates in one split; =N: up to N of 64 bits apart (default 4)."
)
_SPLIT_SEED = _labels.integer("split_seed", 0, "Another number gives another random split.")

_images = FLAGS.group("Images")
_IMAGE_SIZE = _images.integer("image_size", None, "Reduce images to this shorter side in pixels. Default: keep.", 1)
_MAX_PIXELS = _images.integer("max_pixels", 100_000_000, "Refuse images of more pixels than this.", lower=1)
_MIN_SIDE = _images.integer("min_side", 1, "Refuse images with a shorter side than this many pixels.", lower=1)
_JPEG_QUALITY = _images.integer("jpeg_quality", 95, "Quality of images that have to be encoded anew.", lower=1)
_KEEP_PNG = _images.bool("keep_png", False, "Store sound 8-bit RGB and grey PNGs as they are, instead of as JPEGs.")
_CHECK_IMAGES = _images.enum(
    "check_images",
    "decode",
    CHECKS,
    "header: store plain JPEGs of a trusted source without decoding them, and records without a fingerprint.",
)
_ICC_TO_SRGB = _images.bool("icc_to_srgb", False, "Convert colours by the embedded profile to sRGB, if it is another.")

_output = FLAGS.group("Output")
_DATA_DIR = _output.string("data_dir", None, "Root of dataset directories.", required=True)
_NAME = _output.string("name", None, "Name of the dataset: a-z, 0-9 and _.", required=True)
_VERSION = _output.string("version", None, "Version of the dataset. Default: 1.0.0, or the next after --append_to.")
_APPEND_TO = _output.string("append_to", None, "A finished version that the new one begins with; its records stay.")
_DESCRIPTION = _output.string("description", "", "A text for the dataset's metadata.")
_MAX_EXAMPLES_PER_SPLIT = _output.integer(
    "max_examples_per_split", None, "Take so many rows of each split only, for a quick try.", lower=1
)
_NUM_SHARDS = _output.integer("num_shards", None, "Shards of each split. Default: by size.", lower=1)
_MAX_SHARD_SIZE_MB = _output.integer("max_shard_size_mb", 128, "Size in MiB that shards stay below.", lower=1)
_FILE_FORMAT = _output.enum("file_format", "tfrecord", FILE_FORMATS, "Format of the shards; array_record is for Grain.")
_MAX_REJECTS = _output.integer("max_rejects", None, "Fail if more rows than this become no example.", lower=0)
_OVERWRITE = _output.bool("overwrite", False, "Replace a dataset that is there already.")
_STATS = _output.bool("stats", False, "Also print what `tfr stats` says, and write its page beside the shards.")
_JSON = _output.bool("json", False, "Print the result as JSON.")

_BEAM = BeamFlags(FLAGS, "convert")
_PLANNER = _BEAM.group.enum(
    "planner",
    "local",
    PLANNERS,
    "Who reads and sorts the annotations: this process, or jobs on the runner, for huge CSV and JSONL tables.",
)
_THREADS = _BEAM.group.integer(
    "threads_per_worker", 2, "Threads that read and verify images ahead; 0 for none.", lower=0
)


def build_config(args: list[str]) -> ConvertConfig:
    """The conversion that the flags say; `args` are Beam's options."""
    return ConvertConfig(
        annotations=_ANNOTATIONS.value,
        images=_IMAGES.value,
        data_dir=_DATA_DIR.value,
        name=_NAME.value,
        version=_VERSION.value or "",
        append_to=_APPEND_TO.value,
        description=_DESCRIPTION.value,
        format=_FORMAT.value,
        read=_read_options(),
        image=ImageOptions(
            image_size=_IMAGE_SIZE.value,
            max_pixels=_MAX_PIXELS.value,
            min_side=_MIN_SIDE.value,
            jpeg_quality=_JPEG_QUALITY.value,
            keep_png=_KEEP_PNG.value,
            check_images=_CHECK_IMAGES.value,
            icc_to_srgb=_ICC_TO_SRGB.value,
        ),
        label_mode=_LABEL_MODE.value,
        label_map=_LABEL_MAP.value,
        corrections=_CORRECTIONS.value,
        labels_file=_LABELS_FILE.value,
        min_label_count=_MIN_LABEL_COUNT.value,
        exclude_labels=tuple(_EXCLUDE_LABELS.value),
        on_duplicate=_ON_DUPLICATE.value,
        split_ratios=splits.parse_ratios(_SPLITS.value),
        stratify=_STRATIFY.value,
        group_near_duplicates=_GROUP_NEAR_DUPLICATES.value,
        split_seed=_SPLIT_SEED.value,
        list_images=_LIST_IMAGES.value,
        max_examples_per_split=_MAX_EXAMPLES_PER_SPLIT.value,
        num_shards=_NUM_SHARDS.value,
        max_shard_size_mb=_MAX_SHARD_SIZE_MB.value,
        file_format=_FILE_FORMAT.value,
        max_rejects=_MAX_REJECTS.value,
        overwrite=_OVERWRITE.value,
        planner=_PLANNER.value,
        runner=_BEAM.runner,
        num_workers=_BEAM.num_workers,
        beam_args=_BEAM.beam_args(args),
        threads_per_worker=_THREADS.value,
    )


def main(args: list[str]) -> None:
    """Builds the config, converts, and says what happened."""
    config = build_config(args)
    from tfr import conversion  # imports Beam

    result = conversion.convert(config)
    if not _STATS.value:
        print(json.dumps(dataclasses.asdict(result), indent=1) if _JSON.value else conversion.summary(result))
        return
    from tfr import statistics_report

    report = statistics_report.make(result.dataset_dir, samples_per_label=4)
    report.write_html(page := f"{result.dataset_dir}/{statistics_report.PAGE_FILE}")
    if _JSON.value:
        print(json.dumps({**dataclasses.asdict(result), "statistics": report.to_json()}, indent=1))
    else:
        print(f"{conversion.summary(result)}\n\n{report.to_text()}\n\nThe page: {page}")


def _read_options() -> ReadOptions:
    return ReadOptions(
        id_column=_ID_COLUMN.value,
        image_column=_IMAGE_COLUMN.value,
        image_template=_IMAGE_TEMPLATE.value,
        label_columns=tuple(_LABEL_COLUMNS.value),
        label_encoding=_LABEL_ENCODING.value,
        label_delimiter=_LABEL_DELIMITER.value,
        split_column=_SPLIT_COLUMN.value,
        group_column=_GROUP_COLUMN.value,
        keep_columns=tuple(_KEEP_COLUMNS.value),
        delimiter=_DELIMITER.value,
        encoding=_ENCODING.value,
        where=_WHERE.value,
        empty_labels=_EMPTY_LABELS.value,
        minus_one=_MINUS_ONE.value or "",
        classes_file=_CLASSES_FILE.value,
        min_confidence=_MIN_CONFIDENCE.value,
        mirflickr_labels=_MIRFLICKR_LABELS.value,
        filename_template=_FILENAME_TEMPLATE.value,
        strip_prefix=_STRIP_PREFIX.value,
        split_from_folder=_SPLIT_FROM_FOLDER.value,
        ignore_splits=_IGNORE_SPLITS.value,
        allow_outside=_ALLOW_OUTSIDE.value,
    )
