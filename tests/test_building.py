"""`tfr build`: our builders, TFDS's own, and builders in a folder."""

import http.server
import json
import pathlib
import re
import shutil
import textwrap
import threading

import pytest
import tensorflow_datasets as tfds

import tfr
from tfr import cli, datasets
from tfr.errors import DatasetError, UsageError

POSTERS = pathlib.Path(datasets.__file__).parent / "movie_posters"

_FOREIGN = '''
"""A builder as TFDS users write them, on Beam."""
import apache_beam as beam
import numpy as np
import tensorflow_datasets as tfds

class Builder(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("2.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in ("few", "many")]

    def _info(self):
        features = tfds.features.FeaturesDict({"number": np.int64})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        URL
        return {"train": self._generate_examples(7 if self.builder_config.name == "few" else 70)}

    def _generate_examples(self, count):
        return beam.Create(range(count)) | beam.Map(lambda i: (i, {"number": i}))
'''


def write_foreign(folder, name, url=None):
    """A folder with a builder of TFDS's own kind; with a URL, it downloads that first."""
    path = folder / name
    path.mkdir(parents=True)
    download = f"dl_manager.download({url!r})" if url else "pass"
    (path / f"{name}_dataset_builder.py").write_text(textwrap.dedent(_FOREIGN).replace("URL", download))
    return str(path)


