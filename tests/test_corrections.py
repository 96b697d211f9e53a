"""Corrections of single labels: the file, what they do to rows, and through both planners into the records."""

import csv
import json

import pytest
from conversion_checks import LABELS, labels_of, one_hot_rows, read_all, rejects_of, shard_bytes, write_csv

from tfr import api, cli, conversion, corrections, dataset_dir, splits
from tfr.annotations import ReadOptions
from tfr.config import ConvertConfig
from tfr.errors import AnnotationError, DatasetError

REVIEWED = "id,split,label,replaces,given,suggested,probability,score,labels,decision"


@pytest.fixture
def file(tmp_path):
    """file(*lines): the path of a file of corrections."""

    def make(*lines, name="corrections.csv"):
        (tmp_path / name).write_bytes("".join(f"{line}\n" for line in lines).encode())
        return str(tmp_path / name)

    return make


def by_id(path):
    return {id_: [tuple(one) for one in found] for id_, found in corrections.read(path).by_id.items()}


def test_a_table_by_hand(file):
    path = file(
        "\ufeffID, Label,present,comment", "a,cat,1,x", "", 'a,"dog, big",No,', "b,cat,absent,y", "b,cat,false,again",
        "c,\u0065\u0301 ,TRUE,",
    )  # fmt: skip
    assert by_id(path) == {
        "a": [("cat", True, 2), ("dog, big", False, 4)],
        "b": [("cat", False, 5)],
        "c": [("\u00e9", True, 7)],
    }
    assert by_id(file("id;label;present", "a;cat;1")) == {"a": [("cat", True, 2)]}  # as spreadsheets may write it


def test_a_reviewed_table(file):
    path = file(
        REVIEWED,
        "a,train,cat,,absent,present,0.9,0.1,,yes",
        "a,train,dog,,present,absent,0.1,0.1,dog, Accept ",
        "b,train,cat,,absent,present,0.9,0.1,,",
        "b,train,dog,,absent,present,0.9,0.1,,no",
        "c,test,cat,dog,absent,present,0.9,0.1,dog,y",
    )
    assert by_id(path) == {"a": [("cat", True, 2), ("dog", False, 3)], "c": [("cat", True, 6), ("dog", False, 6)]}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["id,label", "a,cat"], r":1: no column present. Corrections have the columns id, label, present; or"),
        (["id,label,decision", "a,cat,yes"], r":1: no column suggested"),
        ([], r":1: no column id, label, present"),
        (["id,label,present", "a,cat,maybe"], r":2: present must be one of present, absent, yes.* Received: 'maybe'"),
        (["id,label,present", "a,cat,"], r":2: present must be one of"),
        ([REVIEWED, "a,train,cat,,absent,present,1,0,,ja"], r":2: decision must be one of yes, y, .* Received: 'ja'"),
        ([REVIEWED, "a,train,cat,,absent,gone,1,0,,yes"], r":2: suggested must be one of present, absent"),
        ([REVIEWED, "a,train,cat,,absent,present,1,0,,"], r": no row asks for a change"),
        (["id,label,present", "a,cat,1", "b,cat,1", "a,cat ,0"], r":4: label 'cat' of 'a' .* row 2 says the opposite"),
        (["id,label,present", "a,cat,1,0"], r":2: 4 cells, but the header has 3"),
        (["id,label,present", ",cat,1"], r":2: the id is empty"),
        (["id,label,present", "a, ,1"], r":2: the label is empty"),
        (
            ["id,label,present,replaces", "a,cat,1,dog", "a,eel,1,dog"],
            r":3: 'dog' of 'a' is replaced by 'cat' in row 2",
        ),
        (["id,label,present,replaces", "a,cat,1,dog", "a,dog,1,"], r":3: label 'dog' .* row 2 says the opposite"),
    ],
)
def test_files_that_are_refused(file, lines, message):
    path = file(*lines)
    with pytest.raises(AnnotationError, match=message) as caught:
        corrections.read(path)
    assert str(caught.value).startswith(path)


