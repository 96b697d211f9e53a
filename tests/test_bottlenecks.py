"""Training from cached embeddings: the run that images would have given, and nothing that does not belong to it."""

import dataclasses
import json
import os
import pathlib
import shutil

import numpy as np
import pytest

from tfr import cli, shards
from tfr.errors import DatasetError, UsageError
from tfr.train import bottlenecks, evaluation, input_pipeline, run_dir, tagger, training
from tfr.train.config import ModelConfig
from tfr.train.embedding import embed
from tfr.train.embedding.config import EmbedConfig

SIZE = 32


@pytest.fixture(scope="module")
def base(drawn):
    """Embeddings of the drawn images by a small random network, exact, with two views."""
    return EmbedConfig(
        dataset=drawn[0],
        backbone="efficientnet_lite0",
        image_size=SIZE,
        features="stages",
        dtype="float32",
        num_views=2,
        augment="crop:0.3",
    )


@pytest.fixture(scope="module")
def cached(base, tmp_path_factory):
    """The directory of `base`."""
    return embed.embed(dataclasses.replace(base, output=str(tmp_path_factory.mktemp("cached") / "1.0.0"))).output


@pytest.fixture
def make_config(small_train_config, cached, tmp_path):
    """make_config(data={...}, **changes): two epochs of a small head on the embeddings."""

    def make(data=(), **changes):
        config = small_train_config("", tmp_path / "run", epochs=2, finetune_epochs=0, checkpoint_secs=0.0)
        model = ModelConfig(hidden_units=(16,), dropout=0.1)
        data = dataclasses.replace(config.data, **{"bottlenecks": cached, **dict(data)})
        return dataclasses.replace(config, **{"data": data, "model": model, **changes})

    return make


def outcome(path):
    """The weights of a run, and its history."""
    return run_dir.load(str(path)).load_model().get_weights(), pathlib.Path(path, "history.csv").read_text()


def without_views(path, target):
    """A copy of embeddings that says nothing of its views."""
    shutil.copytree(path, target)
    for name in ("features.json", "embedding.json"):
        file = pathlib.Path(target, name)
        content = json.loads(file.read_text())
        if name == "features.json":
            del content["featuresDict"]["features"]["embedding_views"]
        file.write_text(json.dumps(content))
    return str(target)


def test_the_run_is_the_one_that_images_give(make_config, small_train_config, drawn, cached, tmp_path):
    """Backbone and size from the directory; the model is whole, and as if it had embedded the images itself."""
    plain = without_views(cached, tmp_path / "plain" / "1.0.0")
    training.train(make_config({"bottlenecks": plain}))
    direct = small_train_config(
        drawn[0],
        tmp_path / "direct",
        epochs=2,
        finetune_epochs=0,
        model=ModelConfig(
            hidden_units=(16,), dropout=0.1, image_size=SIZE, features="stages", backbone="efficientnet_lite0"
        ),
    )
    training.train(direct)
    one, other = (run_dir.load(str(tmp_path / name)) for name in ("run", "direct"))
    assert one.config["resolved"] == {**other.config["resolved"], "seconds": one.config["resolved"]["seconds"]}
    images = np.random.default_rng(0).uniform(0, 255, (4, SIZE, SIZE, 3)).astype("float32")
    found, expected = (run.load_model()(images, training=False).numpy() for run in (one, other))
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=2e-3)
    assert found.std() > 0.01


