"""Conversions from and to an object store that fails now and then, and one that is gone for good."""

import errno
import io
import pathlib
import types

import flaky_store
import pytest
from conversion_checks import IMAGES, labels_of, rejects_of, shard_bytes
from flaky_store import STORE, ServerError

from tfr import conversion, files, remote_files, retries
from tfr.errors import ConversionError, DatasetError, TfrError

ROOT = "flaky://bucket"


@pytest.fixture(autouse=True)
def store(monkeypatch):
    """An empty store; nobody really waits."""
    monkeypatch.setattr(flaky_store.STORE, "blobs", {})
    monkeypatch.setattr(flaky_store.STORE, "rate", 0)
    monkeypatch.setattr(flaky_store.STORE, "broken", None)
    monkeypatch.setattr(flaky_store.STORE, "failures", 0)
    waits = []
    monkeypatch.setattr(retries, "time", types.SimpleNamespace(sleep=waits.append))  # other threads do sleep
    return waits


def put(folder, root):
    for path in pathlib.Path(folder).rglob("*"):
        if path.is_file():
            STORE.blobs[f"{root}/{path.relative_to(folder)}"] = path.read_bytes()


def get(root, folder):
    """The store's files below a root as local files."""
    for path, data in STORE.blobs.items():
        if path.startswith(root):
            target = pathlib.Path(folder, path.removeprefix(root).lstrip("/"))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)


@pytest.fixture
def remote_config(pets, tmp_path, make_config):
    """remote_config(**changes): the conversion of pets, with all of its input and output in the store."""
    put(pets, f"{ROOT}/images")
    STORE.blobs[f"{ROOT}/annotations.csv"] = (tmp_path / "annotations.csv").read_bytes()

    def make(**changes):
        places = {name: f"{ROOT}/{name}" for name in ("images", "data")}
        return make_config(
            annotations=f"{ROOT}/annotations.csv", images=places["images"], data_dir=places["data"], **changes
        )

    return make


@pytest.mark.parametrize("rate", [0, 0.03, 0.1])
@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_a_store_that_fails_now_and_then_changes_nothing(
    rate, file_format, remote_config, tmp_path, make_config, store
):
    STORE.rate = rate
    result = conversion.convert(remote_config(file_format=file_format))
    assert (STORE.failures > 0) == (rate > 0) == bool(store)
    STORE.rate = 0
    assert (result.records_written, result.num_lost) == (len(IMAGES), 0)
    get(result.dataset_dir, tmp_path / "copy")
    reference = conversion.convert(make_config(data_dir=str(tmp_path / "reference"), file_format=file_format))
    expected = {path.name: path.read_bytes() for path in pathlib.Path(reference.dataset_dir).glob("pets-*")}
    assert {path.name: path.read_bytes() for path in (tmp_path / "copy").glob("pets-*")} == expected
    assert labels_of(tmp_path / "copy") == IMAGES
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == sorted(
        path.name for path in pathlib.Path(reference.dataset_dir).iterdir()
    )
    assert conversion.convert(remote_config(file_format=file_format)).reused


@pytest.mark.parametrize("error", [ServerError(503), TimeoutError("no answer"), ServerError(403)])
def test_a_store_that_is_gone_ends_the_job_and_the_same_call_goes_on(error, remote_config, tmp_path, monkeypatch):
    config = remote_config()
    real, opened = files.read_bytes, []

    def read_and_break(path):
        opened.append(path)
        if len(opened) == 4:
            STORE.broken = error
        return real(path)

    monkeypatch.setattr(files, "read_bytes", read_and_break)
    with pytest.raises(ConversionError, match=r"The Beam job failed: .*run the same command again") as info:
        conversion.convert(config)
    assert "\n" not in str(info.value)
    STORE.broken = None
    assert f"{config.dataset_dir}/dataset_info.json" not in STORE.blobs
    result = conversion.convert(config)
    assert (result.records_written, result.rejects_by_reason) == (len(IMAGES), {})
    get(result.dataset_dir, tmp_path / "copy")
    assert labels_of(tmp_path / "copy") == IMAGES
    assert not [path for path in STORE.blobs if ".tmp-" in path or "/.plan/" in path]


def test_an_image_that_vanished_from_the_store_is_a_reject(remote_config, tmp_path, monkeypatch):
    real = conversion.planning.make_plan

    def plan_then_lose_one(*args, **kwargs):
        plan = real(*args, **kwargs)
        del STORE.blobs[f"{ROOT}/images/a.jpg"]
        return plan

    monkeypatch.setattr(conversion.planning, "make_plan", plan_then_lose_one)
    result = conversion.convert(remote_config())
    get(result.dataset_dir, tmp_path / "copy")
    assert [(reject["id"], reject["reason"]) for reject in rejects_of(tmp_path / "copy")] == [("a.jpg", "missing")]


