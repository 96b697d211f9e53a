"""The table of annotation formats, and `read`, which picks one."""

import dataclasses
import importlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Union

from tfr import files
from tfr.annotations import paths
from tfr.annotations.base import Event, Note, ReadOptions
from tfr.errors import AnnotationError, UsageError

if TYPE_CHECKING:
    import pandas as pd

_ANY_FORMAT = ("images", "encoding", "strip_prefix", "split_from_folder", "ignore_splits", "allow_outside")
_TABLE = (
    "id_column", "image_column", "image_template", "label_columns", "label_encoding", "label_delimiter",
    "split_column", "group_column", "keep_columns", "where", "empty_labels",
    "minus_one",
)  # fmt: skip
_CSV = (*_TABLE, "delimiter")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Format:
    """One annotation format.

    Attributes:
      reader: 'module:function' below tfr.annotations; its docstring has the exact shape.
      summary: one line.
      example: what it looks like, a few lines.
      is_file, is_folder: what its path may be.
      options: the fields of ReadOptions that it uses, besides those that all do.
      companion: 'module:function' below tfr.annotations, for formats whose readers look for a table beside the file:
        from the file's path and the options to that table's path, or None.
    """

    reader: str
    summary: str
    example: str
    is_file: bool = True
    is_folder: bool = False
    options: tuple[str, ...] = ()
    companion: str | None = None

    def load_reader(self):
        """The reader function, imported when asked for."""
        return _load(self.reader)


def _load(name: str) -> Any:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(f"tfr.annotations.{module}"), function)