def run(capsys, *arguments):
    capsys.readouterr()
    code = cli.main(["build", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_one_of_ours_by_name(tmp_path, capsys):
    code, output, _ = run(capsys, "synthetic_shapes/tiny", f"--data_dir={tmp_path}", "--num_shards=2")
    assert code == 0
    assert output.startswith(f"Built: {tmp_path}/synthetic_shapes/tiny/1.0.0\n")
    for split, count in (("train", 50), ("validation", 6), ("test", 4)):
        assert re.search(rf"^  {split} +{count} examples, 0\.\d MiB in 2 shards \(tfrecord\)$", output, re.MULTILINE)
    assert re.search(r"^  rows read +60$", output, re.MULTILINE)
    assert len(tfds.load("synthetic_shapes/tiny", split="all", data_dir=tmp_path)) == 60
    code, output, _ = run(capsys, "synthetic_shapes", "--config=tiny", f"--data_dir={tmp_path}")
    assert (code, output.splitlines()[0]) == (
        0,
        f"Already built, nothing to do: {tmp_path}/synthetic_shapes/tiny/1.0.0",
    )


def test_a_folder_called_like_another_module(tmp_path, capsys):
    code, _, message = run(capsys, write_foreign(tmp_path, "numbers"), f"--data_dir={tmp_path / 'data'}")
    assert code == 2
    assert "Python finds another module called 'numbers'. Rename the folder" in message


def test_a_builder_that_imports_what_is_not_there(tmp_path):
    folder = pathlib.Path(write_foreign(tmp_path, "lacking"))
    file = folder / "lacking_dataset_builder.py"
    file.write_text("import no_such_module\n" + file.read_text())
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        tfr.build(str(folder), data_dir=str(tmp_path / "data"))


def test_a_quick_try_is_not_taken_for_the_whole(tmp_path, capsys):
    builder, place = write_foreign(tmp_path, "try_me"), f"--data_dir={tmp_path / 'data'}"
    code, output, _ = run(capsys, builder, place, "--max_examples_per_split=3")
    assert code == 0
    assert re.search(r"^  for a quick try +at most 3 examples of each split$", output, re.MULTILINE)
    code, output, _ = run(capsys, builder, place, "--max_examples_per_split=2", "--json")
    assert (code, json.loads(output)["reused"], json.loads(output)["max_examples_per_split"]) == (0, True, 3)
    for more in ([], ["--max_examples_per_split=4"]):
        code, _, message = run(capsys, builder, place, *more)
        assert code == 1
        assert re.search(r"has at most 3 examples of each split: .*--max_examples_per_split=3\. Say --over", message)
    code, output, _ = run(capsys, builder, place, "--overwrite", "--json")
    assert json.loads(output)["splits"]["train"]["examples"] == 7
    assert json.loads(output)["max_examples_per_split"] is None
    assert run(capsys, builder, place)[1].startswith("Already built")


def test_json_and_overwrite(tmp_path, capsys):
    arguments = ["synthetic_shapes/tiny", f"--data_dir={tmp_path}", "--max_examples_per_split=4", "--json"]
    made = json.loads(run(capsys, *arguments)[1])
    assert {name: split["examples"] for name, split in made["splits"].items()} == {
        "train": 4,
        "validation": 4,
        "test": 4,
    }
    assert not made["reused"]
    assert json.loads(run(capsys, *arguments)[1]) == {**made, "reused": True}
    again = json.loads(run(capsys, "synthetic_shapes/tiny", f"--data_dir={tmp_path}", "--overwrite", "--json")[1])
    assert sum(split["examples"] for split in again["splits"].values()) == 60
    assert not again["reused"]


def test_the_size_of_shards(tmp_path, capsys):
    arguments = ["synthetic_shapes", f"--data_dir={tmp_path}", "--max_shard_size_mb=1", "--json"]
    made = json.loads(run(capsys, *arguments)[1])
    assert made["splits"]["train"]["bytes"] > 2 << 20
    shards = list((tmp_path / "synthetic_shapes" / "demo" / "1.0.0").glob("*-train.*"))
    assert len(shards) == made["splits"]["train"]["shards"] > 2
    assert max(path.stat().st_size for path in shards) <= 1 << 20


def test_a_dataset_directory_is_not_taken_for_a_builders_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not tfr.build("synthetic_shapes", config="tiny", data_dir=".", max_examples_per_split=2).reused
    assert tfr.build("synthetic_shapes", config="tiny", data_dir=".", max_examples_per_split=2).reused


def test_another_file_format_than_that_of_the_files(tmp_path):
    tfr.build("synthetic_shapes/tiny", data_dir=str(tmp_path), max_examples_per_split=2)
    with pytest.raises(UsageError, match=r"is there as tfrecord, not as array_record\. Say --overwrite"):
        tfr.build("synthetic_shapes/tiny", data_dir=str(tmp_path), file_format="array_record")
    replaced = tfr.build("synthetic_shapes/tiny", data_dir=str(tmp_path), file_format="array_record", overwrite=True)
    assert replaced.file_format == "array_record"
    assert not list((tmp_path / "synthetic_shapes" / "tiny" / "1.0.0").glob("*.tfrecord-*"))


def test_a_manual_folder(tmp_path, capsys):
    result = tfr.build("movie_posters", data_dir=str(tmp_path), manual_dir=str(POSTERS / "dummy_data"))
    assert result.conversion["rows_read"] == sum(
        [result.conversion["records_written"], *result.conversion["rejects_by_reason"].values()]
    )
    code, output, errors = run(capsys, "movie_posters", f"--data_dir={tmp_path / 'other'}")
    assert (code, output) == (1, "")
    assert f"needs data that a person has to fetch, and {tmp_path}/other/downloads/manual is missing" in errors
    assert "--manual_dir" in errors
    assert "train.csv" in errors


def test_array_records(tmp_path):
    result = tfr.build("synthetic_shapes/tiny", data_dir=str(tmp_path), file_format="array_record")
    assert result.file_format == "array_record"
    assert len(tfds.data_source("synthetic_shapes/tiny", data_dir=tmp_path, split="train")) == 50


@pytest.mark.parametrize(
    "arguments", [[], ["--runner=DirectRunner"], ["--runner=BundleBasedDirectRunner"], ["--", "--direct_num_workers=2"]]
)
def test_any_builder_of_tfds_on_any_runner(tmp_path, capsys, arguments):
    folder = write_foreign(tmp_path, f"foreign_{len(arguments)}{len(''.join(arguments))}")
    code, output, errors = run(capsys, folder, "--config=few", f"--data_dir={tmp_path / 'data'}", *arguments)
    assert code == 0, errors
    assert "  train                   7 examples" in output
    assert "Prism" not in errors
    name = pathlib.Path(folder).name
    numbers = [
        int(example["number"]) for example in tfds.load(f"{name}/few", split="train", data_dir=tmp_path / "data")
    ]
    assert sorted(numbers) == list(range(7))


@pytest.fixture
def empty_server():
    """The address of a web server that has nothing."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_download_that_fails(tmp_path, capsys, empty_server):
    folder = write_foreign(tmp_path, "far_away", f"{empty_server}/images.zip")
    code, output, errors = run(capsys, folder, f"--data_dir={tmp_path / 'data'}")
    assert (code, output) == (1, "")
    assert re.search(rf"^tfr: far_away: a download failed\..*{empty_server}/images.zip.*404", errors, re.MULTILINE)


def test_what_is_incomplete_is_not_taken_for_a_dataset(tmp_path):
    (tmp_path / "synthetic_shapes" / "tiny" / "1.0.0").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"tiny/1\.0\.0 is there, but no complete dataset. Say --overwrite"):
        tfr.build("synthetic_shapes/tiny", data_dir=str(tmp_path))
    assert not tfr.build("synthetic_shapes/tiny", data_dir=str(tmp_path), overwrite=True).reused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "takes one builder's name or folder.*Received: nothing"),
        (["a", "b"], "Received: a b"),
        (
            ["synthetic_shape"],
            r"No builder is called 'synthetic_shape'.*Did you mean 'synthetic_shapes'\?.*movie_posters",
        ),
        (["Not/A/Name/At/All"], "name looks like name, name/config or name/config:1.0.0. Received: 'Not/A/"),
        (["synthetic_shapes/huge"], "has no config 'huge'. Its configs are demo, tiny"),
        (["synthetic_shapes/tiny:9.0.0"], r"synthetic_shapes: .*cannot be loaded at version 9\.0\.0, only: 1\.0\.0"),
        (["synthetic_shapes/tiny", "--config=demo"], "Two configs: synthetic_shapes/tiny and --config=demo"),
        (["annotated_images"], "wants either `annotations`.*`tfr convert`"),
        (["synthetic_shapes", "--file_format=zip"], "--file_format must be one of .*array_record.*Received: zip"),
        (["synthetic_shapes", "--runner=NoRunner"], "--runner=NoRunner: Beam refuses it"),
        (["synthetic_shapes", "--", "--max_num_wrokers=3"], "Beam has no option --max_num_wrokers. Did you mean"),
        (["synthetic_shapes", "--", "--direct_running_mode=multi_threading"], "loses records silently"),
        (["."], r"holds no builder: there is no .*_dataset_builder\.py.*`tfr new NAME`"),
    ],
)
def test_wrong_calls_exit_with_2_and_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    place = arguments.index("--") if "--" in arguments else len(arguments)
    code, output, errors = run(capsys, *arguments[:place], f"--data_dir={tmp_path / 'data'}", *arguments[place:])
    assert (code, output) == (2, "")
    assert re.search(message, errors)
    assert errors.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_unknown_options_are_named():
    with pytest.raises(UsageError, match=r"unknown options \['manual'\].*manual_dir"):
        tfr.build("synthetic_shapes", manual="x")


def test_a_folder_that_another_package_hides_is_not_taken_for_it(tmp_path):
    first, second = (write_foreign(tmp_path / place, "twice") for place in "ab")
    tfr.build(first, config="few", data_dir=str(tmp_path / "data"))
    with pytest.raises(UsageError, match=r"another package called 'twice', in .*/a/twice"):
        tfr.build(second, config="few", data_dir=str(tmp_path / "other"))


@pytest.mark.parametrize("name", ["synthetic_shapes", pytest.param("movie_posters", marks=pytest.mark.slow)])
def test_tfdss_own_build_command_works_in_a_builders_folder(name, tmp_path, run_python):
    pytest.importorskip("mlcroissant", reason="the tfds command needs it: pip install 'tfr[tfds-cli]'")
    source = pathlib.Path(datasets.__file__).parent / name
    folder = tmp_path / name
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("__pycache__"))
    config = {"synthetic_shapes": "tiny", "movie_posters": "all"}[name]
    finished = run_python(
        "-m",
        "tensorflow_datasets.scripts.cli.main",
        "build",
        f"--data_dir={tmp_path / 'data'}",
        f"--manual_dir={folder / 'dummy_data'}",
        f"--config={config}",
        cwd=folder,
    )
    assert finished.returncode == 0, finished.stderr
    assert len(tfds.load(f"{name}/{config}", split="train", data_dir=tmp_path / "data")) > 0
