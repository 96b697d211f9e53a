"""Telling the format of an annotation file or folder from its content and name."""

import json
import posixpath
import re
from collections.abc import Iterator
from typing import Any

from tfr import files
from tfr.annotations import imagefolder_reader, mirflickr_reader, text_files, voc_lists
from tfr.annotations.csv_reader import guess_delimiter
from tfr.annotations.imagefolder_reader import CLASSES_FILE, METADATA_FILES
from tfr.annotations.pickle_files import find_labels, is_pickle
from tfr.annotations.vertex_reader import ML_USES
from tfr.errors import AnnotationError

Candidate = tuple[str, str]  # a format's name, and why it may be the one

_HEAD_BYTES = 1 << 16
_LINES = 20  # lines of a JSONL file to look for an object in
_MAX_FOLDERS = 50  # folders to look for a dataset directory in


def candidates(path: str) -> list[Candidate]:
    """The formats that a path may hold; the caller makes an error of none or several.

    Raises:
      AnnotationError: the file is empty, or the folder holds an annotation file that has to be named itself.
    """
    return list(_in_folder(path)) if files.is_dir(path) else list(_in_file(path))


def _in_folder(path: str) -> Iterator[Candidate]:
    found = list(_special_folder(path))
    if found:
        yield from found
        return
    names = files.list_names(path)
    folder = next((name for name in names if name.endswith("/") and _has_image(files.join(path, name))), None)
    if folder:
        yield "folders", f"images lie in folders such as {folder}"
        return
    tables = [
        name for name in names if name.endswith((".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".xml"))
    ]
    if tables:
        raise AnnotationError(
            f"{path} is a folder. Give the annotation file in it, e.g. {files.join(path, tables[0])}."
        )


def _special_folder(path: str) -> Iterator[Candidate]:
    names = files.list_names(path)
    if _has_dataset(path, names):
        yield "tfds", "there is a dataset_info.json"
    if tables := imagefolder_reader.find_tables(path, METADATA_FILES):
        yield "imagefolder", f"there is {tables[0]}"
    if tables := imagefolder_reader.find_tables(path, (CLASSES_FILE,)):
        yield "roboflow", f"there is {tables[0]}"
    if mirflickr_reader.find_lists(path):
        yield "mirflickr", "there are <label>_r1.txt files"
    if labels := find_labels(path):
        yield "pickles", f"there is {labels}"
    if voc_lists.find_class_lists(path):
        yield "voc_sets", "there are <class>_<split>.txt lists; --format=voc reads the XML files instead"
    elif xml := _voc_xml(path, names):
        yield "voc", f"there is {xml}"


def _has_dataset(path: str, names: list[str]) -> bool:
    """Whether a dataset_info.json lies in the folder or up to two levels below."""
    if "dataset_info.json" in names:
        return True
    folders = [files.join(path, name) for name in names if name.endswith("/")][:_MAX_FOLDERS]
    for folder in folders:
        inner = files.list_names(folder)
        versions = [name for name in inner if re.fullmatch(r"\d+\.\d+\.\d+/", name)]
        if "dataset_info.json" in inner or any(files.exists(f"{folder}{v}dataset_info.json") for v in versions):
            return True
    return False


def _voc_xml(path: str, names: list[str]) -> str | None:
    """An XML file of VOC's in the folder or in its Annotations/."""
    inner = (
        [f"Annotations/{n}" for n in files.list_names(files.join(path, "Annotations"))]
        if "Annotations/" in names
        else []
    )
    first = next((name for name in (*inner, *names) if name.lower().endswith(".xml")), None)
    if first is None or b"<annotation>" not in text_files.read_head(files.join(path, first), 4096):
        return None
    return first


def _has_image(folder: str) -> bool:
    return next(files.list_images(folder), None) is not None


def _in_file(path: str) -> Iterator[Candidate]:
    head = text_files.read_head(path, _HEAD_BYTES)
    name = posixpath.basename(path)
    if not head.strip():
        raise AnnotationError(f"{path}: the file is empty.")
    if head.startswith(b"PAR1"):
        yield ("imagefolder", f"it is called {name}") if name in METADATA_FILES else ("parquet", "it starts with PAR1")
    elif is_pickle(head):
        yield "pickles", "it starts like a pickle"
    else:
        encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        text = head.decode(encoding, errors="replace")
        start = text.lstrip()[:1]
        if "\0" in text:
            return
        sniff = _in_xml if start == "<" else _in_json if start in ("{", "[") else _in_csv
        yield from sniff(path, name, text)


def _in_xml(path: str, name: str, text: str) -> Iterator[Candidate]:
    del path, name
    root = re.search(
        r"<([A-Za-z_]\w*)", re.sub(r"<!--.*?-->|<!DOCTYPE[^>\[]*(\[.*?\])?\s*>|<\?.*?\?>", "", text, flags=re.S)
    )
    if root and root[1] == "annotations":
        yield "cvat", "its root is <annotations>"
    elif root and root[1] == "annotation":
        yield "voc", "its root is <annotation>"


def _in_json(path: str, name: str, text: str) -> Iterator[Candidate]:
    lines = [line for line in text.splitlines()[:_LINES] if line.strip()]
    objects = [value for value in map(_parsed, lines) if isinstance(value, dict)]
    by_name = name.lower().endswith((".jsonl", ".ndjson"))
    if objects and (by_name or len(objects) > 1):
        yield _of_lines(set(objects[0]), name)
    elif by_name:
        yield "jsonl", f"it is called {name}"
    elif text.lstrip()[0] == "[":
        yield _of_list(text)
    else:
        yield from _of_object(path, text)


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _of_lines(keys: set[str], name: str) -> Candidate:
    if "imageGcsUri" in keys:
        return "vertex_jsonl", "its lines have 'imageGcsUri'"
    if "data_row" in keys:
        return "labelbox", "its lines have 'data_row'"
    if name in METADATA_FILES and "file_name" in keys:
        return "imagefolder", f"it is called {name} and has 'file_name'"
    return "jsonl", "each line is a JSON object"


def _of_list(text: str) -> Candidate:
    """Label Studio has tasks with 'data'; everything else is a plain list of objects."""
    is_task = re.search(r'"data"\s*:\s*\{', text) and re.search(
        r'"(annotations|completions|predictions)"\s*:\s*\[', text
    )
    return (
        ("label_studio", "it lists tasks with 'data' and 'annotations'") if is_task else ("json", "it is a JSON list")
    )


def _of_object(path: str, text: str) -> Iterator[Candidate]:
    text += _tail(path)  # keys may come after a long list
    lists = [key for key in ("images", "annotations", "categories") if re.search(rf'"{key}"\s*:\s*\[', text)]
    if '"_via_img_metadata"' in text or ('"file_attributes"' in text and '"regions"' in text):
        yield "via_json", "it has 'file_attributes' and 'regions'"
    elif len(lists) > 1:
        yield "coco", f"it has {' and '.join(map(repr, lists))}"
    elif '"data_row"' in text:
        yield "labelbox", "it has 'data_row'"
    elif '"imageGcsUri"' in text:
        yield "vertex_jsonl", "it has 'imageGcsUri'"
    elif re.match(r'\s*\{\s*"[^"]*"\s*:\s*(\[|"|null)', text):
        yield "json", "it maps names to labels"


def _tail(path: str) -> str:
    with files.open_binary(path) as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - _HEAD_BYTES))
        return file.read().decode("utf-8", errors="replace")


