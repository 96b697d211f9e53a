"""Exports of networks of every kind: single-label, mixed precision, other backbones; and what is in an ONNX file."""

import json
import types

import numpy as np
import pytest
import tensorflow as tf
from export_checks import config_for, read

from tfr.train import run_dir
from tfr.train.exporting import export, runtimes, saved_model, tflite
from tfr.train.exporting import model as export_model
from tfr.train.exporting import onnx as export_onnx
from tfr.train.exporting.config import ExportConfig
from tfr.train.prediction.tags import TagRule


def test_a_single_label_run_gives_one_tag(single_label_run, tmp_path):
    result = export.export(ExportConfig(run=single_label_run, output=str(tmp_path / "out"), check=False, version=7))
    assert result.checked == []
    serve = tf.saved_model.load(str(tmp_path / "out" / "single" / "7")).signatures["serving_pixels"]
    answer = serve(pixels=tf.zeros((2, 64, 64, 3), tf.uint8))
    assert answer["probabilities"].numpy().sum(axis=1) == pytest.approx(1, abs=1e-5)
    likeliest = answer["labels"].numpy()[0][answer["probabilities"].numpy().argmax(axis=1)]
    assert answer["tags"].numpy().tolist() == [[name] for name in likeliest]


def test_networks_of_mixed_precision_are_exported_in_float32():
    import keras

    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, dtype="mixed_bfloat16")(inputs)
    x = keras.layers.BatchNormalization(dtype="mixed_bfloat16")(x)
    x = keras.layers.GlobalAveragePooling2D(dtype="mixed_bfloat16")(keras.ops.relu(x))
    mixed = keras.Model(inputs, keras.layers.Dense(5, activation="sigmoid", dtype="mixed_bfloat16")(x))
    mixed.set_weights([np.random.default_rng(1).uniform(0.1, 1, w.shape) for w in mixed.get_weights()])
    exact = export_model.in_float32(mixed)
    pixels = np.random.default_rng(0).uniform(-1, 1, (6, 8, 8, 3)).astype(np.float32)
    difference = np.abs(exact(pixels).numpy() - keras.ops.cast(mixed(pixels), "float32").numpy())
    assert exact(pixels).dtype == tf.float32
    assert 0 < difference.max() < 0.02
    assert export_model.in_float32(exact) is exact


def test_a_network_with_a_gradient_of_its_own_is_written(tmp_path, trained_run):
    """Swish has one, with which TensorFlow saves no graph of constants."""
    import keras

    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, activation="silu")(keras.layers.Rescaling(1 / 128, -1)(inputs))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(16, 3, activation="silu")(x))
    network = keras.Model(inputs, keras.layers.Dense(3, activation="sigmoid")(x))
    rng = np.random.default_rng(0)
    network.set_weights([rng.normal(size=w.shape) * 0.3 for w in network.get_weights()])
    labels = ["a", "b", "c"]
    run = types.SimpleNamespace(path=trained_run, labels=labels, image_size=16, resize="squash", multi_label=True)
    rule = TagRule(labels=labels, limits=np.full(3, 0.5), multi_label=True, only_above=True, top_k=None)
    tagger = export_model.ExportModel(run=run, model=network, rule=rule)
    pixels = rng.integers(0, 256, (12, 16, 16, 3), np.uint8)
    expected = network(pixels.astype(np.float32)).numpy()
    assert expected.std(axis=0).max() > 0.001
    saved_model.write(tagger, str(tmp_path / "net" / "1"))
    images = [runtimes.Image(image, b"") for image in pixels]
    limits = {"saved_model": 1e-5, "tflite": 1e-5, "tflite_float16": 0.01, "tflite_int8": 0.05}
    for format, limit in limits.items():
        name = "net/1" if format == "saved_model" else f"{format}.tflite"
        if format != "saved_model":
            tflite.write(tagger, str(tmp_path / name), format, pixels)
        predict = list(runtimes.open_format(str(tmp_path), format, name).values())[-1]
        np.testing.assert_allclose(np.array([predict(image) for image in images]), expected, atol=limit)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["mobilenet_v3_small", "efficientnet_v2_b0", "densenet121", "resnet50_v2"])
def test_other_backbones_export_to_every_format(backbone, drawn, small_train_config, tmp_path):
    """Random weights with their head trained: no download, and no output that is the same for every image."""
    from tfr.train import training
    from tfr.train.config import ModelConfig

    model = ModelConfig(backbone=backbone, weights="none", image_size=64, hidden_units=(16,), dropout=0.1)
    training.train(small_train_config(drawn[0], tmp_path / "run", model=model, epochs=2, finetune_epochs=1))
    formats = ("saved_model", "tflite", "tflite_float16", "tflite_int8", "onnx", "keras")
    result = export.export(config_for(str(tmp_path / "run"), tmp_path / "out", formats=formats))
    for row in result.checked:
        assert row.max_difference < 1e-4 or row.format in ("tflite_float16", "tflite_int8"), row


@pytest.mark.slow
def test_a_calibrated_run_of_mixed_precision(drawn, small_train_config, tmp_path):
    """Trained in bfloat16, exported in float32, its temperature inside."""
    from tfr.train import calibration, training

    path = str(tmp_path / "run")
    training.train(small_train_config(drawn[0], path, precision="bfloat16"))
    calibration.calibrate(path, scale=True)
    result = export.export(config_for(path, tmp_path / "out", formats=("saved_model", "tflite", "keras")))
    rows = {row.name: row for row in result.checked}
    assert 1e-5 < rows["the run's model"].max_difference < 0.05  # bfloat16 itself
    assert all(row.max_difference < 1e-4 for row in result.checked if row.format)
    described = json.loads(read(tmp_path / "out" / "export.json"))
    assert described["run"]["precision"] == "bfloat16"
    assert described["run"]["temperature"] != 1


@pytest.mark.slow
def test_onnx_has_names_and_metadata(trained_run, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    export.export(config_for(trained_run, tmp_path / "out", formats=("onnx",)))
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"))
    (pixels,), (probabilities,) = session.get_inputs(), session.get_outputs()
    assert (pixels.name, pixels.shape) == ("pixels", ["batch", 64, 64, 3])
    assert (probabilities.name, probabilities.shape) == ("probabilities", ["batch", 9])
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["labels"]) == run_dir.load(trained_run).labels
    assert session.run(None, {"pixels": np.zeros((5, 64, 64, 3), np.float32)})[0].shape == (5, 9)


def test_zero_padding_before_a_maximum_stays_zero_in_onnx(tmp_path):
    """ONNX Runtime would join the two, as if the padding was of minus infinity: of negative maps another result."""
    import keras

    onnxruntime = pytest.importorskip("onnxruntime")
    pixels = keras.Input((8, 8, 3), name="pixels")
    negative = keras.layers.Conv2D(4, 3, kernel_initializer=keras.initializers.Constant(-0.1))(pixels)
    padded = keras.layers.ZeroPadding2D(1)(negative)
    means = keras.layers.GlobalAveragePooling2D()(keras.layers.MaxPooling2D(3, strides=2)(padded))
    model = keras.Model(pixels, means)
    path = str(tmp_path / "model.onnx")
    export_onnx.write(export_model.ExportModel(run=None, model=model, rule=None), path, {})
    batch = np.random.default_rng(0).uniform(1, 255, (2, 8, 8, 3)).astype(np.float32)
    (found,) = onnxruntime.InferenceSession(path).run(None, {"pixels": batch})
    np.testing.assert_allclose(found, model(batch), rtol=1e-5)
