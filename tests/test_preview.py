"""`tfr preview`: a picture of the very batches that training would see, with captions that say what is in them."""

import json

import numpy as np
import pytest
from PIL import Image

from tfr import cli, config, conversion
from tfr.train import input_pipeline, previewing
from tfr.train.config import DataConfig


@pytest.fixture
def dataset(tmp_path, write_photos):
    photos = write_photos([f"{label}/{i}.jpg" for label in ("dusk", "noon") for i in range(6)])
    return conversion.convert(
        config.ConvertConfig(
            annotations=str(photos),
            data_dir=str(tmp_path / "data"),
            name="skies",
            split_ratios=config.splits.parse_ratios("train=1"),
        )
    ).dataset_dir


def test_the_command_draws_and_lists(dataset, tmp_path, capsys):
    output = tmp_path / "sheet.png"
    command = ["preview", dataset, "--augment=crop,mixup:1", "--num_images=12", "--image_size=64", "--seed=1", "--json"]
    assert cli.main([*command, f"--output={output}"]) == 0
    drawn = json.loads(capsys.readouterr().out)
    assert drawn["output"] == str(output)
    assert len(drawn["captions"]) == 12
    assert any(" 0." in caption for caption in drawn["captions"]), drawn
    assert Image.open(output).width > 300


def test_the_sheet_shows_the_first_batch_of_training(dataset, tmp_path):
    output = str(tmp_path / "sheet.png")
    chosen = DataConfig(dataset=dataset, batch_size=4, augment="flip,color_jitter")
    preview = previewing.draw_batches(chosen, image_size=200, seed=5, output=output)
    shape = input_pipeline.BatchShape(200, 4)
    builder = input_pipeline.open_dataset(dataset)
    batches = input_pipeline.for_training(builder, "train", shape, augment=chosen.augment, seed=5)
    images, targets = next(batches.as_numpy_iterator())
    sheet = np.asarray(Image.open(output))
    np.testing.assert_array_equal(sheet[8:208, 8:208], images[0])
    assert preview.captions == [("dusk", "noon")[int(target[1])] for target in targets]


def test_captions():
    names = ["cat", "dog", "owl", "yak"]
    assert previewing.caption(np.array([1, 0, -1, 0.25]), names) == "cat, owl?, yak 0.25"
    assert previewing.caption(np.array([0.999, 0.001, 0, 0]), names) == "cat"
    assert previewing.caption(np.zeros(4), names) == "(no labels)"


def test_a_wrong_augmentation_is_named(dataset, capsys):
    assert cli.main(["preview", dataset, "--augment=blur"]) == 2
    assert "unknown op 'blur'" in capsys.readouterr().err
