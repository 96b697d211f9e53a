"""A small run from a dataset directory to predictions, with the real parts: what it writes, and that it agrees."""

import csv
import dataclasses
import json
import os
import pathlib
import shutil
import threading

import numpy as np
import pytest

from tfr import config, conversion, folder_lock, synthetic
from tfr.errors import ConversionError, DatasetError, RunDirError, UsageError
from tfr.train import calibration, comparison, evaluation, forward, run_dir, tagger, training
from tfr.train.config import DataConfig
from tfr.train.prediction import saved_predictions


@pytest.fixture(scope="module")
def dataset(drawn):
    """See `drawn` in conftest."""
    return drawn


@pytest.fixture(scope="module")
def run_path(trained_run):
    """See `trained_run` in conftest."""
    return trained_run


def test_the_run_directory_is_complete(run_path):
    expected = {"model.keras", "labels.txt", "thresholds.json", "config.json", "history.csv", "metrics.json"}
    assert expected | {"plots", "tensorboard"} <= set(os.listdir(run_path))
    assert not [name for name in os.listdir(run_path) if "tmp" in name]
    assert os.path.getsize(os.path.join(run_path, "plots", "history.png")) > 5000
    run = run_dir.load(run_path)
    assert run.labels == sorted(synthetic.LABELS)
    assert run.config["resolved"]["num_replicas"] == 1
    assert run.config["resolved"]["strategy"] == "MirroredStrategy"


def test_every_epoch_of_both_phases_is_in_the_history(run_path):
    with open(os.path.join(run_path, "history.csv"), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["phase"], row["epoch"]) for row in rows] == [*(("head", str(i)) for i in (1, 2, 3)), ("finetune", "1")]
    assert all(float(row["val_loss"]) > 0 and 0 < float(row["val_macro_map"]) <= 1 for row in rows)


def test_tensorboard_has_training_and_validation(run_path):
    from tensorboard.backend.event_processing import event_accumulator

    events = event_accumulator.EventAccumulator(os.path.join(run_path, "tensorboard", "head", "validation"))
    events.Reload()
    assert "epoch_macro_map" in events.Tags()["tensors"]
    assert os.listdir(os.path.join(run_path, "tensorboard", "finetune", "train"))


def test_the_saved_model_gives_what_the_training_measured(run_path):
    """The model reloaded from disk has, on the validation split, the very figures of the run."""
    with open(os.path.join(run_path, "metrics.json"), encoding="utf-8") as file:
        measured = json.load(file)["validation"]
    again = evaluation.evaluate(run_path, split="validation")
    for key in ("macro_map", "micro_map", "macro_roc_auc", "micro_f1", "log_loss"):
        assert again[key] == pytest.approx(measured[key], abs=1e-4)


def test_the_saved_model_needs_nothing_of_ours(run_path, run_python):
    code = (
        "import sys, keras, numpy as np\n"
        f"model = keras.models.load_model({os.path.join(run_path, 'model.keras')!r})\n"
        "print(model(np.zeros((1, 64, 64, 3), 'uint8')).shape, any(m.startswith('tfr') for m in sys.modules))"
    )
    assert "(1, 9) False" in run_python("-c", code).stdout


def test_evaluation_appends_a_row_a_run(run_path, tmp_path):
    results = tmp_path / "results.csv"
    for split in ("test", "validation"):
        evaluation.evaluate(run_path, split=split, results=str(results))
    with open(results, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["split"] for row in rows] == ["test", "validation"]
    assert {"macro_map", "micro_map", "average_precision/star", "roc_auc/star"} <= set(rows[0])