def _in_csv(path: str, name: str, text: str) -> Iterator[Candidate]:
    del path
    lines = [line for line in text.splitlines() if line.strip()]
    delimiter = guess_delimiter(lines[0])
    cells = [cell.strip().strip('"').strip() for cell in lines[0].split(delimiter)]
    lower = [cell.lower().lstrip("#").strip() for cell in cells]
    if name == CLASSES_FILE:
        yield "roboflow", f"it is called {name}"
    elif {"imageid", "labelname", "confidence"} <= set(lower):
        yield "open_images", "it has the columns ImageID, LabelName and Confidence"
    elif {"filename", "file_attributes"} <= set(lower):
        yield "via_csv", "it has the columns filename and file_attributes"
    elif name in METADATA_FILES and "file_name" in lower:
        yield "imagefolder", f"it is called {name} and has 'file_name'"
    elif {"split", "image_uri", "label"} <= set(lower) or (cells[0] and cells[0].isupper() and _names_ml_use(cells)):
        yield "automl_csv", f"its first line starts with {cells[0]}"
    elif _names_ml_use(cells) or any(map(_names_image, cells[:2])):
        yield "vertex_csv", "its first line is no header: it names an image"
    elif name.lower().endswith(".tsv"):
        yield "tsv", f"it is called {name}"
    elif name.lower().endswith((".csv", ".txt")) or len(cells) > 1:
        yield "csv", f"its first line names {len(cells)} columns"


def _names_ml_use(cells: list[str]) -> bool:
    return len(cells) > 1 and cells[0].lower() in ML_USES and _names_image(cells[1])


def _names_image(cell: str) -> bool:
    return files.is_image_name(cell) or cell.startswith(("gs://", "s3://", "http://", "https://"))
