"""A new TFDS builder folder from the template in builder_template/."""

import csv
import datetime
import importlib.machinery
import io
import keyword
import os
import pathlib
import random
import re
import shutil
import string
import sys
import tempfile

from tfr import synthetic
from tfr.errors import UsageError

_TEMPLATE = pathlib.Path(__file__).parent / "builder_template"
_DUMMY_SPLITS = {"train": 6, "validation": 2, "test": 2}
_DUMMY_SIDE = 48  # pixels
# name in the new folder: name of its template
_FILES = {
    "{name}_dataset_builder.py": "builder.py.template",
    "{name}_dataset_builder_test.py": "test.py.template",
    "README.md": "README.md.template",
    "CITATIONS.bib": "CITATIONS.bib.template",
    "TAGS.txt": "TAGS.txt.template",
    "checksums.tsv": "checksums.tsv.template",
    "__init__.py": "init.py.template",
}


def write_builder(name: str, folder: str = ".") -> str:
    """Makes the folder of a new builder, with a sample in dummy_data/ and a test that passes as it stands.

    Args:
      name: of the dataset: lower-case letters, digits, underscores.
      folder: where the new folder is made.

    Returns:
      The path of the new folder, `<folder>/<name>`.

    Raises:
      UsageError: the name cannot be used, or is taken.
    """
    _check_name(name)
    target = os.path.join(folder, name)
    if os.path.lexists(target):
        raise UsageError(f"{target} is there already. Give another name, or another place with --dir.")
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder) as work:
        new = pathlib.Path(work, name)
        new.mkdir()
        for file_name, template in _FILES.items():
            text = (_TEMPLATE / template).read_text(encoding="utf-8")
            filled = string.Template(text).substitute(_fields(name))
            (new / file_name.format(name=name)).write_text(filled, encoding="utf-8")
        _write_dummy_data(new / "dummy_data")
        shutil.move(new, target)
    return target


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise UsageError(f"A builder's name must be lower-case letters, digits and '_'. Received: {name!r}")
    found = importlib.machinery.PathFinder.find_spec(name)
    if name in sys.stdlib_module_names or (found is not None and found.has_location):  # a mere folder is no module
        raise UsageError(
            f"Python has a module called {name!r} already, which it would find instead. Give another name."
        )
    import tensorflow_datasets as tfds

    if name in tfds.list_builders(with_community_datasets=False):
        raise UsageError(f"TFDS has a builder called {name!r} already. Give another name.")


def _fields(name: str) -> dict[str, str]:
    words = name.split("_")
    return {
        "name": name,
        "title": " ".join(words).strip().capitalize(),
        "class_name": "".join(word.capitalize() for word in words),
        "labels": "".join(f'    "{label}",\n' for label in synthetic.LABELS),
        "num_labels": str(len(synthetic.LABELS)),
        "splits": ", ".join(f'"{split}": {count}' for split, count in _DUMMY_SPLITS.items()),
        "year": str(datetime.date.today().year),
    }


def _write_dummy_data(folder: pathlib.Path) -> None:
    """A few small drawings with their annotations."""
    images = folder / "images"
    images.mkdir(parents=True)
    rng = random.Random(0)
    rows = [["image", "tags", "split"]]
    splits = [split for split, count in _DUMMY_SPLITS.items() for _ in range(count)]
    for number, split in enumerate(splits):
        image, labels = synthetic.draw_example(rng)
        image_name = f"dummy_{number}.jpg"
        image.resize((_DUMMY_SIDE, _DUMMY_SIDE)).save(images / image_name, quality=85)
        rows.append([image_name, "|".join(labels), split])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    (folder / "annotations.csv").write_text(text.getvalue(), encoding="utf-8")