def test_missing_and_undecodable_files(file, tmp_path):
    path, limit = file("id,label,present", f"a,{'x' * 2_000},1"), csv.field_size_limit(1_000)
    try:
        with pytest.raises(AnnotationError, match=r":2: not CSV: field larger than field limit"):
            corrections.read(path)
    finally:
        csv.field_size_limit(limit)
    with pytest.raises(AnnotationError, match="No corrections at"):
        corrections.read(str(tmp_path / "nowhere.csv"))
    (tmp_path / "latin.csv").write_bytes("id,label,present\na,Bär,1\n".encode("latin-1"))
    with pytest.raises(AnnotationError, match=r"latin.csv: not UTF-8 \(byte 20\)"):
        corrections.read(str(tmp_path / "latin.csv"))


@pytest.mark.parametrize(
    ("row", "asked", "expected", "changed"),
    [
        ((["cat"], [], None), [("dog", True)], (["cat", "dog"], [], None), 1),
        ((["cat"], [], None), [("cat", False)], ([], [], None), 1),
        ((["cat"], [], None), [("cat", True), ("dog", False)], (["cat"], [], None), 0),
        ((["cat"], ["dog"], None), [("dog", True)], (["cat", "dog"], [], None), 1),
        ((["cat"], ["dog"], None), [("dog", False)], (["cat"], [], None), 1),
        ((["cat"], [], []), [("dog", False), ("cat", False)], ([], [], ["dog", "cat"]), 2),
        ((["cat"], [], ["dog"]), [("dog", True)], (["cat", "dog"], [], []), 1),
        ((["cat"], [], ["dog"]), [("dog", False), ("eel", True)], (["cat", "eel"], [], ["dog"]), 1),
    ],
)
def test_what_a_row_says_afterwards(row, asked, expected, changed):
    rows = [corrections.Correction(label, present, 2) for label, present in asked]
    corrected, effect = corrections.Corrections("x.csv", "", {"a": rows}).apply("a", *row)
    assert corrected == expected
    assert (effect.changed, effect.unchanged) == (changed, len(asked) - changed)
    assert (effect.before, effect.after) == (row[0], expected[0])


# Through conversions

PLANNERS = pytest.mark.parametrize("planner", ["local", "beam"])


@pytest.mark.usefixtures("pets")
@PLANNERS
def test_corrections_become_records(make_config, file, tmp_path, planner):
    before = conversion.convert(make_config())
    path = file("id,label,present", "a.jpg,dog,1", "a.jpg,cat,0", "b.jpg,cat,1", "c.jpg,bird,yes", "e/f.jpg,cat,no")
    config = make_config(corrections=path, planner=planner, version="1.0.1")
    result = conversion.convert(config)
    expected = labels_of(before.dataset_dir) | {"a.jpg": ["dog"], "c.jpg": ["bird"], "e/f.jpg": ["bird"]}
    assert labels_of(result.dataset_dir) == expected
    summary = {"file": path, "digest": corrections.read(path).digest, "images": 4, "changed": 4, "unchanged": 1}
    assert result.corrections == summary
    assert dataset_dir.read_conversion(result.dataset_dir)["result"]["corrections"] == summary
    assert "labels corrected        4 on 4 images (1 were so already)" in conversion.summary(result)
    assert before.corrections == {}
    assert "corrected" not in conversion.summary(before)
    # The same bytes as from annotations that are right
    images = expected | {name: labels for name, labels in expected.items() if "." in name}
    write_csv(tmp_path / "annotations.csv", one_hot_rows(images))
    right = conversion.convert(make_config(version="1.0.2"))
    assert shard_bytes(right.dataset_dir) == shard_bytes(result.dataset_dir)


@pytest.mark.usefixtures("pets")
@PLANNERS
@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["a.jpg,cat,0", "z.jpg,cat,1", "y,dog,1"],
            r"no row of the annotations \(2 in all\): 'z.jpg' \(row 3\), 'y' \(",
        ),
        (["a.jpg,bear,1"], r":2: nothing is labelled 'bear' but by this correction of 'a.jpg'.*--labels_file"),
        (["a.jpg,dog,1", "b.jpg,brid,0"], r":3: nothing is labelled 'brid'.* Did you mean 'bird'\?"),
    ],
)
def test_ids_and_labels_that_do_not_exist(make_config, file, tmp_path, planner, lines, message):
    path = file("id,label,present", *lines)
    with pytest.raises(AnnotationError, match=message) as caught:
        conversion.convert(make_config(corrections=path, planner=planner))
    assert str(caught.value).startswith(path)
    assert not (tmp_path / "data").exists()


