"""What earlier versions made goes on in a version that has one setting more."""

import dataclasses
import json

import numpy as np
import pytest

from tfr import conversion, manifests, recorded
from tfr.annotations import ReadOptions
from tfr.config import ConvertConfig
from tfr.errors import DatasetError, RunDirError, UsageError
from tfr.features import RecordSchema
from tfr.image_options import ImageOptions
from tfr.train import checkpoints
from tfr.train.checkpoints import Store
from tfr.train.config import DataConfig, ModelConfig, TrainConfig
from tfr.train.embedding.directory import EmbeddingDir
from tfr.train.embedding.plan import Recipe
from tfr.train.pipeline import Pipeline, Stage

# The settings that are always on record: those of 0.1.0.
FIRST = {
    ConvertConfig: "annotations data_dir name output_dir images version append_to format read image label_mode "
    "label_map corrections labels_file labels has_unknown min_label_count exclude_labels on_duplicate split_ratios "
    "stratify group_near_duplicates split_seed list_images max_examples_per_split num_shards max_shard_size_mb "
    "file_format max_rejects overwrite planner runner num_workers beam_args threads_per_worker description",
    ReadOptions: "images id_column image_column image_template label_columns label_encoding label_delimiter "
    "split_column group_column keep_columns delimiter encoding where empty_labels classes_file min_confidence "
    "mirflickr_labels filename_template strip_prefix split_from_folder ignore_splits allow_outside",
    ImageOptions: "image_size max_pixels min_side jpeg_quality keep_png icc_to_srgb check_images",
    RecordSchema: "names multi_label has_unknown columns keep_png has_fingerprint",
    TrainConfig: "run_dir data model epochs learning_rate finetune_epochs finetune_learning_rate unfreeze layer_decay "
    "optimizer schedule warmup_epochs weight_decay clip_norm ema_decay loss label_smoothing patience monitor keep seed "
    "strategy num_virtual_devices precision jit_compile checkpoint_secs overwrite",
    DataConfig: "dataset data_dir bottlenecks train_split validation_split batch_size resize augment sample "
    "positive_weights",
    ModelConfig: "backbone weights image_size features hidden_units ensemble_size dropout",
    Recipe: "backbone weights image_size features resize preprocessing embedding_size dtype num_views augment seed",
}


@pytest.mark.parametrize("kind", FIRST, ids=lambda kind: kind.__name__)
def test_settings_that_came_later_are_declared_so(kind):
    known = FIRST[kind].split()
    late = [field for field in dataclasses.fields(kind) if field.name not in known]
    undeclared = [field.name for field in late if field.metadata != recorded.added(None).metadata]
    assert undeclared == [], "declare new fields as `recorded.added(default)`, or nothing made before goes on"


def later(kind):
    """A class of settings as a later version may have it: with a field more."""
    fields = [("sharpen", bool, recorded.added(False))]
    return dataclasses.make_dataclass(f"Later{kind.__name__}", fields, bases=(kind,), frozen=True, kw_only=True)


def test_what_goes_on_record():
    inner = later(ImageOptions)(image_size=8)
    outer = dataclasses.replace(
        later(ConvertConfig)(annotations="a", data_dir="d", name="n", image=inner), sharpen=True
    )
    found = recorded.values(outer, without=("annotations", "read"))
    assert not {"annotations", "read"} & found.keys()
    assert found["sharpen"] is True
    assert found["image"] == recorded.values(ImageOptions(image_size=8))
    assert found == json.loads(json.dumps(found)), "tuples are lists, as they are read back"


def test_differences_count_whatever_is_on_record_on_either_side():
    assert recorded.difference({"a": 1, "b": "x"}, {"a": 1, "b": "x"}) == ""
    assert recorded.difference({"a": 1}, {"a": 2, "b": "x"}) == "a: 1 -> 2; b: None -> 'x'"
    assert recorded.difference({"a": 1, "gone": True}, {"a": 1}) == "gone: True -> None"


@pytest.fixture
def options(write_photos, tmp_path):
    images = write_photos([f"{label}/{i}.jpg" for label in "ab" for i in range(4)])
    return {"annotations": str(images), "data_dir": str(tmp_path / "data"), "name": "pets", "num_shards": 1}


