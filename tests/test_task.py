"""What a training run works on, before it works: its splits."""

import dataclasses

import pytest

from tfr import config, conversion
from tfr.train import input_pipeline, records, task
from tfr.train.config import DataConfig


@pytest.mark.parametrize("train_split", ["train+extra", "all"])
def test_each_of_several_splits_lends_its_own_last_tenth(tmp_path, write_photos, small_train_config, train_split):
    """What is validated on is nothing that is trained on."""
    photos = write_photos([f"{label}/{i:02}.jpg" for label in ("red", "cube") for i in range(40)])
    converted = conversion.convert(
        config.ConvertConfig(
            annotations=str(photos),
            data_dir=str(tmp_path / "data"),
            name="two",
            split_ratios=config.splits.parse_ratios("train=3,extra=1"),
        )
    )
    data = DataConfig(dataset=converted.dataset_dir, train_split=train_split, batch_size=8)
    prepared = task.prepare(small_train_config("", tmp_path / "run", data=data), "mobilenet_v2", writes=False)
    parts = prepared.train_split, prepared.validation_split
    assert [input_pipeline.num_examples(prepared.builder, part) for part in parts] == [72, 8]
    assert records.num_shared(prepared.builder, *parts) == 0


def test_validating_on_what_is_trained_on_is_told(drawn, tmp_path, small_train_config, capsys):
    data = DataConfig(dataset=drawn[0], batch_size=16, train_split="train[:60]+validation[5:]")
    mixed = small_train_config("", tmp_path, data=data)
    prepared = task.prepare(mixed, "mobilenet_v2", writes=False)
    total = input_pipeline.num_examples(prepared.builder, "validation")
    task.say_shared(prepared)
    said = f"tfr: {total - 5} of the {total} examples of --validation_split=validation are in --train_split=train[:60]"
    assert said in capsys.readouterr().err
    apart = dataclasses.replace(mixed, data=dataclasses.replace(data, train_split="train"))
    task.say_shared(task.prepare(apart, "mobilenet_v2", writes=False))
    assert capsys.readouterr().err == ""