def test_no_image_is_read(make_config, cached, drawn, tmp_path, capsys):
    """The dataset's shards may be gone, and the dataset as well."""
    bare = shutil.copytree(drawn[0], tmp_path / "shapes" / "1.0.0")
    for path in bare.glob("*-train.tfrecord-*"):
        os.truncate(path, path.stat().st_size)  # same size: their checksums are those that the conversion noted
        path.write_bytes(bytes(path.stat().st_size))
    training.train(make_config({"dataset": str(bare)}))
    said = capsys.readouterr().err
    assert "In memory for all epochs: the embeddings, " in said
    assert "Images are not" not in said
    moved = pathlib.Path(shutil.copytree(cached, tmp_path / "moved" / "1.0.0"))
    content = json.loads((moved / "embedding.json").read_text())
    content["source"]["dataset_dir"] = str(tmp_path / "gone")
    (moved / "embedding.json").write_text(json.dumps(content))
    training.train(make_config({"bottlenecks": str(moved)}, run_dir=str(tmp_path / "second")))
    for one, other in zip(outcome(tmp_path / "run")[0], outcome(tmp_path / "second")[0], strict=True):
        np.testing.assert_array_equal(one, other)
    for use in (
        lambda: evaluation.evaluate(str(tmp_path / "second")),
        lambda: list(tagger.load_tagger(str(tmp_path / "second")).predict_split("test")),
        lambda: training.train(make_config({"dataset": str(moved), "bottlenecks": None}, run_dir=str(tmp_path / "x"))),
    ):
        with pytest.raises(DatasetError, match=r"has no images in a feature 'image'.*that has them: --dataset"):
            use()
    with pytest.raises(
        DatasetError, match=r"Fine-tuning needs images, and the dataset of --bottlenecks is not at .*gone"
    ):
        training.train(make_config({"bottlenecks": str(moved)}, finetune_epochs=1, run_dir=str(tmp_path / "third")))


@pytest.mark.slow
def test_fine_tuning_goes_on_with_images(make_config, tmp_path, capsys):
    training.train(make_config(epochs=1, finetune_epochs=1, unfreeze="1"))
    assert "Images are not: fine-tuning reads and decodes them anew in each" in capsys.readouterr().err
    assert [line.split(",")[0] for line in outcome(tmp_path / "run")[1].splitlines()[1:]] == ["head", "finetune"]


def test_training_draws_among_the_views_and_validation_takes_the_plain_one(cached):
    loaded = bottlenecks.load(cached, "train")
    assert loaded.views is not None
    assert loaded.views.shape[1:] == (2, 1776)
    size = len(loaded.values)
    batches = bottlenecks.training_batches(loaded, size, 3).take(4).as_numpy_iterator()
    drawn_views = np.zeros((4, size), int) - 1
    for number, (values, targets) in enumerate(batches):
        for value, target in zip(values, targets, strict=True):
            places, views = np.nonzero((loaded.views == value).all(axis=2))
            assert target.tolist() in loaded.targets[places].tolist()  # several, where one image is there twice
            drawn_views[number, places[0]] = views[0]
    assert set(np.unique(drawn_views)) >= {0, 1}
    assert (drawn_views[0] != drawn_views[1]).any()  # another pass, other views


def test_a_stream_of_views_goes_on_anywhere(cached):
    loaded = bottlenecks.load(cached, "train")
    whole = [values for values, _ in bottlenecks.training_batches(loaded, 8, 3).take(30).as_numpy_iterator()]
    rest = bottlenecks.training_batches(loaded, 8, 3, start_step=20).take(10).as_numpy_iterator()
    for expected, (values, _) in zip(whole[20:], rest, strict=True):
        np.testing.assert_array_equal(values, expected)
    other_seed = next(bottlenecks.training_batches(loaded, 8, 4).as_numpy_iterator())[0]
    assert (other_seed != whole[0]).any()


def test_slices_are_those_of_the_dataset(cached, drawn):
    builder = input_pipeline.open_dataset(drawn[0])
    loaded = bottlenecks.load(cached, "train[10:25]")
    shape = input_pipeline.BatchShape(SIZE, 15)
    expected = next(input_pipeline.for_evaluation(builder, "train[10:25]", shape).as_numpy_iterator())
    np.testing.assert_array_equal(loaded.targets, expected["target"])


class Killed(BaseException):
    """Stands for what ends a process."""


