import concurrent.futures
import os
import re

import pytest

from tfr import files
from tfr.errors import TfrError


class Interruption(BaseException):
    pass


def test_atomic_write_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "file"
    with files.atomic_write(str(path)) as file:
        file.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, Interruption])
@pytest.mark.parametrize("before", [None, b"old"])
def test_atomic_write_leaves_nothing_behind_when_it_fails(tmp_path, error, before):
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)

    def write_half():
        with files.atomic_write(str(path)) as file:
            file.write(b"half")
            file.flush()
            raise error

    with pytest.raises(error):
        write_half()
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == (
        {} if before is None else {"file": before}
    )


def test_two_writers_of_one_file_do_not_mix(tmp_path):
    path = str(tmp_path / "file")
    with files.atomic_write(path) as one, files.atomic_write(path) as other:
        one.write(b"1" * 10)
        other.write(b"2" * 20)
    assert (tmp_path / "file").read_bytes() == b"1" * 10  # the outer one ended last


def test_write_text_is_utf8(tmp_path):
    files.write_text(str(tmp_path / "file"), "猫\n")
    assert (tmp_path / "file").read_bytes() == "猫\n".encode()


def test_read_bytes_reads_to_the_end_whatever_the_size_says(tmp_path):
    (tmp_path / "file").write_bytes(b"1234")
    (tmp_path / "empty").write_bytes(b"")
    assert [files.read_bytes(str(tmp_path / name)) for name in ("file", "empty")] == [b"1234", b""]
    os.mkfifo(tmp_path / "pipe")  # its size is 0
    content = bytes(range(256)) * 1000
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit((tmp_path / "pipe").write_bytes, content)
        assert files.read_bytes(str(tmp_path / "pipe")) == content


def test_read_bytes_names_what_is_no_file(tmp_path):
    with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path))):
        files.read_bytes(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no_such"):
        files.read_bytes(str(tmp_path / "no_such"))


@pytest.fixture
def tree(tmp_path):
    for name in ("a.jpg", "B.JPEG", "sub/c.png", "sub/deeper/d.webp", "notes.txt", ".hidden.jpg", ".git/e.jpg", "f"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    return tmp_path


def test_list_images_finds_images_at_any_depth(tree):
    assert sorted(files.list_images(str(tree))) == [
        ("B.JPEG", 5), ("a.jpg", 5), ("sub/c.png", 5), ("sub/deeper/d.webp", 5),
    ]  # fmt: skip


def test_list_files_leaves_out_what_is_hidden(tree):
    names = {file.path for file in files.list_files(str(tree))}
    assert names == {"a.jpg", "B.JPEG", "sub/c.png", "sub/deeper/d.webp", "notes.txt", "f"}


def test_links_are_followed_but_not_in_circles(tree):
    (tree / "sub" / "up").symlink_to(tree)
    (tree / "other.jpg").symlink_to(tree / "a.jpg")
    (tree / "gone.jpg").symlink_to(tree / "nowhere.jpg")
    names = [file.path for file in files.list_images(str(tree))]
    assert sorted(names) == ["B.JPEG", "a.jpg", "other.jpg", "sub/c.png", "sub/deeper/d.webp"]


def test_a_file_name_that_is_not_utf8_is_named(tree):
    with open(os.fsencode(tree) + b"/caf\xe9.jpg", "wb"):
        pass
    with pytest.raises(TfrError, match=r"caf\\xe9\.jpg'.* is not UTF-8\. Rename it"):
        list(files.list_files(str(tree)))


@pytest.mark.parametrize(
    ("folder", "path", "expected"),
    [
        ("images", "a.jpg", "images/a.jpg"),
        ("images/", "a/b.jpg", "images/a/b.jpg"),
        ("", "a.jpg", "a.jpg"),
        ("images", "/elsewhere/a.jpg", "/elsewhere/a.jpg"),
        ("images", "gs://bucket/a.jpg", "gs://bucket/a.jpg"),
        ("gs://bucket/images", "a.jpg", "gs://bucket/images/a.jpg"),
    ],
)
def test_join(folder, path, expected):
    assert files.join(folder, path) == expected


@pytest.mark.parametrize("size_in_memory", [1 << 20, 1])
def test_a_listing_walks_once_and_stays_as_it_was(tree, monkeypatch, size_in_memory):
    monkeypatch.setattr(files, "_LISTING_BYTES", size_in_memory)
    monkeypatch.setattr(files, "_FILES_PER_BLOCK", 2)
    expected = list(files.list_files(str(tree)))
    with files.Listing(str(tree)) as listing:
        assert next(iter(listing)) == expected[0]
        (tree / "late.jpg").touch()
        assert list(listing) == expected
        assert [file.size_bytes for file in listing] == [file.size_bytes for file in expected]


@pytest.mark.parametrize(
    ("name", "expected"), [("a.jpg", True), ("a.JPG", True), ("x/a.tiff", True), ("a.txt", False), ("jpg", False)]
)
def test_is_image_name(name, expected):
    assert files.is_image_name(name) == expected
