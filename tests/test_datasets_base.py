"""What all named datasets have from their base class: TFDS's files, its options, its ways to run."""

import importlib.util
import json
import pathlib
import sys

import pytest
import tensorflow_datasets as tfds
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability import fn_api_runner

from tfr import datasets, shards
from tfr.datasets import base
from tfr.errors import ConversionError, UsageError

BUILDERS = [tfds.builder_cls(name) for name in datasets.NAMES]
DUMMY_DATA = tfds.builder_cls("movie_posters").code_path.parent / "dummy_data"


@pytest.fixture
def build(tmp_path):
    """build(folder, manual_dir, **options): a prepared builder of posters in a folder of its own."""

    def make(folder="a", manual_dir=DUMMY_DATA, **options):
        builder = tfds.builder("movie_posters", data_dir=tmp_path / folder)
        config = tfds.download.DownloadConfig(manual_dir=manual_dir, **options)
        builder.download_and_prepare(download_config=config)
        return builder

    return make


def records(builder):
    paths = sorted(builder.data_path.glob("*.tfrecord-*"))
    return {path.name: list(shards.read_records(str(path))) for path in paths}


@pytest.mark.parametrize("cls", BUILDERS, ids=datasets.NAMES)
def test_tfds_finds_the_files_beside_the_builder(cls):
    assert cls.code_path.name == f"{cls.name}_dataset_builder.py"
    assert {path.name for path in cls.pkg_dir_path.iterdir()} >= {"README.md", "TAGS.txt", "dummy_data"}
    metadata = cls.get_metadata()
    assert len(metadata.description) > 50
    assert metadata.tags


@pytest.mark.parametrize("cls", BUILDERS, ids=datasets.NAMES)
def test_dummy_data_are_small(cls):
    paths = pathlib.Path(cls.pkg_dir_path, "dummy_data").rglob("*")
    assert 0 < sum(path.stat().st_size for path in paths if path.is_file()) < 64 << 10


def test_importing_registers_all_without_tensorflow_and_beam(run_python):
    script = (
        "import sys, tfr.datasets, tensorflow_datasets as tfds\n"
        "classes = [tfds.builder_cls(name) for name in tfr.datasets.NAMES]\n"
        "print([name for name in ('tensorflow', 'apache_beam', 'pandas') if name in sys.modules])"
    )
    finished = run_python("-c", script)
    assert finished.stdout == "[]\n", finished.stderr


def test_importing_tfr_does_not_import_the_builders(run_python):
    finished = run_python("-c", "import sys, tfr; print('tensorflow_datasets' in sys.modules)")
    assert finished.stdout == "False\n", finished.stderr


def test_tfds_build(run_python, tmp_path):
    finished = run_python(
        "-c", "from tensorflow_datasets.scripts.cli.main import launch_cli; launch_cli()",
        "build", "movie_posters/frequent", "--imports=tfr.datasets", f"--manual_dir={DUMMY_DATA}",
        f"--data_dir={tmp_path}", "--num_shards=2",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    builder = tfds.builder_from_directory(tmp_path / "movie_posters/frequent/1.0.0")
    assert (builder.info.splits["train"].num_examples, builder.info.splits["train"].num_shards) == (6, 2)


def test_load_in_one_call(tmp_path):
    images, info = tfds.load(
        "movie_posters/all",
        split="train[:50%]",
        data_dir=tmp_path,
        as_supervised=True,
        with_info=True,
        download_and_prepare_kwargs={"download_config": tfds.download.DownloadConfig(manual_dir=DUMMY_DATA)},
    )
    assert len(images) == 4
    assert images.element_spec[0].shape.rank == 3
    assert info.name == "movie_posters"


@pytest.mark.parametrize(
    "options",
    [
        {"beam_runner": "FnApiRunner"},
        {"beam_runner": fn_api_runner.FnApiRunner()},
        {"beam_options": PipelineOptions(["--direct_num_workers=2", "--direct_running_mode=multi_processing"])},
        {"beam_options": PipelineOptions(["--runner=BundleBasedDirectRunner"])},
    ],
    ids=["name", "instance", "options", "runner in options"],
)
def test_any_runner_writes_the_same_records(build, options):
    assert records(build("a")) == records(build("b", **options))


def test_the_command_line_of_this_process_is_not_taken_for_beams(build, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["prog", "--runner=DataflowRunner", "--direct_running_mode=multi_threading"])
    assert build().info.splits["train"].num_examples == 7


def test_the_runner_that_loses_records_is_refused(build):
    with pytest.raises(UsageError, match="loses records silently"):
        build(beam_options=PipelineOptions(["--direct_running_mode=multi_threading"]))


def test_max_examples_per_split(build):
    builder = build(max_examples_per_split=3)
    sizes = {name: info.num_examples for name, info in builder.info.splits.items()}
    assert sizes == {"test": 2, "train": 2, "validation": 1}  # one of the three posters for training is broken
    assert builder.info.metadata["rejects_by_reason"] == {
        "duplicate_id": 1, "no_image": 1, "over_limit": 5, "truncated": 1,
    }  # fmt: skip
    everything = [record for shard in records(build("b")).values() for record in shard]
    assert all(record in everything for shard in records(builder).values() for record in shard)


def test_no_examples_are_made_where_none_are_wanted(build):
    assert not build(max_examples_per_split=0).info.splits


def test_num_shards(build):
    lengths = build(num_shards=3).info.splits["train"].shard_lengths
    assert len(lengths) == 3
    assert sum(lengths) == 7


def test_array_records(tmp_path):
    pytest.importorskip("array_record", reason="it has no wheels for every machine")
    builder = tfds.builder("movie_posters", data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=DUMMY_DATA))
    source = tfds.data_source("movie_posters", data_dir=tmp_path, split="train")
    assert len(source) == 7
    assert source[6]["image"].shape[2] == 3


