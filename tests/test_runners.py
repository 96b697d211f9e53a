import contextlib
import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import apache_beam as beam
import pytest

from tfr import conversion, dataset_dir, engines, planning, runners, shard_writer, splits, write_job
from tfr.annotations import ReadOptions
from tfr.config import ConvertConfig
from tfr.errors import ConversionError, MissingDependencyError, UsageError

NUM_IMAGES = 500
LABELS = ["bird", "cat", "dog"]


@pytest.fixture(scope="module")
def annotated(tmp_path_factory, make_photo, encode):
    """A folder with 500 small images, some PNGs and some broken, and their annotations."""
    root = tmp_path_factory.mktemp("annotated")
    (root / "images").mkdir()
    with open(root / "annotations.csv", "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", *LABELS])
        for i in range(NUM_IMAGES):
            is_png = i % 50 == 0
            data = encode(make_photo(i), "PNG" if is_png else "JPEG")
            if i in (77, 401):
                data = data[:-200] if i == 77 else b"broken"
            (root / "images" / f"{i:03}.{'png' if is_png else 'jpg'}").write_bytes(data)
            rows.writerow([f"{i:03}", i % 2, int(i % 3 == 0), int(i % 5 == 0)])
    return root


@pytest.fixture(scope="module")
def make_config(annotated, tmp_path_factory):
    """make_config(**changes): a conversion of the 500 images into a folder of its own."""

    def make(**changes):
        settings = {
            "annotations": str(annotated / "annotations.csv"),
            "images": str(annotated / "images"),
            "data_dir": str(tmp_path_factory.mktemp("data") / "data"),
            "name": "pets",
            "read": ReadOptions(label_columns=("bird:dog",), label_encoding="one_hot"),
            "split_ratios": splits.parse_ratios("train=0.7,test=0.3"),
            "num_shards": 4,
        }
        return ConvertConfig(**{**settings, **changes})

    return make


def shard_bytes(folder):
    return {path.name: path.read_bytes() for path in sorted(pathlib.Path(folder).glob("*.tfrecord-*"))}


def rejects_of(folder):
    return pathlib.Path(folder, dataset_dir.REJECTED_FILE).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def reference(make_config):
    """The 500 images converted in this process without threads."""
    result = conversion.convert(make_config(threads_per_worker=0))
    assert (result.records_written, result.rejects_by_reason) == (498, {"not_an_image": 1, "truncated": 1})
    assert len(shard_bytes(result.dataset_dir)) == 8
    return result


def assert_same(result, reference):
    """The same shards, byte for byte, the same rejects, and nothing left of how they came to be."""
    assert shard_bytes(result.dataset_dir) == shard_bytes(reference.dataset_dir)
    assert rejects_of(result.dataset_dir) == rejects_of(reference.dataset_dir)
    assert result.rejects_by_reason == reference.rejects_by_reason
    names = {path.name for path in pathlib.Path(result.dataset_dir).rglob("*")}
    assert names == {path.name for path in pathlib.Path(reference.dataset_dir).rglob("*")}


# The same bytes everywhere

RUNS = {
    "one thread": {"threads_per_worker": 1},
    "many threads": {"threads_per_worker": 7},
    "two workers in one process": {"beam_args": ("--direct_num_workers=2",)},
    "two processes": {"num_workers": 2},
    "BundleBasedDirectRunner": {"runner": "BundleBasedDirectRunner"},
    "TrivialRunner": {"runner": "apache_beam.runners.trivial_runner.TrivialRunner"},
    "job service, LOOPBACK": {"runner": "portable"},
}
SLOW_RUNS = {
    "two processes without threads": {"num_workers": 2, "threads_per_worker": 0},
    "Beam's own processes": {"beam_args": ("--direct_running_mode=multi_processing", "--direct_num_workers=2")},
    "job service, worker pool": {"runner": "portable", "beam_args": ("--environment_type=EXTERNAL",)},
}


@pytest.mark.parametrize("kind", [*RUNS, *(pytest.param(kind, marks=pytest.mark.slow) for kind in SLOW_RUNS)])
def test_bytes_do_not_depend_on_the_runner(kind, reference, make_config):
    assert_same(conversion.convert(make_config(**{**RUNS, **SLOW_RUNS}[kind])), reference)


def test_a_dask_cluster_of_processes(reference, make_config):
    pytest.importorskip("distributed")
    assert_same(conversion.convert(make_config(runner="dask", num_workers=2)), reference)