@pytest.mark.usefixtures("pets")
@PLANNERS
def test_labels_that_only_corrections_use_have_to_be_declared(make_config, file, tmp_path, planner):
    (tmp_path / "labels.txt").write_text("bear\nbird\ncat\ndog\n")
    path = file("id,label,present", "a.jpg,bear,1")
    config = make_config(corrections=path, planner=planner, labels_file=str(tmp_path / "labels.txt"))
    assert labels_of(conversion.convert(config).dataset_dir)["a.jpg"] == ["bear", "cat"]


@pytest.mark.usefixtures("pets")
@PLANNERS
def test_a_label_may_go_for_good(make_config, file, planner):
    """Corrections take every 'dog' away; one puts it elsewhere, so it is still a label."""
    path = file("id,label,present", "b.jpg,dog,0", "d.jpg,dog,0", "e/g.jpg,dog,0", "a.jpg,dog,1")
    result = conversion.convert(make_config(corrections=path, planner=planner))
    assert {id_ for id_, labels in labels_of(result.dataset_dir).items() if "dog" in labels} == {"a.jpg"}


@PLANNERS
@pytest.mark.parametrize("on_duplicate", ["merge", "first"])
def test_corrections_come_after_duplicates_and_renames(
    make_config, write_photos, file, tmp_path, planner, on_duplicate
):
    write_photos(["a.jpg", "b.jpg"])
    write_csv(tmp_path / "annotations.csv", [["id", *LABELS], ["a", 0, 1, 0], ["a", 1, 1, 0], ["b", 0, 0, 1]])
    (tmp_path / "map.csv").write_text("from,to\ncat,kitten\n")
    path = file("id,label,present", "a,kitten,0", "b,kitten,1", "a,dog,1")
    config = make_config(
        corrections=path,
        planner=planner,
        label_map=str(tmp_path / "map.csv"),
        on_duplicate=on_duplicate,
        label_mode="multi",
    )
    found = labels_of(conversion.convert(config).dataset_dir)
    assert found == {"a": ["bird", "dog"] if on_duplicate == "merge" else ["dog"], "b": ["dog", "kitten"]}


@PLANNERS
def test_what_was_not_known_is_known_then(make_config, write_photos, file, tmp_path, planner):
    write_photos(["a.jpg", "b.jpg", "c.jpg"])
    write_csv(tmp_path / "annotations.csv", [["id", *LABELS], ["a", "", 1, 0], ["b", "", "", 1], ["c", 1, 0, 0]])
    path = file("id,label,present", "a,bird,0", "b,cat,1")
    result = conversion.convert(make_config(corrections=path, planner=planner))
    names = dataset_dir.label_names(dataset_dir.open_builder(result.dataset_dir))
    found = read_all(result.dataset_dir)
    unknown = {id_: [names[i] for i in example["labels_unknown"]] for id_, example in found.items()}
    assert unknown == {"a": [], "b": ["bird"], "c": []}
    assert labels_of(result.dataset_dir) == {"a": ["cat"], "b": ["cat", "dog"], "c": ["bird"]}


def single(make_config, tmp_path, write_photos, **changes):
    write_photos(["a.jpg", "b.jpg", "c.jpg"])
    write_csv(tmp_path / "annotations.csv", [["image", "label"], ["a.jpg", "cat"], ["b.jpg", "dog"], ["c.jpg", "cat"]])
    return make_config(read=ReadOptions(), **changes)


@PLANNERS
@pytest.mark.parametrize("label_mode", ["auto", "single"])
def test_one_label_replaces_another(make_config, tmp_path, write_photos, file, planner, label_mode):
    path = file(REVIEWED, "a.jpg,train,dog,cat,absent,present,0.9,0.1,cat,yes")
    config = single(make_config, tmp_path, write_photos, planner=planner, label_mode=label_mode, corrections=path)
    result = conversion.convert(config)
    assert result.label_mode == "single"
    assert labels_of(result.dataset_dir) == {"a.jpg": ["dog"], "b.jpg": ["dog"], "c.jpg": ["cat"]}
    assert result.corrections["changed"] == 2


