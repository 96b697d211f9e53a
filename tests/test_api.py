"""The names at the top of the package."""

import pandas as pd
import pytest

import tfr
from tfr.errors import UsageError


def test_every_public_name_is_there():
    for name in tfr.__all__:
        assert getattr(tfr, name) is not None
        assert name in dir(tfr)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tfr.nothing


def test_import_tfr_is_light(run_python):
    code = "import sys, tfr; print([m for m in ('numpy', 'apache_beam', 'tensorflow', 'pandas') if m in sys.modules])"
    assert run_python("-c", code).stdout.strip() == "[]"


def test_a_frame_is_converted(write_photos, tmp_path):
    photos = write_photos([f"{i}.jpg" for i in range(12)])
    frame = pd.DataFrame({"file": [f"{i}.jpg" for i in range(12)], "tags": [["a"], ["a", "b"], []] * 4})
    where = {"images": str(photos), "data_dir": str(tmp_path / "data"), "name": "frame"}
    result = tfr.convert(frame, **where, label_columns=("tags",), image_size=16, split_ratios="train=1")
    assert (result.rows_read, result.records_written, result.num_labels) == (12, 12, 2)
    assert result.label_mode == "multi"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data_dir": "x", "name": "y", "labells": 3}, r"unknown options \['labells'\].*label_columns"),
        ({"data_dir": "x"}, r"missing options \['name'\]"),
        ({"data_dir": "x", "name": "Not Good"}, "--name must be lower-case"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(UsageError, match=message):
        tfr.convert("a.csv", **options)