def test_prediction_agrees_with_evaluation_and_skips_bad_files(dataset, run_path):
    """The same image has the same probabilities from a loose file as from the dataset.

    But where the conversion did not store it as it was: an image that it turned upright is a JPEG of a JPEG there.
    """
    _, images = dataset
    found = saved_predictions.of_split(run_dir.load(run_path), split="test", batch_size=8)
    names = [name for name in found.ids if name.endswith(".jpg")]
    paths = [os.path.join(images, name) for name in names]
    paths[2:2] = [os.path.join(images, "truncated.jpg"), os.path.join(images, "no_such.jpg")]
    results = tagger.load_tagger(run_path, batch_size=4).predict(paths, top_k=9)
    assert [result.image for result in results] == paths
    assert results[2].error.startswith("truncated")
    assert results[3].error.startswith("missing")
    labels = run_dir.load(run_path).labels
    by_id = dict(zip(found.ids, found.probabilities, strict=True))
    for result in (r for r in results if not r.error):
        name = os.path.basename(result.image)
        found_here = [dict(result.tags)[label] for label in labels]
        np.testing.assert_allclose(found_here, by_id[name], atol=5e-4 if name == "rotated.jpg" else 1e-6)
        assert [p for _, p in result.tags] == sorted((p for _, p in result.tags), reverse=True)


