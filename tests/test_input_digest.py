"""What a conversion depends on, file by file: where one of them changed, the dataset is no longer that of its input."""

import dataclasses
import os
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conversion_checks import labels_of

from tfr import conversion, input_digest
from tfr.annotations import ReadOptions
from tfr.errors import DatasetError


@pytest.mark.usefixtures("pets")
@pytest.mark.parametrize("field", ["labels_file", "label_map"])
def test_files_that_the_config_names_are_input_too(field, tmp_path, make_config):
    texts = {"labels_file": ("cat\ndog\nbird\n", "dog\ncat\nbird\n"), "label_map": ("from,to\ncat,kitten\n",) * 2}[
        field
    ]
    (tmp_path / "file").write_text(texts[0])
    config = make_config(**{field: str(tmp_path / "file")})
    conversion.convert(config)
    assert conversion.convert(config).reused
    (tmp_path / "file").write_text(texts[1].replace("kitten", "kitty"))
    with pytest.raises(DatasetError, match="the annotations, tables beside them or the list of images changed"):
        conversion.convert(config)


COMPANIONS = {
    "open_images": (
        "labels.csv", b"ImageID,Source,LabelName,Confidence\na,v,/m/1,1\n", "class-descriptions.csv",
        (b"/m/1,cat\n", b"/m/1,dog\n"),
    ),
    "pickles": (
        "all_y_labels.p", pickle.dumps({"a.jpg": [1.0]}), "classes_dict.p",
        (pickle.dumps({"cat": 0}), pickle.dumps({"dog": 0})),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name_format", [True, False], ids=["named", "auto"])
@pytest.mark.parametrize("format_", COMPANIONS)
def test_tables_that_a_reader_finds_beside_are_input_too(format_, name_format, tmp_path, write_photos, make_config):
    file, annotations, companion, (before, after) = COMPANIONS[format_]
    write_photos(["a.jpg"])
    (tmp_path / file).write_bytes(annotations)
    (tmp_path / companion).write_bytes(before)
    settings = {"format": format_} if name_format else {}
    config = make_config(annotations=str(tmp_path / file), read=ReadOptions(), num_shards=1, **settings)
    folder = conversion.convert(config).dataset_dir
    assert conversion.convert(config).reused
    (tmp_path / companion).write_bytes(after)
    with pytest.raises(DatasetError, match="the annotations, tables beside them or the list of images changed"):
        conversion.convert(config)
    assert conversion.convert(dataclasses.replace(config, overwrite=True)).dataset_dir == folder
    assert labels_of(folder) == {"a" if format_ == "open_images" else "a.jpg": ["dog"]}


def test_texts_in_a_folder_of_annotations_are_input_too(write_photos, make_config):
    folder = write_photos(["train/a.jpg", "train/b.jpg"])
    table = folder / "train" / "metadata.csv"
    table.write_text("file_name,labels\na.jpg,cat\nb.jpg,dog\n")
    config = make_config(annotations=str(folder), images=None, format="imagefolder", read=ReadOptions())
    conversion.convert(config)
    table.write_text("file_name,labels\na.jpg,dog\nb.jpg,cat\n")
    with pytest.raises(DatasetError, match="the annotations, tables beside them or the list of images changed"):
        conversion.convert(config)


_DIGEST = """
import pandas as pd
from tfr import api, input_digest
frame = pd.DataFrame({"image": ["a.jpg"], "labels": [set("abcdefgh")]})
print(input_digest.content_hash(api.make_config(frame, images="/nowhere", data_dir="d", name="n"), ()))
"""


def test_sets_in_a_frame_have_one_digest_in_every_process():
    found = {
        subprocess.run(
            [sys.executable, "-c", _DIGEST], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1


def test_long_arrays_in_a_frame_are_input_to_their_last_entry(make_config):
    labels = np.array([f"label {i}" for i in range(2000)])
    before = pd.DataFrame({"image": ["a.jpg"], "labels": [labels]})
    after = pd.DataFrame({"image": ["a.jpg"], "labels": [np.where(labels == "label 1000", "other", labels)]})
    hashes = {input_digest.content_hash(make_config(annotations=frame), ()) for frame in (before, after)}
    assert len(hashes) == 2
