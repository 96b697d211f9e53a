"""Exports of a small run: what they hold, that they say what the run says, and that nothing half-made is left."""

import json
import os
import types

import numpy as np
import pytest
import tensorflow as tf
from export_checks import config_for, read
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tfr import cli
from tfr.errors import DatasetError, TfrError, UsageError
from tfr.train import preprocessing, run_dir
from tfr.train import thresholds as thresholds_lib
from tfr.train.exporting import check, export, saved_model, tflite, warmup
from tfr.train.exporting.config import ExportConfig
from tfr.train.prediction.tags import TagRule


@pytest.fixture(scope="module")
def exported(trained_run, tmp_path_factory):
    """An export of `trained_run`, checked on the test split: (folder, what `export` returned)."""
    folder = str(tmp_path_factory.mktemp("export") / "out")
    formats = ("saved_model", "tflite", "keras")
    config = ExportConfig(run=trained_run, output=folder, formats=formats, name="shapes", calibration_images=24)
    return folder, export.export(config)


@pytest.fixture(scope="module")
def serve(exported):
    """The signatures of the exported SavedModel."""
    return tf.saved_model.load(os.path.join(exported[0], "shapes", "1")).signatures


@pytest.fixture(scope="module")
def drawn_files(drawn):
    """The paths of six images."""
    names = sorted(name for name in os.listdir(drawn[1]) if name.startswith("shapes_"))
    return [os.path.join(drawn[1], name) for name in names[:6]]


def test_everything_is_there_and_described(exported, trained_run):
    folder, result = exported
    expected = {"shapes", "model.tflite", "model.keras", "labels.txt", "export.json"}
    assert set(os.listdir(folder)) == {*expected, "MODEL_CARD.md"}
    assert {"saved_model.pb", "assets", "assets.extra"} <= set(os.listdir(os.path.join(folder, "shapes", "1")))
    assert os.listdir(os.path.dirname(folder)) == ["out"]
    described = json.loads(read(os.path.join(folder, "export.json")))
    run = run_dir.load(trained_run)
    assert (described["labels"], described["image_size"], described["resize"]) == (run.labels, 64, "squash")
    assert described["thresholds"] == run.thresholds.to_json(run.labels)
    assert described["formats"]["saved_model"]["file"] == "shapes/1"
    assert described["formats"]["tflite"]["bytes"] == os.path.getsize(os.path.join(folder, "model.tflite"))
    assert described["check"]["images"] == result.num_checked > 5
    assert {"tfr", "tensorflow", "keras"} <= set(described["versions"])


def test_the_float_formats_say_what_the_run_says(exported):
    rows = {row.name: row for row in exported[1].checked}
    names = ["the run's model", "saved_model, bytes", "saved_model, pixels", "tflite", "keras"]
    assert list(rows) == names
    for name in names:
        assert rows[name].max_difference < 1e-4, name
        assert rows[name].equal_top == 1
    assert all(row.images_per_second > 0 and row.images_per_second_one_thread > 0 for row in rows.values())


def test_figures_of_a_comparison():
    """Two images, three labels; the second image has another tag and another likeliest label."""
    reference = np.array([[0.9, 0.1, 0.2], [0.6, 0.5, 0.1]])
    other = np.array([[0.9, 0.1, 0.4], [0.6, 0.8, 0.1]])
    targets = np.array([[1, 0, 0], [0, 1, 0]])
    thresholds = thresholds_lib.from_json({"global": 0.5}, ["a", "b", "c"], "")
    run = types.SimpleNamespace(multi_label=True, labels=["a", "b", "c"], thresholds=thresholds)
    limits = np.array([0.5, 0.7, 0.5])
    rule = TagRule(labels=run.labels, limits=limits, multi_label=True, only_above=True, top_k=None)
    found = check.compare(other, reference, targets, types.SimpleNamespace(run=run, rule=rule))
    assert found["max_difference"] == pytest.approx(0.3)
    assert found["mean_difference"] == pytest.approx(0.5 / 6)
    assert (found["equal_tags"], found["equal_top"]) == (0.5, 0.5)
    assert found["macro_map"] == 1


@pytest.mark.slow
def test_int8_is_small_and_close(trained_run, tmp_path):
    folder = str(tmp_path / "out")
    formats = ("tflite", "tflite_int8")
    result = export.export(ExportConfig(run=trained_run, output=folder, formats=formats, calibration_images=24))
    row = next(row for row in result.checked if row.name == "tflite_int8")
    assert row.mean_difference < 0.02
    whole, small = (os.path.getsize(os.path.join(folder, name)) for name in ("model.tflite", "model_int8.tflite"))
    assert small < 0.35 * whole
    details = tf.lite.Interpreter(os.path.join(folder, "model_int8.tflite")).get_tensor_details()
    convolutions = [d for d in details if d["name"].endswith("/kernel") or "conv" in d["name"]]
    assert sum(d["dtype"] is np.int8 for d in convolutions) > 30
    assert not [d["name"] for d in details if "/logits" in d["name"] and d["dtype"] is np.int8]


