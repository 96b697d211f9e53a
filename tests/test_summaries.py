"""Precision-recall curves and sample images of a run, as TensorBoard itself reads them; and the plots."""

import io
import os
import types
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import sklearn.metrics
from PIL import Image
from tensorboard.backend.event_processing import data_provider, event_accumulator, plugin_event_multiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.pr_curve import pr_curves_plugin

from tfr import synthetic
from tfr.train import plots, run_dir, summaries
from tfr.train.prediction import saved_predictions


@pytest.fixture(scope="module")
def curves(trained_run):
    """TensorBoard's plugin for curves on the run directory: curves(phase, label) gives what its page shows."""
    multiplexer = plugin_event_multiplexer.EventMultiplexer().AddRunsFromDirectory(f"{trained_run}/tensorboard")
    multiplexer.Reload()
    context = types.SimpleNamespace(
        data_provider=data_provider.MultiplexerDataProvider(multiplexer, trained_run), sampling_hints=None
    )
    plugin = pr_curves_plugin.PrCurvesPlugin(context)

    def read(phase, label):
        (run,) = [f"{phase}/validation"]
        return plugin.pr_curves_impl(RequestContext(), "", [run], f"pr_curve/{label}")[run]

    return read


@pytest.mark.parametrize(("phase", "epoch"), [("head", 3), ("finetune", 1)])
def test_every_label_has_a_curve_at_the_end_of_each_phase(phase, epoch, curves):
    for label in synthetic.LABELS:
        (curve,) = curves(phase, label)
        assert curve["step"] == epoch
        assert len(curve["recall"]) > 1
        assert curve["recall"][0] == 1


def test_the_last_curves_are_those_of_the_model_that_was_kept(curves, trained_run):
    found = saved_predictions.of_split(run_dir.load(trained_run), split="validation")
    for column, label in enumerate(run_dir.load(trained_run).labels):
        (curve,) = curves("finetune", label)
        truth = found.targets[:, column]
        for at in (0, len(curve["thresholds"]) // 2):
            said = np.floor(found.probabilities[:, column] * 100) / 100 >= curve["thresholds"][at] - 1e-9
            assert curve["precision"][at] == pytest.approx(sklearn.metrics.precision_score(truth, said))
            assert curve["recall"][at] == pytest.approx(sklearn.metrics.recall_score(truth, said))
            assert curve["true_positives"][at] == int((said & (truth == 1)).sum())


def test_what_is_not_known_is_in_no_count():
    targets = np.array([1, 0, -1, 1, -1], np.float32)
    curve = summaries.pr_curve(targets, np.array([0.9, 0.9, 1.0, 0.1, 0.0]), num_thresholds=11)
    assert curve[:4].sum(axis=0).tolist() == [3] * 11
    assert curve[:, 5].tolist() == pytest.approx([1, 1, 0, 1, 0.5, 0.5])  # from a probability of 0.5 on
    assert curve[:4, 10].tolist() == [0, 0, 1, 2]


def test_a_label_on_no_image_has_a_curve_of_zeros():
    curve = summaries.pr_curve(np.zeros(3, np.float32), np.array([0.2, 0.5, 1.0]))
    assert np.isfinite(curve).all()
    assert not curve[5].any()


def test_sample_images_are_there_with_their_tags(trained_run):
    events = event_accumulator.EventAccumulator(f"{trained_run}/tensorboard/finetune/validation")
    events.Reload()
    (event,) = events.Tensors("samples")
    assert event.step == 1
    width, height, data = event.tensor_proto.string_val[:3]
    image = Image.open(io.BytesIO(data))
    assert (image.width, image.height) == (int(width), int(height))
    pixels = np.asarray(image)
    assert min(image.size) > 400
    assert 0.01 < (pixels < 100).mean() < 0.9  # neither empty nor black


def test_captions_say_what_was_thought_and_what_is_right():
    names = ["cat", "dog", "sky", "sea"]
    probabilities = np.array([0.2, 0.914, 0.3, 0.1])
    assert summaries.caption(names, np.array([1, 0, -1, 1]), probabilities) == (
        "dog 0.91, sky 0.30, cat 0.20 (right: cat, sea)"
    )
    assert summaries.caption(names, np.zeros(4), probabilities).endswith("(right: none)")


def test_plots_are_there_as_pictures_and_as_vectors(trained_run):
    folder = os.path.join(trained_run, run_dir.PLOTS_DIR)
    with Image.open(os.path.join(folder, "history.png")) as image:
        assert image.width > 2 * image.height
    root = ET.parse(os.path.join(folder, "history.svg")).getroot()
    assert root.tag.endswith("svg")


def test_the_same_history_gives_the_same_files(tmp_path):
    rows = [
        {"phase": phase, "epoch": epoch, "learning_rate": rate, "loss": 1 / epoch, "val_loss": 1.2 / epoch}
        for phase, epoch, rate in (("head", 1, 1e-3), ("head", 2, 5e-4), ("finetune", 1, 1e-5))
    ]
    drawn = []
    for name in "ab":
        plots.draw_history(rows, str(tmp_path / name))
        drawn.append([(tmp_path / name / "plots" / f"history.{kind}").read_bytes() for kind in ("png", "svg")])
    assert drawn[0] == drawn[1]
    assert not [path for path in (tmp_path / "a" / "plots").iterdir() if "tmp" in path.name]
