"""What is chosen where flags leave it open: within bounds, by the facts, and never against a flag."""

import dataclasses

import pytest

from tfr.train import automatic
from tfr.train.config import DataConfig, ModelConfig, TrainConfig

OPEN = TrainConfig(run_dir="run", data=DataConfig(dataset="data"))
POSTERS = automatic.Facts(
    num_train=2428,
    num_validation=268,
    image_side=429,
    backbone_size=224,
    multiplications=4e8,
    last_width=1280,
    stages_width=1776,
    replicas=1,
    has_accelerator=False,
    cores=2,
    memory=8 << 30,
)


def chosen(config=OPEN, **changes):
    return automatic.choose(config, dataclasses.replace(POSTERS, **changes))[0]


def test_every_open_field_is_chosen_with_a_reason():
    assert automatic.is_open(OPEN)
    config, choices = automatic.choose(OPEN, POSTERS)
    assert not automatic.is_open(config)
    assert [choice.flag for choice in choices] == [
        "image_size", "features", "batch_size", "epochs", "finetune_epochs"
    ]  # fmt: skip
    assert all(choice.reason for choice in choices)
    assert "--image_size=448" in automatic.text(choices)


def test_flags_are_respected_and_not_listed():
    given = dataclasses.replace(
        OPEN,
        data=DataConfig(dataset="data", batch_size=7),
        model=ModelConfig(image_size=100, features="last"),
        epochs=3,
        finetune_epochs=2,
    )
    assert automatic.choose(given, POSTERS) == (given, [])
    config, choices = automatic.choose(dataclasses.replace(given, epochs=None), POSTERS)
    assert [choice.flag for choice in choices] == ["epochs"]
    assert dataclasses.replace(config, epochs=None) == dataclasses.replace(given, epochs=None)


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"image_side": 150}, 224),  # enlarging shows nothing new
        ({"image_side": 300}, 320),
        ({"image_side": 6000}, 448),
        ({"image_side": 6000, "num_train": 10**6}, 224),  # days on a CPU
        ({"image_side": 6000, "num_train": 10**6, "has_accelerator": True}, 448),
        ({"image_side": 400, "backbone_size": 299}, 416),
    ],
)
def test_the_image_size_follows_the_images_and_what_they_cost(changes, size):
    assert chosen(**changes).model.image_size == size


def test_a_cpu_pays_for_as_much_of_the_size_as_it_can():
    sizes = [chosen(image_side=448, num_train=number).model.image_size for number in (10**4, 10**5, 2 * 10**5, 10**6)]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) > 2


@pytest.mark.parametrize(
    ("num_train", "replicas", "batch_size"),
    [(2428, 1, 64), (222, 1, 16), (30, 1, 8), (5, 1, 5), (222, 3, 18), (5, 2, 4), (25_000, 1, 512), (10**7, 8, 512)],
)
def test_batches_fit_small_datasets_and_replicas(num_train, replicas, batch_size):
    found = chosen(num_train=num_train, replicas=replicas).data.batch_size
    assert found == batch_size
    assert found % replicas == 0


def test_batches_of_images_stay_smaller_than_those_of_embeddings():
    deep = dataclasses.replace(OPEN, finetune_epochs=3)
    assert chosen(deep, num_train=25_000).data.batch_size == 64
    assert chosen(num_train=25_000, has_accelerator=True).data.batch_size == 64  # which fine-tunes by itself
    assert chosen(num_train=5000).data.batch_size == 128
    assert chosen(num_train=25_000).epochs * (25_000 // 512) >= 1500


def test_small_datasets_get_more_epochs_up_to_a_limit():
    assert chosen().epochs == 41
    assert chosen(num_train=222).epochs == 116
    assert chosen(num_train=10).epochs == 200
    few = dataclasses.replace(OPEN, data=DataConfig(dataset="data", batch_size=222))
    assert chosen(few, num_train=222).epochs == 200


@pytest.mark.parametrize(
    ("num_validation", "changes", "keep"),
    [(28, {}, "last"), (268, {}, "best"), (28, {"schedule": "constant"}, "best"), (28, {"keep": "best"}, "best")],
)
def test_few_examples_do_not_decide_which_epoch_is_kept(num_validation, changes, keep):
    config, choices = automatic.choose_keep(dataclasses.replace(OPEN, **changes), num_validation)
    assert config.keep == keep
    assert len(choices) == ("keep" not in changes)


def test_embeddings_of_all_stages_must_fit_into_memory():
    assert chosen().model.features == "stages"
    assert chosen(num_train=10**6).model.features == "last"
    assert chosen(num_train=10**6, memory=1 << 40).model.features == "stages"


def test_fine_tuning_is_chosen_on_accelerators_alone():
    assert chosen().finetune_epochs == 0
    cached = dataclasses.replace(OPEN, data=DataConfig(dataset="", bottlenecks="embeddings"))
    assert chosen(cached, has_accelerator=True).finetune_epochs == 0
    assert chosen(has_accelerator=True).finetune_epochs > 0
    assert automatic.seconds_to_embed(POSTERS, 448) == pytest.approx(4 * 4e8 * 2696 / 5e10)
