"""Label names: how they are compared, renamed, chosen and ordered."""

import collections

import pytest

from tfr import vocabulary
from tfr.errors import AnnotationError, UsageError

COUNTS = collections.Counter({"sky": 5, "sea": 3, "Café": 2, "rare": 1, "declared": 0})


@pytest.fixture(name="file")
def _file(tmp_path):
    def write(content):
        path = tmp_path / "file"
        path.write_text(content, encoding="utf-8", newline="")
        return str(path)

    return write


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("  sky ", "sky"),
        ("Cafe\u0301", "Caf\u00e9"),
        ("two\r\nlines\tand tabs", "two lines and tabs"),
        ("\ufeffsky\u00a0", "sky"),
        ("two  blanks", "two  blanks"),  # compared exactly, but warned of
        ("Wzory kaszubskie", "Wzory kaszubskie"),
        ("łowickie", "łowickie"),
    ],
)
def test_normalize_label(name, expected):
    assert vocabulary.normalize_label(name) == expected


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ("Café", "rare", "sea", "sky")),
        ({"min_count": 0}, ("Café", "declared", "rare", "sea", "sky")),
        ({"min_count": 2}, ("Café", "sea", "sky")),
        ({"exclude": (" sky ",)}, ("Café", "rare", "sea")),
        ({"labels_file": "\ufeffsky\r\n\r\nnew\r\nCafe\u0301\r\n"}, ("sky", "new", "Café")),
        ({"labels_file": "sky\nnew\n", "exclude": ("new",)}, ("sky",)),
        ({"labels_file": "rare\nsky\n", "min_count": 3}, ("rare", "sky")),
    ],
)
def test_build_vocabulary(file, options, names):
    if "labels_file" in options:
        options = {**options, "labels_file": file(options["labels_file"])}
    assert vocabulary.build_vocabulary(COUNTS, **options).names == names


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"exclude": ("see",)}, UsageError, r"--exclude_labels: \['see'\] do not occur. The labels are: 'Café'"),
        ({"min_count": 9}, AnnotationError, r"No labels are left of the 5.*--min_label_count \(now 9\)"),
        ({"labels_file": "sky\nsea\n sky\n"}, AnnotationError, r"more than once: \['sky'\]"),
        ({"labels_file": "\n"}, AnnotationError, "no names in it"),
    ],
)
def test_build_vocabulary_refuses(file, options, error, message):
    if "labels_file" in options:
        options = {**options, "labels_file": file(options["labels_file"])}
    with pytest.raises(error, match=message):
        vocabulary.build_vocabulary(COUNTS, **options)


def test_encode_ignores_other_names():
    assert vocabulary.Vocabulary(("a", "b", "c")).encode(["c", "x", "a", "c"]) == [0, 2]


def test_label_map(file):
    rename = vocabulary.read_label_map(file("\ufeffFrom, To\r\n1,cat\r\n 2 ,cat\r\n\r\n3,\r\ncat,lion\r\n"))
    assert [rename(name) for name in ("1", "2 ", "3", "4", "cat")] == ["cat", "cat", "", "4", "lion"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n", ":1: the header must be from,to. Received: a,b"),
        ("", ":1: the header must be from,to"),
        ("from,to\na\n", r":2: expected a label and what it becomes, got \['a'\]"),
        ("from,to\n,b\n", ":2: expected a label"),
        ("from,to\na,b\na,c\n", ":3: 'a' is renamed to 'b' already"),
    ],
)
def test_label_map_refuses(file, content, message):
    with pytest.raises(AnnotationError, match=message):
        vocabulary.read_label_map(file(content))


def test_missing_files_are_named():
    with pytest.raises(AnnotationError, match="No label map at nowhere"):
        vocabulary.read_label_map("nowhere.csv")
    with pytest.raises(AnnotationError, match=r"No labels file at nowhere.txt"):
        vocabulary.read_labels_file("nowhere.txt")


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["Cat", "cat", "dog"], [["Cat", "cat"]]),
        (
            ["hot dog", "hot_dog", "Hot-Dog", "hotdog", "hot  dog"],
            [["Hot-Dog", "hot  dog", "hot dog", "hot_dog", "hotdog"]],
        ),
        (["sky", "sk\u200by", "\uff53ky"], [["sky", "sk\u200by", "\uff53ky"]]),
        (["C", "C++", "C#", "-", "_"], []),
    ],
)
def test_look_alikes(names, groups):
    assert vocabulary.look_alikes(names) == groups


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["0", "1", "10"], True), (["-1"], True), (["0", "cat"], False), (["1.5"], False), ([], False)],
)
def test_are_bare_numbers(names, expected):
    assert vocabulary.are_bare_numbers(names) is expected