@pytest.mark.parametrize(("options", "expected"), [({}, 128), ({"max_shard_size": 300 << 20}, 300)])
def test_max_shard_size(build, options, expected):
    conversion = json.loads((build(**options).data_path / "conversion.json").read_text())
    assert conversion["config"]["max_shard_size_mb"] == expected


def test_nothing_is_left_of_a_build_that_fails(build, tmp_path):
    source = tmp_path / "source"
    (source / "Images").mkdir(parents=True)
    (source / "train.csv").write_text((DUMMY_DATA / "train.csv").read_text())
    for path in (DUMMY_DATA / "Images").iterdir():
        (source / "Images" / path.name).write_bytes(b"no image")
    with pytest.raises(ConversionError, match="not_an_image"):
        build(manual_dir=source)
    assert not list((tmp_path / "a" / "movie_posters" / "all").iterdir())


def test_lost_rows_are_warned_of(build, caplog):
    builder = build()
    (message,) = [record.getMessage() for record in caplog.records if "became no example" in record.getMessage()]
    assert "2 of 13 rows became no example (no_image 1, truncated 1)" in message
    assert message.endswith(f"{builder.data_path}/rejected.jsonl.")


def test_without_a_manual_directory_it_says_what_is_needed(build, tmp_path):
    with pytest.raises(AssertionError, match=r"train\.csv"):
        build(manual_dir=tmp_path / "nowhere")


def test_image_size_and_splits_are_options_of_every_config(tmp_path):
    cls = tfds.builder_cls("movie_posters")
    config = type(cls.BUILDER_CONFIGS[0])(name="small", image_size=8, splits="train=0.5,test=0.5")
    builder = cls(data_dir=tmp_path, config=config)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=DUMMY_DATA))
    assert set(builder.info.splits) == {"train", "test"}
    assert {min(example["image"].shape[:2]) for example in tfds.as_numpy(builder.as_dataset("train"))} == {8}


def test_splits_that_make_no_sense_are_refused_at_once():
    with pytest.raises(UsageError, match="train=many"):
        base.TaggedImagesConfig(name="x", splits="train=many")


def test_a_copy_of_a_builder_finds_its_own_files(tmp_path):
    """As `tfds build` imports it in a folder of its own, under a name that is not the installed one."""
    folder = tmp_path / "movie_posters"
    source = tfds.builder_cls("movie_posters").pkg_dir_path
    folder.mkdir()
    for name in ("movie_posters_dataset_builder.py", "TAGS.txt"):
        (folder / name).write_text((source / name).read_text())
    (folder / "README.md").write_text("A copy.")
    spec = importlib.util.spec_from_file_location("copied.builder", folder / "movie_posters_dataset_builder.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        with tfds.core.registered.skip_registration():
            spec.loader.exec_module(module)
        assert module.Builder.get_metadata().description == "A copy."
    finally:
        del sys.modules[spec.name]