FORMATS = {
    "csv": Format(
        reader="csv_reader:read_csv",
        summary="CSV with a header; labels in columns of text, list literals, or 0/1 flags",
        example="Id,Genre,Action,Comedy\ntt0086425,\"['Comedy', 'Drama']\",0,1",
        options=_CSV,
    ),
    "tsv": Format(
        reader="csv_reader:read_tsv",
        summary="the same with tabs between the cells",
        example="image_path\tlabels\na.jpg\tsky|water",
        options=_CSV,
    ),
    "jsonl": Format(
        reader="jsonl_reader:read_jsonl",
        summary="one JSON object a line",
        example='{"image": "a.jpg", "labels": ["sky", "water"], "split": "train"}',
        options=_TABLE,
    ),
    "json": Format(
        reader="json_reader:read_json",
        summary="JSON list of objects with an image and its labels, or an object of image to labels",
        example='[{"image": "im1.jpg", "annotation": ["sky", "water"]}]\n[{"image_id": "a.jpg", "label": "Cat"}]\n'
        '{"a.jpg": ["sky", "water"], "b.jpg": []}',
        options=_TABLE,
    ),
    "parquet": Format(
        reader="frame_reader:read_parquet",
        summary="Parquet table with a column of image paths; labels as in CSV, or lists",
        example="image: string, labels: list<string>",
        options=_TABLE,
    ),
    "folders": Format(
        reader="folder_reader:read_folders",
        summary="one folder a label, with or without train/validation/test folders above",
        example="images/train/cat/a.jpg\nimages/test/dog/b.jpg",
        is_file=False,
        is_folder=True,
    ),
    "filenames": Format(
        reader="folder_reader:read_filenames",
        summary="labels in file names, by --filename_template",
        example="cat_0001.jpg\ndog_0001.jpg        --filename_template='{label}_{}.jpg'",
        is_file=False,
        is_folder=True,
        options=("filename_template", "label_delimiter"),
    ),
    "mirflickr": Format(
        reader="mirflickr_reader:read_mirflickr",
        summary="MIRFLICKR-25k: a text file of image numbers for each label",
        example="annotations/sky.txt:     1\n                         17\n"
        "annotations/baby_r1.txt: 17\nmirflickr/im1.jpg mirflickr/im17.jpg mirflickr/meta/tags/tags1.txt",
        is_file=False,
        is_folder=True,
        options=("mirflickr_labels", "keep_columns"),
    ),
    "pickles": Format(
        reader="pickle_reader:read_pickles",
        summary="two pickles: image path to 0/1 vector, label to column",
        example='all_y_labels.p: {"Drama/tt01.jpg": array([1., 0.])}\nclasses_dict.p: {"Drama": 0, "War": 1}\n'
        "images/train/Drama/tt01.jpg",
        is_folder=True,
        options=("classes_file",),
        companion="pickle_reader:classes_file",
    ),
    "automl_csv": Format(
        reader="vertex_reader:read_automl_csv",
        summary="AutoML Vision CSV: split, image, labels; header or none",
        example="TRAIN,gs://bucket/a.jpg,daisy,rose\nUNASSIGNED,gs://bucket/b.jpg",
        options=("empty_labels", "delimiter"),
    ),
    "vertex_csv": Format(
        reader="vertex_reader:read_vertex_csv",
        summary="Vertex AI CSV, or any CSV of paths and labels without a header",
        example="training,gs://bucket/a.jpg,daisy,rose\ngs://bucket/b.jpg,daisy\ngs://bucket/c.jpg",
        options=("empty_labels", "delimiter"),
    ),
    "vertex_jsonl": Format(
        reader="vertex_reader:read_vertex_jsonl",
        summary="Vertex AI JSONL",
        example='{"imageGcsUri": "gs://b/a.jpg", "classificationAnnotations": [{"displayName": "daisy"}],\n'
        ' "dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": "training"}}    (on one line)',
        options=("empty_labels",),
    ),
    "coco": Format(
        reader="coco_reader:read_coco",
        summary="COCO JSON: the categories of an image's annotations (and LVIS's verified absent ones)",
        example='{"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 3, "name": "car"}],\n'
        ' "annotations": [{"image_id": 1, "category_id": 3}]}',
    ),
    "voc": Format(
        reader="voc_reader:read_voc",
        summary="Pascal VOC XML: the names of an image's objects",
        example="Annotations/a.xml: <annotation><filename>a.jpg</filename><object><name>cat</name></object>\n"
        "                   </annotation>\nJPEGImages/a.jpg",
        is_folder=True,
    ),
    "voc_sets": Format(
        reader="voc_lists:read_voc_sets",
        summary="Pascal VOC class lists: 1 present, -1 absent, 0 unknown",
        example="ImageSets/Main/cat_train.txt: 2008_000008 -1\n                              2008_000015  1",
        is_file=False,
        is_folder=True,
    ),
    "open_images": Format(
        reader="open_images_reader:read_open_images",
        summary="Open Images labels: 1 present, 0 absent, not listed unknown",
        example="ImageID,Source,LabelName,Confidence\n0001eeaf4aed83f9,verification,/m/0cmf2,1",
        options=("classes_file", "min_confidence", "delimiter"),
        companion="open_images_reader:classes_file",
    ),
    "imagefolder": Format(
        reader="imagefolder_reader:read_imagefolder",
        summary="Hugging Face imagefolder: metadata.csv, .jsonl or .parquet with file_name",
        example='train/metadata.jsonl: {"file_name": "a.jpg", "labels": ["sky"]}\ntrain/a.jpg',
        is_folder=True,
        options=_CSV,
    ),
    "label_studio": Format(
        reader="label_studio_reader:read_label_studio",
        summary="Label Studio JSON export of choices",
        example='[{"data": {"image": "/data/upload/1/a.jpg"}, "annotations": [{"result": [{"from_name": "choice",\n'
        '  "type": "choices", "value": {"choices": ["cat"]}}]}]}]',
        options=("label_columns", "image_column", "empty_labels"),
    ),
    "cvat": Format(
        reader="cvat_reader:read_cvat",
        summary="CVAT 1.1 XML for images: image tags",
        example='<annotations><image id="0" name="a.jpg" width="6" height="4"><tag label="cat"/></image></annotations>',
    ),
    "roboflow": Format(
        reader="imagefolder_reader:read_roboflow",
        summary="Roboflow multi-label: _classes.csv in each split folder",
        example="train/_classes.csv: filename, cat, dog\n                    a.jpg,1,0",
        is_folder=True,
        options=("label_columns", "where", "keep_columns", "group_column", "delimiter", "minus_one"),
    ),
    "labelbox": Format(
        reader="labelbox_reader:read_labelbox",
        summary="Labelbox NDJSON export of classifications",
        example='{"data_row": {"external_id": "a.jpg"}, "projects": {"p": {"labels": [{"annotations":\n'
        ' {"classifications": [{"name": "kind", "radio_answer": {"value": "cat"}}]}}]}}}    (on one line)',
        options=("label_columns", "empty_labels"),
    ),
    "via_csv": Format(
        reader="via_reader:read_via_csv",
        summary="VGG Image Annotator CSV: file attributes",
        example="filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
        'a.jpg,1234,"{""tag"":{""sky"":true}}",0,0,"{}","{}"',
        options=("label_columns", "empty_labels", "delimiter"),
    ),
    "via_json": Format(
        reader="via_reader:read_via_json",
        summary="VGG Image Annotator JSON or project: file attributes",
        example='{"a.jpg1234": {"filename": "a.jpg", "size": 1234, "regions": [],\n'
        '  "file_attributes": {"tag": {"sky": true}}}}',
        options=("label_columns", "empty_labels"),
    ),
    "tfds": Format(
        reader="tfds_reader:read_tfds",
        summary="a dataset directory: to split anew, relabel, resize or filter",
        example="data/posters/1.0.0/dataset_info.json",
        is_file=False,
        is_folder=True,
        options=("id_column", "group_column", "keep_columns", "where"),
    ),
}