@pytest.mark.parametrize("name", ["a[1]", "a*", "a?b", "[!a]", "a]["])
def test_folders_may_have_the_characters_of_patterns_in_their_names(name, pets, tmp_path, make_config):
    put(pets, f"{ROOT}/{name}/images")
    put(pets, f"{ROOT}/{name}b/axb/images")  # what such a pattern would match as well
    STORE.blobs[f"{ROOT}/{name}/annotations.csv"] = (tmp_path / "annotations.csv").read_bytes()
    places = {"images": f"{ROOT}/{name}/images", "data_dir": f"{ROOT}/{name}/data"}
    result = conversion.convert(make_config(annotations=f"{ROOT}/{name}/annotations.csv", **places))
    assert (result.records_written, result.images_listed) == (len(IMAGES), len(IMAGES))
    assert conversion.convert(make_config(annotations=f"{ROOT}/{name}/annotations.csv", **places)).reused


def test_another_config_in_the_store_is_refused(remote_config):
    conversion.convert(remote_config())
    with pytest.raises(DatasetError, match=r"num_shards: 3 -> 2.*--overwrite"):
        conversion.convert(remote_config(num_shards=2))
    result = conversion.convert(remote_config(num_shards=2, overwrite=True))
    assert len([path for path in STORE.blobs if "/pets-train." in path]) == 2
    assert result.records_written == len(IMAGES)


def test_a_scheme_that_nobody_knows_is_said_in_one_line():
    with pytest.raises(TfrError, match=r"nowhere://x: no such kind of file system is installed. gs:// wants"):
        files.read_bytes("nowhere://x")


# The parts


@pytest.mark.parametrize("rate", [0, 0.2])
def test_a_stream_goes_on_where_the_connection_broke(rate):
    data = bytes(range(256)) * 20_000
    STORE.blobs[f"{ROOT}/large"] = data
    STORE.rate = rate
    with remote_files.open_binary(f"{ROOT}/large") as file:
        assert file.read(1000) == data[:1000]
        file.seek(3_000_000)
        assert file.read(2_000_000) == data[3_000_000:5_000_000]
        assert file.seek(-5, io.SEEK_END) == len(data) - 5
        assert file.read() == data[-5:]


@pytest.mark.parametrize("opening", [files.read_bytes, files.open_binary, files.open_text])
def test_what_is_missing_is_a_missing_file(opening):
    with pytest.raises(FileNotFoundError):
        opening(f"{ROOT}/nothing")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (OSError(errno.EIO, ""), True),
        (OSError(errno.ESTALE, ""), True),
        (ServerError(429), True),
        (ServerError(503), True),
        (flaky_store.BeamIOError("", {"a": None, "b": ServerError(500)}), True),
        (ServerError(404), False),
        (ServerError(403), False),
        (flaky_store.BeamIOError("", {"a": ServerError(404)}), False),
        (OSError(errno.ENOSPC, ""), False),
        (FileNotFoundError(errno.ENOENT, ""), False),
        (PermissionError(errno.EACCES, ""), False),
        (ValueError("503"), False),
    ],
)
def test_what_may_pass_is_told_from_what_stays(error, expected):
    assert retries.is_transient(error) == expected
    wrapped = RuntimeError("wrapped")
    wrapped.__cause__ = error
    assert retries.is_transient(wrapped) == expected


def test_waits_grow_and_end(store):
    calls = []

    def fail():
        calls.append(1)
        raise TimeoutError

    with pytest.raises(TimeoutError):
        retries.call(fail)
    assert len(calls) == len(store) + 1 == 7
    assert all(0 <= wait <= limit for wait, limit in zip(store, (0.5, 1, 2, 4, 8, 16), strict=True))


def test_a_local_disk_that_fails_for_a_moment_is_read_again(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"content")
    real, left = files._read_local, [OSError(errno.EIO, "Input/output error"), OSError(errno.ESTALE, "Stale")]

    def read(path):
        if left:
            raise left.pop()
        return real(path)

    monkeypatch.setattr(files, "_read_local", read)
    assert files.read_bytes(str(tmp_path / "a")) == b"content"


@pytest.mark.usefixtures("pets")
def test_a_local_disk_that_fails_for_good_is_no_reject(make_config, monkeypatch):
    def fail(path):
        raise OSError(errno.EIO, "Input/output error", path)

    monkeypatch.setattr(files, "_read_local", fail)
    config = make_config()
    with pytest.raises(ConversionError, match=r"Input/output error.*run the same command again"):
        conversion.convert(config)
    monkeypatch.undo()
    result = conversion.convert(config)
    assert (result.num_lost, len(shard_bytes(result.dataset_dir))) == (0, 3)
