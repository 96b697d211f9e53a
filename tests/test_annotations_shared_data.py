"""The real samples beside the checkout: rows, labels and splits of each."""

import collections

import pytest

from tfr import annotations
from tfr.annotations import Annotation, ReadOptions, RejectedRow

# case: (path, options, format, rows, labels that occur, rows with unknown labels, splits)
CASES = {
    "posters, list literal": ("movie_posters/train.csv", {}, "csv", 3100, 22, 0, {None: 3100}),
    "posters, one-hot": (
        "movie_posters/train.csv", {"label_columns": ("Action:Western",)}, "csv", 3100, 22, 0, {None: 3100},
    ),
    "decor": (
        "decor/decor.csv", {"label_columns": ("decor",), "where": "type == 'product'"}, "csv", 285, 7, 0, {None: 285},
    ),
    "mirflickr, potential": ("mirflickr_sample", {"images": "mirflickr_sample"}, "mirflickr", 300, 20, 0, {None: 300}),
    "mirflickr, all": (
        "mirflickr_sample/annotations", {"mirflickr_labels": "all", "images": "mirflickr_sample/mirflickr"},
        "mirflickr", 300, 34, 0, {None: 300},
    ),
    "mirflickr, salient": (
        "mirflickr_sample/annotations", {"mirflickr_labels": "salient"}, "mirflickr", 300, 14, 214, {None: 300},
    ),
    "mirflickr, tags": (
        "mirflickr_sample/annotations", {"mirflickr_labels": "tags", "images": "mirflickr_sample/mirflickr"},
        "mirflickr", 300, 20, 0, {None: 300},
    ),
    "pickles": (
        "pickles_sample/data", {"images": "pickles_sample/data/images"}, "pickles", 120, 20, 0,
        {"train": 96, "validation": 24},
    ),
    "folders": ("pickles_sample/data/images", {}, "folders", 120, 12, 0, {"train": 96, "validation": 24}),
    "json, annotation": ("json_samples/annotations.json", {}, "json", 400, 21, 0, {None: 400}),
    "json, label": ("json_samples/samples.json", {}, "json", 400, 15, 0, {None: 400}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_counts(shared_data, case):
    path, options, format_, num_rows, num_labels, num_unknown, splits = case
    options = {**options, "images": str(shared_data / options["images"])} if "images" in options else options
    assert annotations.detect_format(str(shared_data / path))[0] == format_
    events = list(annotations.read(shared_data / path, options=ReadOptions(**options)))
    rows = [event for event in events if isinstance(event, Annotation)]
    assert not [event for event in events if isinstance(event, RejectedRow)]
    assert len(rows) == num_rows
    assert len({label for row in rows for label in row.labels}) == num_labels
    assert sum(bool(row.unknown) for row in rows) == num_unknown
    assert collections.Counter(row.split for row in rows) == splits


def test_list_literals_and_flags_agree(shared_data):
    path = shared_data / "movie_posters" / "train.csv"
    by_text, by_flag = (
        {row.id: set(row.labels) for row in annotations.read(path, options=options) if isinstance(row, Annotation)}
        for options in (ReadOptions(), ReadOptions(label_columns=("Action:Western",)))
    )
    assert by_text == by_flag