def test_only_bad_files_still_give_a_result_each(run_path, dataset):
    paths = [os.path.join(dataset[1], name) for name in ("empty.jpg", "notes.jpg")]
    results = tagger.load_tagger(run_path).predict(paths)
    assert [result.error.split(":")[0] for result in results] == ["empty", "not_an_image"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run(dataset, run_path, tmp_path, small_train_config):
    training.train(small_train_config(dataset[0], tmp_path / "again"))
    first, second = ((pathlib.Path(path) / "history.csv").read_text() for path in (run_path, tmp_path / "again"))
    assert first == second


def test_both_phases_train_on_balanced_weighted_and_mixed_batches(dataset, tmp_path, small_train_config):
    data = DataConfig(
        dataset=dataset[0], batch_size=16, augment="medium,mixup", sample="balanced", positive_weights="sqrt"
    )
    with pytest.raises(UsageError, match="unknown op 'medium'"):
        small_train_config(dataset[0], tmp_path / "run", data=data)
    data = dataclasses.replace(data, augment="crop,flip,mixup")
    result = training.train(small_train_config(dataset[0], tmp_path / "run", data=data, epochs=1))
    assert result.epochs == {"head": 1, "finetune": 1}
    assert 0 < result.metrics["macro_map"] <= 1
    saved = run_dir.load(str(tmp_path / "run")).config["data"]
    assert (saved["augment"], saved["sample"]) == ("crop,flip,mixup", "balanced")


def test_weighted_positives_have_no_meaning_for_single_labels(tmp_path, write_photos, small_train_config):
    photos = write_photos([f"{label}/{i}.jpg" for label in ("red", "cube") for i in range(4)])
    converted = conversion.convert(
        config.ConvertConfig(
            annotations=str(photos),
            data_dir=str(tmp_path / "data"),
            name="single",
            split_ratios=config.splits.parse_ratios("train=1"),
        )
    )
    data = DataConfig(dataset=converted.dataset_dir, batch_size=4, positive_weights="balanced")
    with pytest.raises(UsageError, match="--positive_weights=balanced is for multi-label datasets"):
        training.train(small_train_config(converted.dataset_dir, tmp_path / "run", data=data))
    assert not (tmp_path / "run").exists()


def test_a_run_directory_is_not_overwritten_unless_said_so(dataset, run_path, tmp_path, small_train_config):
    with pytest.raises(UsageError, match="holds a finished run"):
        training.train(small_train_config(dataset[0], run_path))
    interrupted = tmp_path / "interrupted"  # a run that was to be overwritten and died before it saved anything
    interrupted.mkdir()
    (interrupted / "results.csv").write_text("run\n")
    run_dir.create(str(interrupted), overwrite=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.txt").write_text("precious")
    with pytest.raises(UsageError, match=r"no run's, such as mine\.txt"):
        training.train(small_train_config(dataset[0], tmp_path / "mine"))


def test_two_trainings_cannot_write_one_run_directory(dataset, tmp_path, small_train_config):
    path = tmp_path / "run"
    with run_dir.claim(str(path), overwrite=False):
        (path / "history.csv").write_text("of the first\n")
        with pytest.raises(ConversionError, match=rf"Another tfr train is writing to {path}\. Wait for it\."):
            training.train(small_train_config(dataset[0], path, overwrite=True))
        assert (path / "history.csv").read_text() == "of the first\n"
    with run_dir.claim(str(path), overwrite=True):
        assert os.listdir(path) == [".lock"]


def test_evaluations_at_the_same_time_wait_for_each_other(tmp_path):
    """Both files are read and written anew: who does not wait takes a row away."""
    results = tmp_path / "results.csv"
    writes = [
        threading.Thread(target=run_dir.append_results, args=(str(results), {"run": "a"})),
        threading.Thread(target=run_dir.update_metrics, args=(str(tmp_path), "test", {"f1": 0.5})),
    ]
    with folder_lock.wait(str(tmp_path)):
        for write in writes:
            write.start()
            write.join(0.3)
        assert os.listdir(tmp_path) == []
    for write in writes:
        write.join()
    assert sorted(os.listdir(tmp_path)) == ["metrics.json", "results.csv"]


def test_label_names_are_read_as_they_were_written(run_copy):
    run_dir.write_text(run_copy, "labels.txt", "one\x85two\nthree\u2028four\n")
    os.unlink(os.path.join(run_copy, "thresholds.json"))
    assert run_dir.load(run_copy).labels == ["one\x85two", "three\u2028four"]


def test_labels_of_another_dataset_are_refused(run_path, tmp_path, write_photos):
    photos = write_photos([f"{label}/{i}.jpg" for label in ("red", "cube") for i in range(4)])
    other = conversion.convert(
        config.ConvertConfig(
            annotations=str(photos),
            data_dir=str(tmp_path / "data"),
            name="other",
            split_ratios=config.splits.parse_ratios("test=1"),
        )
    )
    with pytest.raises(RunDirError, match=r"only in the dataset: \['cube'\].*--labels_file="):
        evaluation.evaluate(run_path, dataset=other.dataset_dir)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"data": {"batch_size": 500}}, UsageError, r"--batch_size=500 is more than the \d+ examples"),
        (
            {"data": {"train_split": "training"}},
            DatasetError,
            r"no split 'training'.*\['test', 'train', 'validation'\]",
        ),
        ({"model": {"backbone": "resnet5"}}, UsageError, r"Unknown backbone 'resnet5'.*Did you mean 'resnet50'"),
        ({"model": {"weights": "no/such/file.h5"}}, UsageError, r"no/such/file\.h5"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_written(
    dataset, tmp_path, changes, error, message, small_train_config
):
    base = small_train_config(dataset[0], tmp_path / "run")
    replaced = {key: dataclasses.replace(getattr(base, key), **value) for key, value in changes.items()}
    with pytest.raises(error, match=message):
        training.train(dataclasses.replace(base, **replaced))
    assert not (tmp_path / "run" / "model.keras").exists()


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(RunDirError, match="no such folder"):
        run_dir.load(str(tmp_path / "none"))
    with pytest.raises(RunDirError, match=r"not a finished run: it has no model\.keras"):
        run_dir.load(str(tmp_path))


def test_a_damaged_model_is_named(run_path, tmp_path):
    for name in ("labels.txt", "config.json"):
        shutil.copy(os.path.join(run_path, name), tmp_path)
    (tmp_path / "model.keras").write_bytes(b"not a model")
    with pytest.raises(RunDirError, match=r"model\.keras cannot be loaded"):
        run_dir.load(str(tmp_path)).load_model()


def test_forward_keeps_order_and_handles_a_short_last_batch():
    import keras
    import tensorflow as tf

    model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Flatten(), keras.layers.Dense(1)])
    images = np.random.default_rng(0).normal(size=(7, 2, 2, 3)).astype("float32")
    batches = tf.data.Dataset.from_tensor_slices({"image": images, "id": np.arange(7)}).batch(3)
    found = forward.collect(forward.run(model, batches, total=7, description="test"))
    np.testing.assert_array_equal(found["id"], np.arange(7))
    np.testing.assert_allclose(found["output"], model(images), rtol=1e-5)