@pytest.mark.slow
def test_a_killed_run_comes_to_the_same_weights(make_config, monkeypatch, tmp_path):
    training.train(make_config(run_dir=str(tmp_path / "undisturbed")))
    real, count = training.Loop.run, 0

    def run(self, *args):
        nonlocal count
        count += 1
        if count == 2:
            raise Killed
        return real(self, *args)

    monkeypatch.setattr(training.Loop, "run", run)
    with pytest.raises(Killed):
        training.train(make_config())
    monkeypatch.undo()
    training.train(make_config())
    (one, rows), (other, expected_rows) = outcome(tmp_path / "run"), outcome(tmp_path / "undisturbed")
    assert rows == expected_rows
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("data", "model", "difference"),
    [
        ({}, {"image_size": 64}, "image_size: 32 -> 64"),
        ({}, {"backbone": "mobilenet_v2"}, "backbone: efficientnet_lite0 -> mobilenet_v2"),
        ({"resize": "pad"}, {}, "resize: squash -> pad"),
        ({}, {"weights": "none"}, "--weights=imagenet -> --weights=none"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_difference(data, model, difference, make_config):
    with pytest.raises(UsageError, match=difference):
        training.train(make_config(data, model=ModelConfig(**model)))


def test_embeddings_of_other_examples_are_refused(make_config, drawn, drawn_single, tmp_path):
    with pytest.raises(DatasetError, match=r"are of shapes/1.0.0 in .* has other examples"):
        training.train(make_config({"dataset": drawn_single}))
    changed = shutil.copytree(drawn[0], tmp_path / "changed")
    path = min(changed.glob("*-train.tfrecord-*"))
    records = list(shards.read_records(str(path)))
    with shards.create(str(path)) as writer:
        for record in records[1:]:
            writer.write(record, *shards.frame(record))
    info = pathlib.Path(changed, "dataset_info.json")
    info.write_text(info.read_text().replace(f'"{len(records)}"', f'"{len(records) - 1}"', 1))
    with pytest.raises(DatasetError, match=r"as it was then.*`tfr embed` brings them up to date"):
        training.train(make_config({"dataset": str(changed)}))


@pytest.mark.slow
def test_random_networks_are_the_same_by_their_seed(make_config, base, tmp_path):
    output = str(tmp_path / "random")
    embed.embed(dataclasses.replace(base, output=output, weights="none", seed=5, num_views=0))
    data, model = {"bottlenecks": output}, ModelConfig(weights="none", hidden_units=())
    with pytest.raises(UsageError, match="random ones depend on --seed"):
        training.train(make_config(data, model=model, epochs=1))
    training.train(make_config(data, model=model, epochs=1, seed=5, overwrite=True))


def test_the_folder_above_the_version_will_do(make_config, cached, tmp_path):
    shutil.copytree(cached, tmp_path / "shapes_cached" / "1.0.0")
    training.train(make_config({"bottlenecks": f"{tmp_path / 'shapes_cached'}/"}, epochs=1))
    assert run_dir.load(str(tmp_path / "run")).config["data"]["bottlenecks"] == f"{tmp_path}/shapes_cached/1.0.0"
    shutil.copytree(cached, tmp_path / "shapes_cached" / "1.1.0")
    with pytest.raises(DatasetError, match=r"several datasets: name one of .*shapes_cached/1\.0\.0"):
        training.train(make_config({"bottlenecks": str(tmp_path / "shapes_cached")}, epochs=1))


def test_an_unfinished_or_other_directory_is_refused(make_config, drawn, cached, tmp_path):
    with pytest.raises(DatasetError, match=r"no finished directory of embeddings.*`tfr embed DATASET` makes one"):
        training.train(make_config({"bottlenecks": drawn[0]}))
    unfinished = shutil.copytree(cached, tmp_path / "unfinished")
    os.unlink(unfinished / "dataset_info.json")
    with pytest.raises(DatasetError, match="no finished directory of embeddings"):
        training.train(make_config({"bottlenecks": str(unfinished)}))


def test_training_needs_a_dataset_or_bottlenecks(capsys):
    assert cli.main(["train", "--run_dir=run"]) == 2
    assert "--dataset is required, or --bottlenecks" in capsys.readouterr().err
