"""A file of each annotation format, and the rows that are to be read from it."""

import json
import pathlib
import pickle

import numpy as np
import pandas as pd

from tfr.annotations import Annotation

VOC_XML = """<annotation><folder>VOC2012</folder><filename>{name}.jpg</filename>
<source><annotation>PASCAL VOC</annotation></source>{objects}</annotation>"""
CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><labels>
<label><name>cat</name><type>tag</type></label><label><name>box only</name><type>rectangle</type></label>
</labels></task></meta>
<image id="0" name="a.jpg" subset="Train" width="6" height="4"><tag label="cat" source="manual"></tag></image>
<image id="1" name="b.jpg" subset="default" width="6" height="4"></image></annotations>"""
VIA_HEADER = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
JSONL_ROWS = [
    {"image": "a.jpg", "labels": ["sky", "sea"], "split": "train"},
    {"image": "b.jpg", "labels": [], "split": "test"},
    {"image": "c.jpg", "labels": None},
]
_CHOICE = {"from_name": "c", "to_name": "i", "type": "choices", "value": {"choices": ["cat", "dog"]}}
_CANCELLED = {"was_cancelled": True, "result": [{**_CHOICE, "value": {"choices": ["wrong"]}}]}
_BOX = {"type": "rectanglelabels", "value": {"rectanglelabels": ["box"]}}
LABEL_STUDIO = [
    {"data": {"image": "/data/upload/3/a.jpg"}, "annotations": [_CANCELLED, {"result": [_BOX, _CHOICE]}]},
    {"data": {"image": "/data/local-files/?d=in/b.jpg"}, "completions": [{"was_cancelled": False, "result": []}]},
    {"data": {"image": "/data/upload/3/c.jpg"}, "annotations": [_CANCELLED]},
]
LABELBOX = {
    "data_row": {"id": "x", "external_id": "a.jpg"},
    "projects": {
        "p1": {
            "labels": [
                {
                    "performance_details": {"skipped": False},
                    "annotations": {
                        "objects": [],
                        "classifications": [
                            {"name": "kinds", "checklist_answers": [{"name": "Cat", "value": "cat"}, {"name": "dog"}]},
                            {"name": "time", "radio_answer": {"name": "Day", "value": "day"}},
                        ],
                    },
                }
            ]
        }
    },
}
VERTEX = {
    "imageGcsUri": "gs://bucket/in/a.jpg",
    "classificationAnnotations": [{"displayName": "daisy"}, {"displayName": "full_shot"}],
    "dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": "training"},
}
COCO = {
    "info": {},
    "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}],
    "annotations": [{"image_id": 7, "category_id": category} for category in (3, 3, 1)],
    "categories": [{"id": 1, "name": "cat"}, {"id": 3, "name": "car"}],
}  # fmt: skip


def _lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def _frame_bytes(path: pathlib.Path, rows):
    pd.DataFrame(rows).to_parquet(path)
    return path.read_bytes()


def _voc(name, *objects):
    parts = [f"<object><name>{label}</name><difficult>{hard}</difficult></object>" for label, hard in objects]
    return VOC_XML.format(name=name, objects="".join(parts))


# case: (files, path below the folder, format, options, {id: (labels, unknown, absent, split)})
CASES = {
    "csv, one column": (
        {"a.csv": "image_path,label\na.jpg,cat\nb.jpg,dog\n"}, "a.csv", "csv", {},
        {"a.jpg": (("cat",), (), None, None), "b.jpg": (("dog",), (), None, None)},
    ),
    "csv, list literal and id": (
        {"a.csv": "Id,Genre,Action\ntt01,\"['Comedy', 'Drama']\",0\ntt02,[],1\n"}, "a.csv", "csv", {},
        {"tt01": (("Comedy", "Drama"), (), None, None), "tt02": ((), (), None, None)},
    ),
    "csv, one-hot with a hole": (
        {"a.csv": "Id,x,y,z\ntt01,1,0,\ntt02,0,1.0,true\n"}, "a.csv", "csv", {"label_columns": ("x:z",)},
        {"tt01": (("x",), ("z",), None, None), "tt02": (("y", "z"), (), None, None)},
    ),
    "csv, several columns of text": (
        {"a.csv": "Id,t1,t2\ntt01,sea,sky\ntt02,sea,sea\n"}, "a.csv", "csv", {"label_columns": ("t1", "t2")},
        {"tt01": (("sea", "sky"), (), None, None), "tt02": (("sea",), (), None, None)},
    ),
    "csv, where, split and columns": (
        {"a.csv": "file,kind,type,part\na.jpg,x,product,TRAIN\nb.jpg,y,pattern,TEST\n"}, "a.csv", "csv",
        {"label_columns": ("kind",), "where": "type == 'product'", "split_column": "part"},
        {"a.jpg": (("x",), (), None, "TRAIN")},
    ),
    "tsv": (
        {"a.tsv": "image\tlabels\na.jpg\tx, y\n"}, "a.tsv", "tsv", {"label_delimiter": ", "},
        {"a.jpg": (("x", "y"), (), None, None)},
    ),
    "jsonl": (
        {"a.jsonl": _lines(*JSONL_ROWS)}, "a.jsonl", "jsonl", {"split_column": "split"},
        {"a.jpg": (("sky", "sea"), (), None, "train"), "b.jpg": ((), (), None, "test"), "c.jpg": ((), (), (), None)},
    ),
    "json, annotation list": (
        {"annotations.json": json.dumps([{"image": "im1.jpg", "annotation": ["sky", "water"]}])}, "annotations.json",
        "json", {}, {"im1.jpg": (("sky", "water"), (), None, None)},
    ),
    "json, samples": (
        {"s.json": json.dumps([{"image_id": "a.jpg", "label": "Cat"}])}, "s.json", "json", {},
        {"a.jpg": (("Cat",), (), None, None)},
    ),
    "json, object": (
        {"s.json": json.dumps({"a.jpg": ["x", "y"], "b.jpg": []})}, "s.json", "json", {},
        {"a.jpg": (("x", "y"), (), None, None), "b.jpg": ((), (), None, None)},
    ),
    "parquet": (
        {"a.parquet": lambda path: _frame_bytes(path, {"image": ["a.jpg"], "labels": [["x", "y"]]})}, "a.parquet",
        "parquet", {}, {"a.jpg": (("x", "y"), (), None, None)},
    ),
    "folders": (
        {"d/cat/a.jpg": "", "d/dog/deep/b.jpg": ""}, "d", "folders", {},
        {"cat/a.jpg": (("cat",), (), None, None), "dog/deep/b.jpg": (("dog",), (), None, None)},
    ),
    "folders below splits": (
        {"d/train/cat/a.jpg": "", "d/val/dog/b.jpg": ""}, "d", "folders", {},
        {"train/cat/a.jpg": (("cat",), (), None, "train"), "val/dog/b.jpg": (("dog",), (), None, "val")},
    ),
    "filenames": (
        {"d/cat+wet_01.jpg": "", "d/dog_02.jpg": ""}, "d", "filenames",
        {"filename_template": "{label}_{}.jpg", "label_delimiter": "+"},
        {"cat+wet_01.jpg": (("cat", "wet"), (), None, None), "dog_02.jpg": (("dog",), (), None, None)},
    ),
    "filenames with fields": (
        {"d/train/g1-cat.png": ""}, "d", "filenames", {"filename_template": "{split}/{group}-{label}.png"},
        {"train/g1-cat.png": (("cat",), (), None, "train")},
    ),
    "mirflickr, potential": (
        {"d/sky.txt": "1\n2\n", "d/baby.txt": "2\n", "d/baby_r1.txt": "2\n", "d/README.txt": "7\n"}, "d", "mirflickr",
        {}, {"im1.jpg": (("sky",), (), None, None), "im2.jpg": (("baby", "sky"), (), None, None)},
    ),
    "mirflickr, all": (
        {"d/sky.txt": "1\r\n", "d/sky_r1.txt": "1\r\n"}, "d", "mirflickr", {"mirflickr_labels": "all"},
        {"im1.jpg": (("sky", "sky_r1"), (), None, None)},
    ),
    "mirflickr, salient": (
        {"d/sky.txt": "1\n2\n3\n", "d/sky_r1.txt": "1\n", "d/sea.txt": "3\n"}, "d", "mirflickr",
        {"mirflickr_labels": "salient"},
        {"im1.jpg": (("sky",), (), None, None), "im2.jpg": ((), ("sky",), None, None),
         "im3.jpg": ((), ("sky",), None, None)},
    ),
    "pickles": (
        {"d/meta/all_y_labels.p": pickle.dumps({"War/a.jpg": np.array([1.0, 0.0, np.nan])}),
         "d/meta/classes_dict.p": pickle.dumps({"War": 0, "Drama": 1, "Sport": 2}),
         "d/images/validation/War/a.jpg": ""},
        "d", "pickles", {"images": "d"}, {"War/a.jpg": (("War",), ("Sport",), None, "validation")},
    ),
    "automl csv": (
        {"a.csv": "TRAIN,gs://b/in/a.jpg,daisy,rose\nUNASSIGNED,gs://b/in/b.jpg,daisy\n"}, "a.csv", "automl_csv", {},
        {"in/a.jpg": (("daisy", "rose"), (), None, "TRAIN"), "in/b.jpg": (("daisy",), (), None, None)},
    ),
    "automl csv with a header": (
        {"a.csv": "split,image_uri,label\nTEST,a.jpg,daisy\n"}, "a.csv", "automl_csv", {},
        {"a.jpg": (("daisy",), (), None, "TEST")},
    ),
    "vertex csv": (
        {"a.csv": "training,gs://b/a.jpg,daisy,rose\ngs://b/b.jpg,rose\ngs://b/c.jpg\n"}, "a.csv", "vertex_csv", {},
        {"a.jpg": (("daisy", "rose"), (), None, "training"), "b.jpg": (("rose",), (), None, None),
         "c.jpg": ((), (), (), None)},
    ),
    "vertex jsonl": (
        {"a.jsonl": _lines(VERTEX, {"imageGcsUri": "gs://bucket/b.jpg"},
                           {"imageGcsUri": "gs://bucket/c.jpg", "classificationAnnotation": {"displayName": "x"}})},
        "a.jsonl", "vertex_jsonl", {},
        {"in/a.jpg": (("daisy", "full_shot"), (), None, "training"), "b.jpg": ((), (), (), None),
         "c.jpg": (("x",), (), None, None)},
    ),
    "coco": (
        {"a.json": json.dumps(COCO)}, "a.json", "coco", {},
        {"a.jpg": (("car", "cat"), (), None, None), "b.jpg": ((), (), None, None)},
    ),
    "coco, lvis": (
        {"a.json": json.dumps({
            **COCO, "images": [{"id": 7, "coco_url": "http://h/val/a.jpg", "neg_category_ids": [1]}],
            "annotations": [{"image_id": 7, "category_id": 3}]})},
        "a.json", "coco", {}, {"a.jpg": (("car",), (), ("cat",), None)},
    ),
    "voc": (
        {"d/Annotations/a.xml": _voc("a", ("cat", 0), ("cat", 1), ("dog", 1)), "d/JPEGImages/a.jpg": ""}, "d", "voc",
        {"images": "d"}, {"a.jpg": (("cat",), ("dog",), None, None)},
    ),
    "voc lists": (
        {"d/ImageSets/Main/cat_train.txt": "2008_1  1\n2008_2 -1\n2008_3  0\n",
         "d/ImageSets/Main/dog_train.txt": "2008_1 -1\n2008_2  1\n",
         "d/ImageSets/Main/dog_trainval.txt": "2008_2  1\n", "d/ImageSets/Main/train.txt": "2008_1\n"},
        "d", "voc_sets", {},
        {"2008_1": (("cat",), (), None, "train"), "2008_2": (("dog",), (), None, "train"),
         "2008_3": ((), ("cat", "dog"), None, "train")},
    ),
    "open images": (
        {"labels.csv": "ImageID,Source,LabelName,Confidence\na1,verification,/m/01,1\na1,verification,/m/02,0\n"
                       "a1,machine,/m/03,0.7\nb2,verification,/m/02,1\n",
         "class-descriptions.csv": '/m/01,Room\n/m/02,"Cat, big"\n'},
        "labels.csv", "open_images", {},
        {"a1": (("Room",), ("/m/03",), ("Cat, big",), None), "b2": (("Cat, big",), (), (), None)},
    ),
    "imagefolder": (
        {"d/train/metadata.jsonl": _lines({"file_name": "a.jpg", "labels": ["x"]}),
         "d/test/metadata.csv": "file_name,labels\nsub/b.jpg,y\n"},
        "d", "imagefolder", {},
        {"test/sub/b.jpg": (("y",), (), None, "test"), "train/a.jpg": (("x",), (), None, "train")},
    ),
    "imagefolder, one file": (
        {"metadata.csv": "file_name,label\na.jpg,x\n"}, "metadata.csv", "imagefolder", {},
        {"a.jpg": (("x",), (), None, None)},
    ),
    "label studio": (
        {"a.json": json.dumps(LABEL_STUDIO)}, "a.json", "label_studio", {},
        {"a.jpg": (("cat", "dog"), (), None, None), "in/b.jpg": ((), (), None, None), "c.jpg": ((), (), (), None)},
    ),
    "cvat": (
        {"a.xml": CVAT}, "a.xml", "cvat", {},
        {"a.jpg": (("cat",), (), None, "Train"), "b.jpg": ((), (), None, None)},
    ),
    "roboflow": (
        {"d/train/_classes.csv": "filename, cat, dog\na.jpg, 1, 0\n",
         "d/valid/_classes.csv": "filename, cat, dog\nb.jpg,0,1\n"},
        "d", "roboflow", {},
        {"train/a.jpg": (("cat",), (), None, "train"), "valid/b.jpg": (("dog",), (), None, "valid")},
    ),
    "labelbox": (
        {"a.ndjson": _lines(LABELBOX, {"data_row": {"row_data": "https://h/p/b%20c.jpg"}, "projects": {}})}, "a.ndjson",
        "labelbox", {}, {"a.jpg": (("cat", "dog", "day"), (), None, None), "b c.jpg": ((), (), (), None)},
    ),
    "via 2 csv": (
        {"a.csv": VIA_HEADER + 'a.jpg,12,"{""tag"":{""sky"":true},""caption"":""no label""}",2,0,"{}","{}"\n'
                  'a.jpg,12,"{""tag"":{""sky"":true}}",2,1,"{}","{}"\nb.jpg,12,"{}",0,0,"{}","{}"\n'},
        "a.csv", "via_csv", {}, {"a.jpg": (("sky",), (), None, None), "b.jpg": ((), (), (), None)},
    ),
    "via 1 csv": (
        {"a.csv": "#" + VIA_HEADER + 'a.jpg,12,"{""place"":""beach""}",0,0,"{}","{}"\n'}, "a.csv", "via_csv", {},
        {"a.jpg": (("beach",), (), None, None)},
    ),
    "via project": (
        {"a.json": json.dumps({
            "_via_settings": {}, "_via_attributes": {"file": {"tag": {"type": "checkbox", "options": {"sky": "Sky"}}}},
            "_via_img_metadata": {"a.jpg12": {"filename": "a.jpg", "size": 12, "regions": [],
                                              "file_attributes": {"tag": {"sky": True, "sea": False}}}}})},
        "a.json", "via_json", {}, {"a.jpg": (("sky",), (), None, None)},
    ),
}  # fmt: skip


def write(path: pathlib.Path, content) -> pathlib.Path:
    """Writes text, bytes, or what a function of the path gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if callable(content):
        content(path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content, encoding="utf-8", newline="")
    return path


def rows_of(events):
    """{id: (labels, unknown, absent, split)} of the annotations."""
    return {e.id: (e.labels, e.unknown, e.absent, e.split) for e in events if isinstance(e, Annotation)}
