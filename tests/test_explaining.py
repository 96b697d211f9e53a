"""`tfr explain`: maps end up on the right place of the original image, and files where the command says they are."""

import json
import os
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfr import cli, dataset_dir
from tfr.train import preprocessing as pp
from tfr.train import run_dir
from tfr.train.explaining import check, drawing, explain
from tfr.train.explaining.config import METHODS

SHAPES = [(120, 60), (60, 120), (97, 143), (64, 64), (31, 90)]


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_a_map_goes_back_to_where_the_model_saw_it(height, width, resize, encode):
    """A light spot in an image, as the model sees it, is taken for a map: it has to lie on the spot again."""
    row, column = height // 2 + min(height, width) // 6, width // 2 - min(height, width) // 6
    image = np.zeros((height, width, 3), np.uint8)
    image[row - 4 : row + 4, column - 4 : column + 4] = 255
    data = tf.constant(encode(Image.fromarray(image), "PNG"))
    seen = pp.get_image(64, resize)({"image": data})["image"].numpy()[..., 0].astype(np.float32)
    back = drawing.onto_original(seen, height, width, resize)
    assert (back.dtype, back.shape) == (np.float32, (height, width))
    heat = np.nan_to_num(back)
    center = (heat.sum(1) @ np.arange(height) / heat.sum(), heat.sum(0) @ np.arange(width) / heat.sum())
    np.testing.assert_allclose(center, (row - 0.5, column - 0.5), atol=0.7)
    assert heat.sum() == pytest.approx(image[..., 0].sum(), rel=0.15)  # neither stretched nor shrunk


def test_what_a_crop_cuts_off_is_unseen():
    back = drawing.onto_original(np.ones((8, 8), np.float32), 6, 10, "crop")
    np.testing.assert_array_equal(np.isnan(back).all(axis=0), [True, True, *[False] * 6, True, True])
    drawn = np.asarray(drawing.overlay(Image.new("RGB", (10, 6), (200, 100, 0)), back[:, 2:8], "crop"))
    assert len(np.unique(drawn[:, :2].reshape(-1, 3), axis=0)) == 1
    assert len(set(drawn[0, 0].tolist())) == 1  # grey
    assert drawn[0, 0, 0] < 60
    assert len(set(drawn[0, 5].tolist())) == 3


def test_a_map_of_zeros_leaves_the_picture_as_it_is(make_photo):
    photo = make_photo(3, (50, 30))
    drawn = drawing.overlay(photo, np.zeros((16, 16), np.float32), "squash")
    np.testing.assert_array_equal(np.asarray(drawn), np.asarray(photo))


@pytest.mark.parametrize(("size", "expected"), [((3000, 1500), (768, 384)), ((40, 80), (160, 320)), ((500, 400),) * 2])
def test_pictures_keep_their_aspect_ratio(size, expected, make_photo, encode):
    assert drawing.open_picture(encode(make_photo(0, size))).size == expected


def test_files_are_explained_upright_and_bad_ones_named(trained_run, make_photo, encode, tmp_path, capsys):
    folder, output = tmp_path / "loose", tmp_path / "new" / "out"
    for name in ("a/photo.jpg", "b/photo.jpg"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(encode(make_photo(len(name), (90, 60))))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    make_photo(5, (90, 60)).save(folder / "turned.jpg", exif=exif)
    (folder / "broken.jpg").write_bytes(b"nothing")
    flags = [f"--image={folder}", f"--image={folder / 'gone.png'}", f"--output={output}"]
    assert cli.main(["explain", trained_run, *flags, "--method=both", "--steps=2", "--top_k=2", "--json"]) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = [os.path.relpath(item["image"], folder) for item in shown]
    assert names == ["a/photo.jpg", "b/photo.jpg", "broken.jpg", "turned.jpg", "gone.png"]
    assert [item["error"] is None for item in shown] == [True, True, False, True, False]
    assert "not_an_image" in shown[2]["error"]
    assert "no such file" in shown[4]["error"]
    assert [os.path.basename(item["sheet"]) for item in shown if item["sheet"]] == [
        "photo.png", "photo-2.png", "turned.png",
    ]  # fmt: skip
    for item, size in ((shown[0], (320, 213)), (shown[3], (213, 320))):
        assert [one["method"] for one in item["maps"]] == ["grad_cam"] * 2 + ["integrated_gradients"] * 2
        assert {Image.open(one["path"]).size for one in item["maps"]} == {size}
        assert item["maps"][0]["probability"] >= item["maps"][1]["probability"]
        sheet = Image.open(item["sheet"])
        assert sheet.width > 3 * 320 > sheet.height - 320
    assert len(os.listdir(output / "maps")) == 3 * 4
    assert [one["completeness_error"] is None for one in shown[0]["maps"]] == [True, True, False, False]
    assert {one["label"] for one in shown[0]["maps"]} <= set(run_dir.load(trained_run).labels)


def test_examples_of_a_dataset_by_id_and_labels_by_name(drawn, trained_run, tmp_path, capsys):
    examples = list(dataset_dir.read_split(dataset_dir.open_builder(drawn[0]), "validation"))[:3:2]
    ids = [example["id"].decode() for example in examples][::-1]
    flags = [*(f"--id={name}" for name in ids), "--split=validation", "--label=star", "--label=red"]
    assert cli.main(["explain", trained_run, *flags, f"--output={tmp_path}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in (lines[0], lines[3])] == ids
    assert [line.split()[0] for line in lines[1:3]] == ["star", "red"]
    assert Image.open(lines[1].split()[-1]).size == (320, 320)


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--output=x"], 2, "at least one --image or --id"),
        (["--image=a.jpg"], 2, "--output is required"),
        (["--image=a.jpg", "--output=x", "--label=rde"], 2, "Did you mean 'red'.*Its 9 labels"),
        (["--id=unheard", "--split=test", "--output=x"], 1, "split 'test' has no example with the id 'unheard'"),
        (["--image=a.jpg", "--output=x"], 1, "None of the 1 images could be read"),
    ],
)
def test_wrong_calls_are_explained(trained_run, tmp_path, monkeypatch, capsys, flags, code, message):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["explain", trained_run, *flags]) == code
    assert re.search(message, capsys.readouterr().err)


def test_the_sanity_check_prints_a_row_a_stage(trained_run, capsys):
    run = run_dir.load(trained_run)
    pixels = explain.first_pixels(run, "validation", 3)
    assert (pixels.dtype, pixels.shape) == (np.uint8, (3, 64, 64, 3))
    stages = check.sanity_check(run, pixels, cascade=False)
    text = check.text(stages, METHODS[0])
    assert f"{stages[0].rank_correlation:.3f}" in text
    assert cli.main(["explain", trained_run, "--sanity_check", "--num_examples=3", "--nocascade", "--json"]) == 0
    assert [row["randomized"] for row in json.loads(capsys.readouterr().out)["grad_cam"]] == ["head"]
