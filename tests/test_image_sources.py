"""What is to be predicted on: files, folders, patterns, lists and standard input."""

import io
import random
import types

import pytest

from tfr import files, sorted_runs
from tfr.errors import TfrError, UsageError
from tfr.train import image_sources
from tfr.train.image_sources import Unusable


@pytest.fixture
def folder(write_photos, monkeypatch):
    """A folder with three images, as working directory."""
    root = write_photos(["b.jpg", "sub/a.png", "c.jpg"])
    (root / "notes.txt").write_text("no image")
    monkeypatch.chdir(root)
    return root


def listed(*images, **options):
    source = image_sources.open_source(images, **options)
    return list(source), source.total


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (["b.jpg"], ["b.jpg"]),
        (["c.jpg", "not_there.jpg"], ["c.jpg", "not_there.jpg"]),
        (["."], ["./b.jpg", "./c.jpg", "./sub/a.png"]),
        (["*.jpg"], ["b.jpg", "c.jpg"]),
        (["**/*.png", "b.jpg"], ["sub/a.png", "b.jpg"]),
        (["[bc].jpg"], ["b.jpg", "c.jpg"]),
    ],
)
@pytest.mark.usefixtures("folder")
def test_files_folders_and_patterns(images, expected):
    assert listed(*images) == (expected, len(expected))


def test_a_file_that_is_called_like_a_pattern_is_a_file(folder):
    (folder / "b.jpg").rename(folder / "b[1].jpg")
    assert listed("b[1].jpg")[0] == ["b[1].jpg"]


def test_uris_are_listed_and_matched(monkeypatch):
    from flaky_store import STORE

    monkeypatch.setattr(STORE, "blobs", {f"flaky://b/x/{name}": b"1" for name in ("2.jpg", "1.png", "notes.txt")})
    assert listed("flaky://b/x")[0] == ["flaky://b/x/1.png", "flaky://b/x/2.jpg"]
    assert listed("flaky://b/x/*.jpg")[0] == ["flaky://b/x/2.jpg"]
    assert image_sources.open_source(["flaky://b/x"]).is_remote
    with pytest.raises(TfrError, match=r"No file matches flaky://b/y/\*\.jpg"):
        listed("flaky://b/y/*.jpg")


@pytest.mark.parametrize(
    ("name", "content", "column"),
    [
        ("list.txt", "b.jpg\n\nsub/a.png\r\n", None),
        ("list.txt", "\ufeffb.jpg\r\n\r\nsub/a.png\r\n", None),
        ("list.csv", "id,Path\n1,b.jpg\n2,sub/a.png\n", "Path"),
        ("list.csv", "\ufeffimage;label\nb.jpg;x\nsub/a.png;y\n", None),
        ("one.csv", "whatever\nb.jpg\nsub/a.png\n", None),
        ("list.tsv", "file\tlabel\nb.jpg\tx\nsub/a.png\ty\n", None),
        ("list.jsonl", '{"image": "b.jpg"}\n{"image": "sub/a.png", "x": 1}\n', None),
    ],
)
def test_lists(name, content, column, folder, tmp_path):
    (tmp_path / name).write_text(content, encoding="utf-8")
    found, total = listed(images_file=str(tmp_path / name), column=column)
    assert found == ["b.jpg", "sub/a.png"]
    assert abs(total - 2) <= 1
    below, _ = listed(images_file=str(tmp_path / name), column=column, folder=str(folder))
    assert below == [f"{folder}/b.jpg", f"{folder}/sub/a.png"]


def test_rows_without_a_path_are_said_and_not_left_out(tmp_path):
    (tmp_path / "list.csv").write_text("image,label\na.jpg,x\n ,y\nb.jpg\nc.jpg,z\n")
    found, _ = listed(images_file=str(tmp_path / "list.csv"))
    where = str(tmp_path / "list.csv")
    assert [item for item in found if isinstance(item, str)] == ["a.jpg", "c.jpg"]
    assert [item.name for item in found if isinstance(item, Unusable)] == [f"{where}:3", f"{where}:4"]
    assert found[1].reason.startswith("missing: no path")
    assert found[2].reason.startswith("malformed_row: 1 cells where the header has 2")
    (tmp_path / "list.jsonl").write_text('{"image": "a.jpg"}\n{"image": 3}\nnonsense\n')
    found, _ = listed(images_file=str(tmp_path / "list.jsonl"))
    assert [getattr(item, "name", item) for item in found] == ["a.jpg", *(f"{tmp_path}/list.jsonl:{i}" for i in (2, 3))]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"images": ["*.bmp"]}, TfrError, r"No file matches \*\.bmp"),
        ({"images": ["empty"]}, TfrError, r"No image files below empty\. Known by \.jpg,"),
        ({"images": ["-", "-"]}, UsageError, "only once"),
        ({"images_file": "no.txt"}, TfrError, "No list of images at --images_file=no.txt"),
        ({"images": ["https://x.org/a.jpg"]}, UsageError, r"^https://x.org/a.jpg: files are not read from web servers"),
        ({"images_file": "notes.txt", "column": "x"}, UsageError, "--column=x is for lists that end in"),
        ({"images_file": "two.csv", "column": "x"}, TfrError, r"two\.csv: no column 'x'.*columns are: 'a', 'b'"),
        ({"images_file": "two.csv"}, TfrError, r"two\.csv: which column .*--column.*'a', 'b'"),
        ({"images_file": "empty.txt"}, TfrError, r"empty\.txt: there is no image in it"),
    ],
)
def test_what_names_nothing_is_said_in_one_line(options, error, message, folder):
    (folder / "empty").mkdir()
    (folder / "empty.txt").write_text("\n")
    (folder / "two.csv").write_text("a,b\n1,2\n")
    with pytest.raises(error, match=message) as caught:
        image_sources.open_source(options.pop("images", []), **options)
    assert "\n" not in str(caught.value)


def test_standard_input_is_read_line_by_line(monkeypatch):
    """A path is there before the next one was written; names need not be UTF-8."""
    lines = iter([b"\xef\xbb\xbfa.jpg\n", b"\n", b"caf\xe9.jpg\r\n"])
    taken = []
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=(taken.append(line) or line for line in lines)))
    source = image_sources.open_source(["-", "last.jpg"])
    assert (source.is_live, source.total, taken) == (True, None, [])
    iterator = iter(source)
    assert (next(iterator), taken) == ("a.jpg", [b"\xef\xbb\xbfa.jpg\n"])
    assert list(iterator) == ["caf\udce9.jpg", "last.jpg"]


def test_relative_paths_on_standard_input_are_below_the_folder(monkeypatch):
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(b"a.jpg\n/abs.jpg\n")))
    assert listed("-", folder="images")[0] == ["images/a.jpg", "/abs.jpg"]


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 1234])
def test_more_than_fits_in_memory_is_sorted(count):
    items = [f"{random.Random(i).random()}\n" for i in range(count)]
    found, iterator = sorted_runs.sort(iter(items), run=100)
    assert (found, list(iterator)) == (count, sorted(items))


def test_folders_are_not_patterns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dir.jpg").mkdir()
    (tmp_path / "file.jpg").touch()
    assert files.match("*.jpg") == ["file.jpg"]