def test_the_card_speaks_of_data_labels_and_quality(exported, trained_run):
    card = read(os.path.join(exported[0], "MODEL_CARD.md")).decode("utf-8")
    run = run_dir.load(trained_run)
    assert card.startswith("# shapes\n")
    assert f"{run.config['resolved']['num_train']} images of shapes/1.0.0" in card
    assert all(f"| {name} | " in card for name in run.labels)
    assert "macro mAP" in card


_ALONE = """
import json, sys
import numpy as np
import tensorflow as tf
try:
    import tfr
    raise SystemExit("tfr can be imported")
except ImportError:
    pass
folder, *paths = sys.argv[1:]
loaded = tf.saved_model.load(folder + "/shapes/1")
images = [tf.io.read_file(path) for path in paths]
out = loaded.signatures["serving_default"](tf.stack(images))
print(json.dumps({key: value.numpy().astype(str).tolist() for key, value in out.items()}))
"""


def test_the_saved_model_needs_nothing_of_ours(exported, trained_run, drawn_files, run_python, tmp_path):
    """Loaded by plain TensorFlow where tfr cannot be imported: image files give what the run gives for them."""
    (tmp_path / "tfr.py").write_text("raise ImportError('not here')\n")
    finished = run_python("-c", _ALONE, exported[0], *drawn_files, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert finished.returncode == 0, finished.stderr
    served = json.loads(finished.stdout.splitlines()[-1])
    run = run_dir.load(trained_run)
    decode = preprocessing.get_image(run.image_size, run.resize)
    pixels = np.array([decode({"image": tf.constant(read(path))})["image"] for path in drawn_files])
    expected = run.load_model()(pixels, training=False).numpy()
    np.testing.assert_allclose(np.array(served["probabilities"], float), expected, atol=1e-5)
    assert served["labels"] == [run.labels] * len(drawn_files)
    said = np.array(served["probabilities"], np.float32)  # for tags to the bit: thresholds lie on probabilities
    for tags, found, probabilities in zip(served["tags"], served["tag_probabilities"], said, strict=True):
        chosen = [
            i for i in np.argsort(-probabilities, kind="stable") if probabilities[i] >= run.thresholds.per_label[i]
        ]
        assert [tag for tag in tags if tag] == [run.labels[i] for i in chosen]
        assert np.array(found, float)[: len(chosen)] == pytest.approx(probabilities[chosen], abs=1e-5)
        assert not any(tags[len(chosen) :])


def test_pixels_are_taken_in_both_types_and_the_assets_are_the_runs(exported, trained_run, serve):
    folder = os.path.join(exported[0], "shapes", "1")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    whole = serve["serving_pixels"](pixels=tf.constant(pixels))
    fraction = serve["serving_pixels_float"](pixels=tf.constant(pixels, tf.float32))
    np.testing.assert_array_equal(whole["probabilities"], fraction["probabilities"])
    assert whole["tags"].shape[0] == 3
    for name in ("labels.txt", "thresholds.json"):
        assert read(os.path.join(folder, "assets", name)) == read(os.path.join(trained_run, name))


def test_warmup_requests_are_those_of_tensorflow_serving(exported, serve):
    """Parsed by a schema written here from TensorFlow Serving's .proto files, and answered by the model."""
    log = _prediction_log()
    path = os.path.join(exported[0], "shapes", "1", warmup.WARMUP_FILE)
    records = list(tf.data.TFRecordDataset(path).as_numpy_iterator())
    assert len(records) >= 2
    for record in records:
        request = log.FromString(record).predict_log.request
        inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        answer = serve[request.model_spec.signature_name](**inputs)
        assert answer["probabilities"].shape == (len(next(iter(inputs.values()))), 9)


def _prediction_log():
    """The class of messages PredictionLog, as far as predictions need it."""
    tensor = tf.compat.v1.TensorInfo  # has TensorFlow's protos registered in the default pool
    assert tensor
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="serving_for_test.proto",
        package="serving_for_test",
        syntax="proto3",
        dependency=["tensorflow/core/framework/tensor.proto"],
    )

    def message(name, *fields):
        found = file.message_type.add(name=name)
        for number, field, kind, label in fields:
            is_text = kind == "string"
            found.field.add(
                name=field,
                number=number,
                label=kinds.LABEL_REPEATED if label == "repeated" else kinds.LABEL_OPTIONAL,
                type=kinds.TYPE_STRING if is_text else kinds.TYPE_MESSAGE,
                type_name=None if is_text else kind,
            )
        return found

    message("ModelSpec", (1, "name", "string", ""), (3, "signature_name", "string", ""))
    request = message(
        "PredictRequest",
        (1, "model_spec", ".serving_for_test.ModelSpec", ""),
        (2, "inputs", ".serving_for_test.PredictRequest.InputsEntry", "repeated"),
    )
    entry = request.nested_type.add(name="InputsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=kinds.LABEL_OPTIONAL, type=kinds.TYPE_STRING)
    entry.field.add(
        name="value", number=2, label=kinds.LABEL_OPTIONAL, type=kinds.TYPE_MESSAGE, type_name=".tensorflow.TensorProto"
    )
    message("PredictLog", (1, "request", ".serving_for_test.PredictRequest", ""))
    message("PredictionLog", (6, "predict_log", ".serving_for_test.PredictLog", ""))
    pool = descriptor_pool.Default()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("serving_for_test.PredictionLog"))