@pytest.mark.slow
def test_a_dask_cluster_that_runs_already(reference, make_config):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, processes=True, dashboard_address=None) as cluster:
        address = f"--dask_client_address={cluster.scheduler_address}"
        assert_same(conversion.convert(make_config(runner="dask", beam_args=(address,))), reference)
        assert len(cluster.scheduler_info["workers"]) == 2  # it is still there for others
        with pytest.raises(UsageError, match=r"--num_workers=2: a Dask cluster that runs already has its own"):
            conversion.convert(make_config(runner="dask", beam_args=(address,), num_workers=2))


@pytest.mark.slow
def test_a_job_service_in_another_process(reference, make_config, tmp_path):
    """Beam's own programs, started by hand as its documentation has it, with a pool of workers."""
    port_file = tmp_path / "port"
    module = "apache_beam.runners.portability.local_job_service_main"
    service = subprocess.Popen(
        [sys.executable, "-m", module, "--port_file", port_file, "--staging_dir", tmp_path / "staging"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not port_file.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        endpoint = f"--job_endpoint=localhost:{port_file.read_text()}"
        result = conversion.convert(
            make_config(runner="PortableRunner", beam_args=(endpoint, "--environment_type=LOOPBACK"))
        )
    finally:
        service.terminate()
        service.wait()
    assert_same(result, reference)


def test_the_number_of_shards_does_not_depend_on_the_number_of_workers(make_config):
    first, second = (conversion.convert(make_config(num_shards=None, num_workers=n)) for n in (1, 3))
    assert shard_bytes(first.dataset_dir) == shard_bytes(second.dataset_dir)


# What is refused

REFUSALS = {
    "a mode that loses records": (
        {"beam_args": ("--direct_running_mode=multi_threading",)},
        "multi_threading loses records silently in Beam 2.77.*--num_workers",
    ),
    "the same in two words": (
        {"beam_args": ("--direct_running_mode", "multi_threading")},
        "multi_threading loses records silently",
    ),
    "an environment that loses records": (
        {"runner": "portable", "beam_args": ("--environment_type=beam:env:embedded_python_grpc:v1",)},
        "embedded_python_grpc:v1 loses records silently",
    ),
    "a misspelt option": (
        {"beam_args": ("--direct_num_worker=2",)},
        r"Beam has no option --direct_num_worker\. Did you mean --direct_num_workers\?",
    ),
    "a misspelt option in two words": (
        {"runner": "BundleBasedDirectRunner", "beam_args": ("--projekt", "p")},
        r"Beam has no option --projekt\. Did you mean --project\?",
    ),
    "an option with one dash": ({"beam_args": ("-p=x",)}, "Beam has no option -p"),
    "a stray word": ({"beam_args": ("two",)}, "Beam has no option two"),
    "a wrong value": (
        {"beam_args": ("--direct_num_workers=many",)}, "A Beam option is wrong: .*--direct_num_workers.*'many'"
    ),
    "an unknown runner": ({"runner": "NoRunner"}, "--runner=NoRunner: .*FnApiRunner"),
    "an unknown module": ({"runner": "no.such.module.Runner"}, "--runner=no.such.module.Runner: .*[Nn]o module"),
    "workers said twice": (
        {"num_workers": 2, "beam_args": ("--direct_num_workers=3",)},
        "--num_workers=2 and Beam's --direct_num_workers=3",
    ),
    "workers of a job service": ({"runner": "portable", "num_workers": 2}, "job service drives one worker"),
    "workers of another runner": (
        {"runner": "BundleBasedDirectRunner", "num_workers": 2},
        "--num_workers=2 is for in_process, dask and DataflowRunner",
    ),
    "a container without the images": (
        {"runner": "PortableRunner", "beam_args": ("--environment_type=DOCKER", "--job_endpoint=localhost:1")},
        r"--data_dir=\S+ is on this machine, and a container runs on others.*gs://",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSALS)
def test_runners_and_options_that_are_refused(kind, make_config, capsys):
    changes, message = REFUSALS[kind]
    config = make_config(**changes)
    with pytest.raises(UsageError, match=message) as info:
        conversion.convert(config)
    assert "\n" not in str(info.value)
    assert not os.path.exists(config.data_dir)
    assert capsys.readouterr().err == ""


def test_options_of_a_job_service_are_left_to_it(make_config):
    arguments = ("--job_endpoint=localhost:1", "--environment_type=LOOPBACK", "--an_option_of_flink=1")
    assert isinstance(runners.prepare(make_config(runner="PortableRunner", beam_args=arguments)), runners.Runner)


def test_no_number_of_workers_is_below_one(make_config):
    with pytest.raises(UsageError, match=r"--num_workers must be at least 1. Received: --num_workers=0"):
        make_config(num_workers=0)


def test_a_dask_cluster_of_threads_is_refused(make_config):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, processes=False, dashboard_address=None, protocol="tcp://") as cluster:
        config = make_config(runner="dask", beam_args=(f"--dask_client_address={cluster.scheduler_address}",))
        with pytest.raises(UsageError, match="share a process, and Beam's Dask runner repeats records"):
            conversion.convert(config)


def test_a_dask_cluster_that_is_not_there(make_config, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("tfr.engines.CONNECT_SECS", 0.5)
    config = make_config(runner="dask", beam_args=("--dask_client_address=tcp://localhost:1",))
    with pytest.raises(UsageError, match="No Dask scheduler at tcp://localhost:1"):
        conversion.convert(config)


def test_a_runner_whose_package_is_missing_names_it(make_config, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask", None)
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'tfr\[dask\]'"):
        runners.prepare(make_config(runner="dask"))


# Failures


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_that_is_killed_fails_the_job(make_config):
    """Beam's own multi-process runner would wait for its answer for ever."""
    launcher = os.getpid()

    def build(pipeline):
        _ = pipeline | beam.Create(range(4)) | beam.Map(kill)

    def kill(number):
        assert os.getpid() != launcher
        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ConversionError, match=r"return code -9.*run the same command again"):
        runners.prepare(make_config(num_workers=2)).run(build)


def test_an_error_in_another_process_is_named(make_config):
    def build(pipeline):
        _ = pipeline | beam.Create([0, 1]) | beam.Map(lambda number: 1 / number)

    with pytest.raises(ConversionError, match="ZeroDivisionError") as info:
        runners.prepare(make_config(num_workers=2)).run(build)
    assert "\n" not in str(info.value)


def test_worker_processes_are_quiet(make_config, run_tfr):
    config = make_config()
    command = [
        "convert", f"--annotations={config.annotations}", f"--images={config.images}", "--name=pets", "--num_workers=2",
        f"--data_dir={config.data_dir}", "--label_columns=bird:dog", "--json",
    ]  # fmt: skip
    done = run_tfr(*command)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["records_written"] == 498


# Counters, and the default


@pytest.mark.parametrize(
    ("num_images", "cores", "num_workers"),
    [(0, 16, 1), (19_999, 16, 1), (20_000, 16, 8), (10**8, 1, 1), (10**8, 2, 1), (10**8, 3, 1), (10**8, 4, 2)],
)
def test_many_images_on_many_cores_are_worth_processes(num_images, cores, num_workers):
    assert runners.default_num_workers(num_images, cores) == num_workers


@pytest.mark.parametrize(("chosen", "num_workers"), [(None, 8), (3, 3)])
def test_the_job_starts_that_many(chosen, num_workers, make_config, monkeypatch):
    started = []

    @contextlib.contextmanager
    def engine(arguments, count):
        started.append(count)
        with real(arguments, 1) as ready:
            yield ready

    real = engines.in_process
    monkeypatch.setattr(engines, "in_process", engine)
    monkeypatch.setattr(runners, "num_cores", lambda: 16)
    runner = runners.prepare(make_config(num_workers=chosen))
    runner.run(lambda pipeline: pipeline | beam.Create([1]), num_images=50_000)
    assert started == [num_workers]


def test_counters_tell_how_far_a_job_is(make_config):
    plan, settings = plan_of(make_config())
    pipeline = beam.Pipeline("FnApiRunner")
    write_job.build_pipeline(pipeline, plan.shards, settings)
    result = pipeline.run()
    result.wait_until_finish()
    counters = {entry.key.metric.name: entry.committed for entry in result.metrics().query()["counters"]}
    reports = [shard_writer.finished_report(shard, settings) for shard in plan.shards]
    assert counters == {
        "records": 498, "rejects": 2, "record_bytes": sum(report.num_bytes for report in reports),
    }  # fmt: skip


def plan_of(config):
    """The plan of a conversion and the settings of its job, as `conversion.convert` makes them."""
    plan_dir = f"{config.dataset_dir}/.plan"
    os.makedirs(plan_dir)
    plan = planning.make_plan(config, plan_dir)
    return plan, shard_writer.WriteSettings(
        dataset_dir=config.dataset_dir,
        plan_dir=plan_dir,
        image_dir=config.image_dir,
        previous_dir="",
        schema=plan.schema,
        image=config.image,
        threads=config.threads_per_worker,
    )