@PLANNERS
@pytest.mark.parametrize("label_mode", ["auto", "single", "multi"])
@pytest.mark.parametrize("line", ["a.jpg,dog,1", "a.jpg,cat,0"])
def test_a_second_label_or_none_is_no_accident(make_config, tmp_path, write_photos, file, planner, label_mode, line):
    path = file("id,label,present", line)
    config = single(make_config, tmp_path, write_photos, planner=planner, label_mode=label_mode, corrections=path)
    if label_mode == "multi":
        assert conversion.convert(config).label_mode == "multi"
        return
    with pytest.raises(AnnotationError, match=r"images have one label each, .* \(1 of them\). .*`replaces`"):
        conversion.convert(config)


@pytest.mark.usefixtures("pets")
def test_another_file_is_another_conversion(make_config, file):
    first = file("id,label,present", "a.jpg,dog,1")
    done = conversion.convert(make_config(corrections=first))
    assert conversion.convert(make_config(corrections=first)).reused
    with pytest.raises(DatasetError, match=r"corrections: '.*corrections.csv' -> None"):
        conversion.convert(make_config())
    file("id,label,present", "a.jpg,bird,1")  # the same name, other content
    with pytest.raises(DatasetError, match=r"tables beside them .* changed"):
        conversion.convert(make_config(corrections=first))
    again = conversion.convert(make_config(corrections=first, overwrite=True))
    assert again.corrections["digest"] != done.corrections["digest"]
    assert labels_of(again.dataset_dir)["a.jpg"] == ["bird", "cat"]


def test_splits_see_corrected_labels(make_config, write_photos, file, tmp_path):
    """Stratified: the label that corrections spread over half of the images is in every split by its share."""
    names = [f"{i:03}.jpg" for i in range(60)]
    write_photos(names)
    write_csv(
        tmp_path / "annotations.csv", [["id", *LABELS], *([name, 0, 1, int(i == 0)] for i, name in enumerate(names))]
    )
    path = file("id,label,present", *(f"{name},dog,1" for name in names[:30]))
    config = make_config(
        corrections=path, stratify=True, split_ratios=splits.parse_ratios("train=0.5,test=0.5"), num_shards=1
    )
    found = read_all(conversion.convert(config).dataset_dir)
    counts = [sum("dog" in e["labels"] for e in found.values() if e["split"] == split) for split in ("train", "test")]
    assert counts == [15, 15]


@pytest.mark.usefixtures("pets")
def test_appending_corrects_old_records_too(make_config, write_photos, file, tmp_path):
    conversion.convert(make_config())
    write_photos(["new.jpg"])
    write_csv(tmp_path / "annotations.csv", one_hot_rows({"new.jpg": ["cat"]}))
    path = file("id,label,present", "new.jpg,dog,1", "a.jpg,bird,1", "b.jpg,dog,0")
    config = make_config(corrections=path, append_to="1.0.0")
    result = conversion.convert(config)
    found = labels_of(result.dataset_dir)
    assert (found["new.jpg"], found["a.jpg"], found["b.jpg"]) == (["cat", "dog"], ["bird", "cat"], ["cat"])
    assert found["e/g.jpg"] == ["bird", "cat", "dog"]
    assert labels_of(f"{tmp_path}/data/pets/1.0.0")["a.jpg"] == ["cat"]  # the old version stays
    assert not rejects_of(result.dataset_dir)


def test_the_command_and_the_python_call(pets, file, tmp_path, capsys):
    path = file("id,label,present", "a.jpg,dog,1")
    arguments = [
        f"--annotations={tmp_path}/annotations.csv",
        f"--images={pets}",
        "--name=pets",
        "--splits=train=1",
        "--label_columns=bird:dog",
    ]
    command = ["convert", *arguments, f"--corrections={path}", f"--data_dir={tmp_path}/data", "--json"]
    assert cli.main(command) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["corrections"]["changed"], shown["corrections"]["file"]) == (1, path)
    result = api.convert(
        f"{tmp_path}/annotations.csv", images=str(pets), name="pets", data_dir=f"{tmp_path}/other",
        split_ratios="train=1", label_columns=("bird:dog",), corrections=path,
    )  # fmt: skip
    assert labels_of(result.dataset_dir) == labels_of(shown["dataset_dir"])
    assert labels_of(result.dataset_dir)["a.jpg"] == ["cat", "dog"]
    (tmp_path / "corrections.csv").write_text("id,label,present\nx,dog,1\n")
    assert cli.main([*command, "--overwrite"]) == 1
    assert capsys.readouterr().err.startswith(f"tfr: {path}: ids that are on no row")
    assert ConvertConfig(annotations="a", data_dir="d", name="n").corrections is None