# What goes wrong


def test_a_format_that_says_something_else_fails_and_nothing_is_left(run_copy, tmp_path, monkeypatch):
    """A file that is not of this run's model."""
    genuine = tflite.write

    def write(tagger, path, format, calibration=None):
        tagger.model.get_layer("member_logits").bias.assign_add([[1.0] * 9])
        genuine(tagger, path, format, calibration)
        tagger.model.get_layer("member_logits").bias.assign_sub([[1.0] * 9])

    monkeypatch.setattr(tflite, "write", write)
    with pytest.raises(
        TfrError, match=r"tflite: probabilities differ from the run's model by up to 0\.\d+; allowed is"
    ):
        export.export(config_for(run_copy, tmp_path / "out", formats=("tflite",), check_images=8))
    assert [name for name in os.listdir(tmp_path) if name.startswith("out")] == []


def test_what_is_no_number_is_not_sound():
    figures = dict.fromkeys(("mean_difference", "equal_tags", "equal_top", "macro_map", "micro_map"), 1.0)
    row = check.Row(name="onnx", key="", format="onnx", max_difference=float("nan"), **figures)
    assert not row.is_sound
    assert check.complaints([row])


def test_an_export_that_is_stopped_leaves_nothing(run_copy, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(saved_model, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        export.export(config_for(run_copy, tmp_path / "out", check=False))
    assert [name for name in os.listdir(tmp_path) if name.startswith("out")] == []


def test_other_files_are_not_replaced_and_an_export_only_if_told(trained_run, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"files that are no export's, such as notes\.txt"):
        export.export(config_for(trained_run, folder))
    (folder / "notes.txt").rename(folder / "export.json")
    with pytest.raises(UsageError, match="--overwrite"):
        export.export(config_for(trained_run, folder))
    export.export(config_for(trained_run, folder, formats=("keras",), check=False, overwrite=True))
    assert sorted(os.listdir(folder)) == ["MODEL_CARD.md", "export.json", "labels.txt", "model.keras"]
    assert sorted(os.listdir(tmp_path)) == ["out"]


def test_a_dataset_that_is_gone_is_named_with_the_way_out(run_copy, tmp_path):
    with pytest.raises(DatasetError, match=r"no-such-folder.*the check needs images: name them with --dataset"):
        export.export(config_for(run_copy, tmp_path / "out", dataset=str(tmp_path / "no-such-folder")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"formats": ("tflight",)}, "--format must be one or more of saved_model, tflite"),
        ({"formats": ()}, "--format must be"),
        ({"version": 0}, "--version must be at least 1"),
        ({"name": "a/b"}, "--name must be letters"),
    ],
)
def test_settings_are_checked_first(changes, message):
    with pytest.raises(UsageError, match=message):
        ExportConfig(run="runs/x", output="out", **changes)


def test_the_command_says_what_is_allowed(trained_run, tmp_path, capsys):
    out = f"--output={tmp_path / 'out'}"
    assert cli.main(["export", trained_run, out, "--format=tflight"]) == 2
    assert "saved_model, tflite, tflite_float16, tflite_int8, onnx, keras" in capsys.readouterr().err
    assert cli.main(["export", trained_run, out, "--format=keras", "--nocheck"]) == 0
    assert "model.keras" in capsys.readouterr().out
    assert cli.main(["export", trained_run, out, "--format=keras", "--nocheck", "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["formats"]["keras"]["file"] == "model.keras"