def known_formats() -> str:
    """All formats for a message, with how to name one."""
    return f"Name one with --format, e.g. --format=csv. Known: {', '.join(FORMATS)}. `tfr formats` shows each."


def detect_format(path: str) -> tuple[str, str]:
    """Says which format a path holds, by its content and name.

    Returns:
      The format's name and the reason, e.g. ('coco', "it has 'images', 'annotations' and 'categories'").

    Raises:
      AnnotationError: the path does not exist, is empty, or holds no or several formats that can be told.
    """
    from tfr.annotations import sniffing

    if not files.exists(path):
        raise AnnotationError(f"No annotation file at {path}. Give an existing file or folder.")
    found = sniffing.candidates(path)
    if len(found) == 1:
        return found[0]
    if not found:
        raise AnnotationError(f"{path}: cannot tell its format. {known_formats()}")
    either = "; or ".join(f"{name}, because {reason}" for name, reason in found)
    raise AnnotationError(f"{path}: can be read as {either}. {known_formats()}")


def read(
    annotations: Union[str, os.PathLike, "pd.DataFrame", Callable[[], Iterable[Event]]],
    format: str = "auto",
    options: ReadOptions | None = None,
) -> Iterator[Event]:
    """Reads annotations of any known format.

    Args:
      annotations: a file, a folder, a pandas DataFrame, or a function that yields such events itself.
      format: a key of FORMATS, or 'auto' to decide by content and name; a first Note then says which it is and why.
      options: which columns to use and how; see ReadOptions.

    Returns:
      An iterator of an Annotation a row, or a RejectedRow where a row cannot be read; also of LabelSets and Notes.
      Image paths are relative to the image folder, unless `allow_outside` is set.

    Raises:
      AnnotationError: the file is missing, empty, or not of the format. Some are raised while iterating.
      UsageError: the format is not known, or does not use an option that is set.
    """
    options = options or ReadOptions()
    if callable(annotations):
        return paths.keep_inside(annotations(), options)
    if not isinstance(annotations, (str, os.PathLike)):
        from tfr.annotations import frame_reader

        _check_options("DataFrame", _TABLE, options)
        return paths.keep_inside(frame_reader.read_frame(annotations, options), options)
    path, notes = os.fspath(annotations), []
    if format == "auto":
        format, reason = ("filenames", "of --filename_template") if options.filename_template else detect_format(path)
        notes.append(Note(f"format {format} ({reason})"))
    check(path, format, options)
    events = FORMATS[format].load_reader()(path, options)
    return itertools.chain(notes, paths.keep_inside(events, options, is_trusted=format == "tfds"))


def find_companion(path: str, format: str, options: ReadOptions) -> str | None:
    """The table beside an annotation file that its reader takes as well without being told of it; None for none.

    Raises: as `detect_format`, where the format is 'auto'.
    """
    entry = FORMATS.get(detect_format(path)[0] if format == "auto" else format)
    found = _load(entry.companion)(path, options) if entry and entry.companion else None
    return found if found is not None and files.exists(found) else None


def check(path: str, format: str, options: ReadOptions) -> None:
    """Raises where a format is unknown, cannot be at the path, or has no use for an option."""
    if format not in FORMATS:
        raise UsageError(f"Unknown annotation format {format!r}. {known_formats()}")
    entry = FORMATS[format]
    if not files.exists(path):
        raise AnnotationError(f"No annotation file at {path}. Give an existing file or folder.")
    if not (entry.is_folder if files.is_dir(path) else entry.is_file):
        is_, is_not = ("a folder", "a file") if files.is_dir(path) else ("a file", "a folder")
        raise AnnotationError(f"{path} is {is_}, but format {format!r} is {is_not}: {entry.summary}.")
    _check_options(format, entry.options, options)


def _check_options(format: str, own: tuple[str, ...], options: ReadOptions) -> None:
    used = (*_ANY_FORMAT, *own)
    set_ = [f.name for f in dataclasses.fields(options) if getattr(options, f.name) != f.default]
    if unused := [f"--{name}" for name in set_ if name not in used]:
        uses = ", ".join(f"--{name}" for name in own) or "none of its own"
        raise UsageError(f"Format {format!r} has no use for {', '.join(unused)}. Its options: {uses}.")
