"""The job as Dataflow gets it: a template written offline, which also runs here, on another runner."""

import base64
import bz2
import getpass
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tarfile

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms import environments
from conversion_checks import assert_clean, shard_bytes, stamps

from tfr import beam_options, conversion, planning, runners, shard_writer, splits, write_job
from tfr.errors import JobElsewhereError, MissingDependencyError, UsageError
from tfr.features import RecordSchema
from tfr.images import ImageOptions

ROOT = pathlib.Path(__file__).resolve().parent.parent
IMAGE = "--sdk_container_image=registry.example/tfr:1"


@pytest.fixture
def gcp():
    pytest.importorskip("apache_beam.runners.dataflow.internal.apiclient", exc_type=ImportError)


def offline(folder, *more):
    """Options for a template that needs neither network nor credentials: a local endpoint switches checks off."""
    for name in ("staging", "temp"):
        (folder / name).mkdir(parents=True)
    return (
        "--project=p", "--region=europe-west1", "--no_auth", "--dataflow_endpoint=http://localhost:9",
        f"--staging_location={folder}/staging", f"--temp_location={folder}/temp",
        f"--template_location={folder}/job.json", *more,
    )  # fmt: skip


@pytest.fixture
def checkout(tmp_path):
    """A copy of what `setup.py` packs: building leaves traces beside it."""
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("tfr", "datasets", "train"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def staged_pipeline(folder):
    return beam_runner_api_pb2.Pipeline.FromString((folder / "staging" / "pipeline.pb").read_bytes())


def pickled_functions(folder):
    steps = staged_pipeline(folder).components.transforms.values()
    payloads = [step.spec.payload for step in steps if step.spec.urn == "beam:transform:pardo:v1"]
    return [beam_runner_api_pb2.ParDoPayload.FromString(payload).do_fn.payload for payload in payloads]


def write_remote_template(make_config, folder, *more):
    """The template of a job between object stores, as far as a machine without them can make it."""
    config = make_config(
        data_dir="gs://out/data", images="gs://in/images", runner="DataflowRunner", beam_args=offline(folder, *more)
    )
    names = [f"pets-train.tfrecord-{index:05}-of-00003" for index in range(3)]
    plan_dir = f"{config.dataset_dir}/.plan"
    plans = [
        planning.ShardPlan("train", index, 3, name, f"{plan_dir}/{name}.jsonl", 9, "0" * 32)
        for index, name in enumerate(names)
    ]
    settings = shard_writer.WriteSettings(
        dataset_dir=config.dataset_dir,
        plan_dir=plan_dir,
        image_dir=config.image_dir,
        previous_dir="",
        schema=RecordSchema(("cat", "dog"), True, False, ()),
        image=ImageOptions(),
        threads=2,
    )
    runner = runners.prepare(config)
    with pytest.raises(JobElsewhereError, match=r"The job's template is at \S+job.json; it has not run"):
        runner.run(lambda pipeline: write_job.build_pipeline(pipeline, plans, settings))


@pytest.mark.slow
@pytest.mark.usefixtures("gcp", "many")
def test_the_staged_pipeline_writes_the_same_shards(make_config, tmp_path, monkeypatch):
    monkeypatch.setattr(beam_options, "refuse_local_paths", lambda *_: None)
    changes = {"split_ratios": splits.parse_ratios("train=0.7,test=0.3"), "num_shards": 3}
    reference = conversion.convert(make_config(data_dir=str(tmp_path / "reference"), **changes))
    folder = tmp_path / "dataflow"
    with pytest.raises(JobElsewhereError, match=r"without --template_location"):
        conversion.convert(make_config(runner="DataflowRunner", beam_args=offline(folder, IMAGE), **changes))
    pipeline = staged_pipeline(folder)
    for environment in pipeline.components.environments.values():
        environment.CopyFrom(environments.EmbeddedPythonEnvironment.default().to_runner_api(None))
    FnApiRunner().run_via_runner_api(pipeline, PipelineOptions([])).wait_until_finish()
    dataset = pathlib.Path(make_config().dataset_dir)
    assert shard_bytes(dataset) == shard_bytes(reference.dataset_dir)
    written = {name: stamp for name, stamp in stamps(dataset).items() if ".tfrecord-" in name}
    result = conversion.convert(make_config(**changes))  # publishes what is there
    assert {name: stamp for name, stamp in stamps(dataset).items() if name in written} == written
    assert result.records_written == reference.records_written == 38
    assert_clean(dataset)


@pytest.mark.slow
@pytest.mark.usefixtures("gcp")
def test_the_graph_is_a_chain_and_shuffles_by_deterministic_keys(make_config, tmp_path):
    write_remote_template(make_config, tmp_path, IMAGE)
    parts = staged_pipeline(tmp_path).components
    steps = {t.unique_name: t for t in parts.transforms.values() if t.spec.urn and not t.subtransforms}
    consumed = [name for step in steps.values() for name in step.inputs.values()]
    assert len(consumed) == len(set(consumed)), "a collection goes two ways"
    leaves = [n for n, step in steps.items() if not set(step.outputs.values()) & set(consumed)]
    assert leaves == ["WriteShard"]
    shuffles = [step for step in steps.values() if step.spec.urn == "beam:transform:group_by_key:v1"]
    assert shuffles  # of shard plans: that is what spreads them over workers
    for step in shuffles:
        (input_,) = step.inputs.values()
        coder = parts.coders[parts.pcollections[input_].coder_id]
        key = parts.coders[coder.component_coder_ids[0]]
        assert (coder.spec.urn, key.spec.urn) == ("beam:coder:kv:v1", "beam:coder:varint:v1")


@pytest.mark.slow
@pytest.mark.usefixtures("gcp")
def test_nothing_of_this_machine_is_in_it(make_config, tmp_path):
    write_remote_template(make_config, tmp_path, IMAGE)
    assert [path.name for path in (tmp_path / "staging").iterdir()] == ["pipeline.pb"]
    data = (tmp_path / "staging" / "pipeline.pb").read_bytes()
    pickles = [bz2.decompress(base64.b64decode(text)) for text in pickled_functions(tmp_path)]
    assert any(b"WriteShardDoFn" in text for text in pickles)
    assert any(b"gs://out/data" in text for text in pickles)
    local = {str(ROOT), os.getcwd(), os.path.expanduser("~"), sys.prefix, str(tmp_path)}
    # A short name, such as 'vm', may be part of any word.
    local |= {name for name in (socket.gethostname(), getpass.getuser()) if len(name) > 4}
    # Beam pickles lambdas of its own with the name of the file that they stand in.
    parts = [re.sub(rb"[\w./-]*/apache_beam/[\w/]+\.py", b"", part) for part in (data, *pickles)]
    found = {text for text in local if any(text.encode() in part for part in parts)}
    assert not found
    pools = json.loads((tmp_path / "job.json").read_text())["environment"]["workerPools"]
    assert [pool["sdkHarnessContainerImages"][0]["containerImage"] for pool in pools] == ["registry.example/tfr:1"]


@pytest.mark.slow
@pytest.mark.usefixtures("gcp")
def test_the_package_that_is_staged_has_all_three_folders(make_config, checkout, tmp_path, run_python):
    write_remote_template(make_config, tmp_path / "out", f"--setup_file={checkout}/setup.py")
    with tarfile.open(tmp_path / "out" / "staging" / "workflow.tar.gz") as package:
        package.extractall(tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    installed = tmp_path / "installed"
    command = [sys.executable, "setup.py", "--quiet", "build", "--build-lib", installed]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    for name, folder in {"tfr": "tfr", "tfr/datasets": "datasets", "tfr/train": "train"}.items():
        ours = {path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*.py")}
        assert {path for path in ours if not (installed / name / path).exists()} == set()
    script = "from tfr import write_job; import tfr.datasets; print(write_job.__file__, tfr.datasets.__file__)"
    done = run_python("-c", script, cwd=tmp_path / "out", env={"PYTHONPATH": str(installed)})
    assert done.stdout.split() == [str(installed / "tfr" / name) for name in ("write_job.py", "datasets/__init__.py")]


REFUSALS = {
    "local output": ({"images": "gs://in/images"}, (IMAGE,), r"--data_dir=\S+ is on this machine, and Dataflow"),
    "local images": ({"data_dir": "gs://out/data"}, (IMAGE,), r"--images=\S+images is on this machine, and Dataflow"),
    "a local URI": (
        {"data_dir": "gs://out/data", "images": "file:///images"}, (IMAGE,), r"--images=file:///images is on this"
    ),
    "no package": (
        {"data_dir": "gs://out/data", "images": "gs://in/images"}, (), "workers need tfr: .*--sdk_container_image="
    ),
    "a misspelt option": (
        {"data_dir": "gs://out/data", "images": "gs://in/images"}, (IMAGE, "--machine_typ=x"),
        r"no option --machine_typ\. Did you mean --machine_type\?",
    ),
}  # fmt: skip


@pytest.mark.usefixtures("gcp", "pets")
@pytest.mark.parametrize("kind", REFUSALS)
def test_jobs_that_cannot_work_are_refused(kind, make_config, tmp_path):
    changes, arguments, message = REFUSALS[kind]
    config = make_config(runner="DataflowRunner", beam_args=offline(tmp_path / "out", *arguments), **changes)
    with pytest.raises(UsageError, match=message):
        conversion.convert(config)


def test_the_extra_is_named_where_it_is_missing(make_config, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam.runners.dataflow.internal.apiclient", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'tfr\[gcp\]'"):
        conversion.convert(make_config(runner="DataflowRunner"))


def test_the_container_gets_all_that_the_package_is_built_from():
    lines = (ROOT / "tfr" / "docker" / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = {source for line in lines if line.startswith("COPY ") for source in line.split()[1:-1]}
    packed = {"tfr", "datasets", "train"}
    assert copied == {"setup.py", "pyproject.toml", "README.md", "LICENSE", *packed}
    assert packed == {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