def test_single_label_datasets_train_with_softmax(tmp_path, write_photos, small_train_config):
    photos = write_photos([f"{label}/{i}.png" for label in ("cat", "dog", "eel") for i in range(20)])
    converted = conversion.convert(
        config.ConvertConfig(annotations=str(photos), data_dir=str(tmp_path / "data"), name="pets")
    )
    assert converted.label_mode == "single"
    result = training.train(small_train_config(converted.dataset_dir, tmp_path / "run", finetune_epochs=0))
    assert 0 <= result.metrics["accuracy"] <= 1
    found = saved_predictions.of_split(run_dir.load(result.run_dir), split="train")
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, rtol=1e-5)


def test_predictions_of_a_split_are_kept_until_the_model_changes(run_path, tmp_path):
    copy = shutil.copytree(run_path, tmp_path / "run", ignore=shutil.ignore_patterns("predictions"))
    first = saved_predictions.of_split(run_dir.load(str(copy)), split="test")
    (kept,) = (copy / "predictions").iterdir()
    before = kept.stat()
    again = saved_predictions.of_split(run_dir.load(str(copy)), split="test")
    np.testing.assert_array_equal(first.probabilities, again.probabilities)
    assert first.ids == again.ids
    assert kept.stat().st_mtime_ns == before.st_mtime_ns
    os.utime(copy / "model.keras", (1, 1))
    saved_predictions.of_split(run_dir.load(str(copy)), split="test")
    assert len(list((copy / "predictions").iterdir())) == 2


def test_a_temperature_becomes_part_of_the_model(run_path, tmp_path):
    copy = str(shutil.copytree(run_path, tmp_path / "run"))
    before = saved_predictions.of_split(run_dir.load(copy), split="validation")
    for rounds in (1, 2):  # the second finds nothing more to do
        done = calibration.calibrate(copy, scale=True, method="global")
        after = saved_predictions.of_split(run_dir.load(copy), split="validation")
        expected = calibration.apply_temperature(before.probabilities, done.temperature, True)
        np.testing.assert_allclose(after.probabilities, expected, atol=1e-4)
        assert done.after["log_loss"] <= done.before["log_loss"] + 1e-6
        assert (abs(done.after["log_loss"] - done.before["log_loss"]) < 1e-4) == (rounds == 2)
    assert run_dir.load(copy).thresholds.per_label.tolist() == done.thresholds.per_label.tolist()


def test_a_run_against_itself_is_no_better_and_a_spoilt_one_is_worse(run_path, tmp_path):
    same = str(shutil.copytree(run_path, tmp_path / "same"))
    worse = str(shutil.copytree(run_path, tmp_path / "worse"))
    found = saved_predictions.of_split(run_dir.load(worse), split="train")
    name = next(iter(pathlib.Path(worse, "predictions").glob("train-*"))).name
    wrong = 1 - found.targets  # likeliest where a label is absent
    run_dir.write_arrays(
        worse, f"predictions/{name}", targets=found.targets, probabilities=wrong, ids=np.array(found.ids)
    )
    result = comparison.compare([run_path, same, worse], split="train")
    by_run = {(d.path, d.figure): d for d in result.differences}
    assert by_run[same, "macro_map"].verdict == "no clear difference"
    assert by_run[same, "macro_map"].share_better == 0.5
    assert by_run[worse, "macro_roc_auc"].verdict == "worse"
    assert f"{worse} against {run_path}" in comparison.text(result)
    comparison.draw(result, str(tmp_path / "compared.png"))
    assert (tmp_path / "compared.png").stat().st_size > 5000
    with pytest.raises(UsageError, match="two or more different"):
        comparison.compare([run_path, run_path])