def test_a_dataset_goes_on_in_a_version_with_more_settings(options):
    made = conversion.convert(ConvertConfig(**options))
    same = {"image": later(ImageOptions)()}
    assert conversion.convert(later(ConvertConfig)(**options, **same)).reused
    with pytest.raises(DatasetError, match=r"another config \(sharpen: None -> True\)"):
        conversion.convert(later(ConvertConfig)(**options, **same, sharpen=True))
    with pytest.raises(DatasetError, match=r"another config \(sharpen: None -> True\)"):
        conversion.convert(ConvertConfig(**options, image=later(ImageOptions)(sharpen=True)))
    conversion.convert(later(ConvertConfig)(**options, sharpen=True, overwrite=True))
    with pytest.raises(DatasetError, match=r"another config \(sharpen: True -> None\)"):
        conversion.convert(ConvertConfig(**options))
    assert made.records_written == 8


def test_finished_shards_of_a_killed_conversion_and_of_an_old_version_are_kept(options):
    before, schema = ConvertConfig(**options), RecordSchema(("a", "b"))
    now = later(ConvertConfig)(**options, image=later(ImageOptions)())
    changed = dataclasses.replace(now, image=later(ImageOptions)(sharpen=True))
    kept = manifests.settings_digest(schema, before)
    assert manifests.settings_digest(later(RecordSchema)(("a", "b")), now) == kept
    assert manifests.settings_digest(schema, changed) != kept


def test_a_training_run_goes_on_in_a_version_with_more_settings(tmp_path):
    config = TrainConfig(run_dir=str(tmp_path), data=DataConfig(dataset="x"))
    Store(config.run_dir, config.content()).save({"step": 3}, state=[np.zeros(2)])
    now = later(TrainConfig)(run_dir=str(tmp_path), data=later(DataConfig)(dataset="x"), model=later(ModelConfig)())
    position, _ = Store(config.run_dir, now.content()).load()
    assert position == {"step": 3}
    for changes in ({"sharpen": True}, {"data": later(DataConfig)(dataset="x", sharpen=True)}):
        with pytest.raises(UsageError, match=r"other settings \((data\.)?sharpen: None -> True\)"):
            Store(config.run_dir, dataclasses.replace(now, **changes).content()).load()
    position, _ = Store(config.run_dir, {**now.content(), checkpoints.EXAMPLES: "0"}).load()
    assert position == {"step": 3}


def test_a_training_run_of_networks_laid_out_otherwise_is_not_gone_on_with(tmp_path, monkeypatch):
    config = TrainConfig(run_dir=str(tmp_path), data=DataConfig(dataset="x")).content()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_LAYOUT", 1)
        checkpoints.Store(str(tmp_path), config).save({"step": 3}, state=[np.zeros(2)])
    with pytest.raises(RunDirError, match=r"state\.npz was written by another version of tfr.*remove the file"):
        checkpoints.Store(str(tmp_path), {**config, "epochs": 99}).load()


def test_embeddings_go_on_in_a_version_with_more_settings(tmp_path):
    made_by = {"backbone": "b", "weights": "0", "image_size": 8, "features": "last", "resize": "crop"}
    made_by |= {"preprocessing": 1, "embedding_size": 4, "dtype": "float16"}
    target = EmbeddingDir(str(tmp_path / "out"))
    target.start(recorded.values(Recipe(**made_by)))
    target.check(later(Recipe)(**made_by), [], overwrite=False)
    with pytest.raises(DatasetError, match=r"made otherwise \(sharpen: None -> True\)"):
        target.check(later(Recipe)(**made_by, sharpen=True), [], overwrite=False)


def test_a_stage_goes_on_in_a_version_with_more_settings(tmp_path):
    class Train(Stage):
        name, title, is_exclusive, place = "train", "Train", False, str(tmp_path / "run")

        def __init__(self, config):
            self.config = config

        def settings(self):
            return self.config.content()

        def inputs(self):
            return "as before"

        outputs = inputs

        def run(self, *, is_resumed):
            return f"resumed: {is_resumed}"

    def run(config):
        return Pipeline([Train(config)], str(tmp_path / "stages.json")).run(print)["train"]

    data = {"run_dir": str(tmp_path / "run"), "data": DataConfig(dataset="x")}
    assert run(TrainConfig(**data))
    assert not run(later(TrainConfig)(**data))
    assert run(later(TrainConfig)(**data, sharpen=True))
