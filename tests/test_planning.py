"""Plans: rows to vocabulary, splits and manifests, with every row accounted for."""

import collections
import json

import pandas as pd
import pytest

from tfr import planning
from tfr.annotations import ReadOptions
from tfr.config import ConvertConfig
from tfr.errors import AnnotationError, ConversionError, UsageError
from tfr.splits import DEFAULT_RATIOS, SplitRatios

ONLY_TRAIN = SplitRatios({"train": 1.0})


@pytest.fixture(name="plan")
def _plan(tmp_path):
    """plan(rows, images, **config): the plan, and its manifests' lines by id. Image files are empty: none is read."""

    def plan(rows, images=None, read=None, **config):
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows, columns=["image", "labels"])
        for name in frame["image"] if images is None else images:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        plan_dir = tmp_path / "plan"
        plan_dir.mkdir(exist_ok=True)
        options = ReadOptions(label_columns=("labels",), label_delimiter="|", **(read or {}))
        settings = {"split_ratios": ONLY_TRAIN, **config}
        made = planning.make_plan(
            ConvertConfig(
                annotations=frame, images=str(folder), data_dir=str(tmp_path), name="n", read=options, **settings
            ),
            str(plan_dir),
        )
        lines = {}
        for shard in made.shards:
            for line in (plan_dir / f"{shard.file}.jsonl").read_text().splitlines():
                row = json.loads(line)
                lines[row["id"]] = {**row, "split": shard.split}
        assert len(lines) + len(made.rejects) == made.rows_read
        return made, lines

    return plan


def _names(plan, ids):
    return [plan.schema.names[i] for i in ids]


def _rows(num, label=lambda i: "x" if i % 2 else "y"):
    return [(f"{i}.jpg", label(i)) for i in range(num)]


@pytest.mark.parametrize(
    ("on_duplicate", "labels"),
    [("merge", {"a": ["x", "y", "z"], "b": ["x"]}), ("first", {"a": ["x", "z"], "b": ["x"]})],
)
def test_duplicate_ids(plan, on_duplicate, labels):
    rows = [("a", "x|z"), ("b", "x"), ("a", "y"), ("b", "x"), ("a", "x")]
    made, lines = plan(rows, ["a.jpg", "b.jpg"], on_duplicate=on_duplicate)
    assert {id_: _names(made, row["labels"]) for id_, row in lines.items()} == labels
    assert made.duplicate_ids == 2
    assert [(reject.id, reject.reason, reject.source.row) for reject in made.rejects] == [
        ("a", "duplicate_id", 3), ("b", "duplicate_id", 4), ("a", "duplicate_id", 5),
    ]  # fmt: skip


@pytest.mark.parametrize(("second", "word"), [("x", "the same"), ("y", "other")])
def test_duplicate_ids_can_be_an_error(plan, second, word):
    with pytest.raises(
        AnnotationError, match=rf"DataFrame:2: the id stands on row 1 already, with {word} labels \(1 such"
    ):
        plan([("a.jpg", "x"), ("a.jpg", second)], ["a.jpg"], on_duplicate="error")


def test_many_duplicates_are_merged(plan):
    rows = [(f"{i % 300}.jpg", f"l{i % 7}") for i in range(2100)]
    made, lines = plan(rows, [f"{i}.jpg" for i in range(300)])
    assert made.duplicate_ids == 300
    assert len(lines) == 300
    assert all(len(row["labels"]) == 7 for row in lines.values())


def test_missing_images_are_counted(plan):
    made, lines = plan(
        [("a.jpg", "x"), ("b", "y"), ("c", "x"), ("d", "y")], ["a.jpg", "b.png", "c.jpg", "c.png", "e.gif"]
    )
    assert {id_: row["path"].rsplit("/", 1)[-1] for id_, row in lines.items()} == {"a.jpg": "a.jpg", "b": "b.png"}
    assert [(r.id, r.reason) for r in made.rejects] == [("c", "ambiguous_image"), ("d", "no_image")]
    assert (made.images_listed, made.images_without_row) == (5, ["c.jpg", "c.png", "e.gif"])


def test_no_image_at_all_shows_both_sides(plan):
    with pytest.raises(ConversionError, match=r"row 1 wants 'x/a.jpg'.*holds 1 images such as \['b.jpg'\]"):
        plan([("x/a.jpg", "x")], ["b.jpg"])


@pytest.mark.parametrize(
    ("wanted", "image", "folder"),
    [("x/a.jpg", "pictures/x/a.jpg", "pictures"), ("a", "deep/er/a.png", "deep/er"), ("a", "p/valid/a.png", "p")],
)
def test_the_folder_in_which_the_images_lie_is_named(wanted, image, folder, plan):
    with pytest.raises(ConversionError, match=rf"row 1 wants .*\. Did you mean --images=\S+/images/{folder}\?$"):
        plan([(wanted, "x")], ["b.jpg", image])


def test_a_folder_without_images_is_said_to_be_one(plan):
    with pytest.raises(ConversionError, match=r"row 1 wants 'x/a.jpg', and \S+ holds no images\. Check --images"):
        plan([("x/a.jpg", "x")], [])


@pytest.mark.parametrize(
    ("rows", "images", "found"),
    [
        (["A.JPG", "b.jpg"], ["a.jpg", "b.jpg"], {"A.JPG": "a.jpg", "b.jpg": "b.jpg"}),
        (["A", "b.jpg"], ["a.jpg", "b.jpg"], {"A": "a.jpg", "b.jpg": "b.jpg"}),
        (
            ["Cafe\u0301.jpg", "b.jpg"],
            ["Caf\u00e9.jpg", "b.jpg"],
            {"Cafe\u0301.jpg": "Caf\u00e9.jpg", "b.jpg": "b.jpg"},
        ),
        (["d\\A.jpg", "b.jpg"], ["d/A.jpg", "b.jpg"], {"d\\A.jpg": "A.jpg", "b.jpg": "b.jpg"}),
        (["A.jpg", "a.jpg"], ["a.jpg", "b.jpg"], {"a.jpg": "a.jpg"}),  # the file belongs to the row that names it
        (["A.jpg", "a.jpg"], ["a.jpg", "A.jpg"], {"a.jpg": "a.jpg", "A.jpg": "A.jpg"}),
        (["B.jpg", "a.jpg"], ["a.jpg", "b.jpg", "b.JPG"], {"a.jpg": "a.jpg"}),  # could be either
        (["B.JPG", "b.JPG", "a.jpg"], ["a.jpg", "b.jpg"], {"a.jpg": "a.jpg"}),  # two rows for one file
    ],
    ids=[
        "case",
        "case of a stem",
        "accents",
        "backslashes",
        "taken",
        "both there",
        "ambiguous files",
        "ambiguous rows",
    ],
)
def test_names_that_differ_by_case(plan, rows, images, found):
    made, lines = plan([(name, "x|y") for name in rows], images)
    assert {id_: row["path"].rsplit("/", 1)[-1] for id_, row in lines.items()} == found
    differ = any(id_.split(".")[0] != name.split(".")[0] for id_, name in found.items())
    assert any("differ by case, accents or slashes" in text for text in made.warnings) == differ


def test_unknown_absent_and_no_labels_stay_three_things(tmp_path):
    path = tmp_path / "images" / "a.csv"
    path.parent.mkdir()
    path.write_text(
        "ImageID,Source,LabelName,Confidence\na,v,x,1\na,v,y,0\nb,v,y,1\nb,m,z,0.5\nc,v,x,0\nc,v,y,0\nc,v,z,0\nd,v,z,1\n"
    )
    for name in "abcd":
        (path.parent / f"{name}.jpg").touch()
    (tmp_path / "plan").mkdir()
    config = ConvertConfig(annotations=str(path), data_dir=str(tmp_path), name="n", split_ratios=ONLY_TRAIN)
    made = planning.make_plan(config, str(tmp_path / "plan"))
    assert made.schema.has_unknown
    assert made.schema.names == ("x", "y", "z")
    lines = [json.loads(line) for line in (tmp_path / "plan" / f"{made.shards[0].file}.jsonl").read_text().splitlines()]
    found = {row["id"]: (_names(made, row["labels"]), _names(made, row["unknown"])) for row in lines}
    assert found == {"a": (["x"], ["z"]), "b": (["y"], ["x", "z"]), "c": ([], []), "d": (["z"], ["x", "y"])}


def test_null_labels_are_unknown_and_empty_ones_are_not(plan):
    made, lines = plan([("a.jpg", ["x", "y"]), ("b.jpg", []), ("c.jpg", None)])
    assert {id_: _names(made, row["unknown"]) for id_, row in lines.items()} == {
        "a.jpg": [],
        "b.jpg": [],
        "c.jpg": ["x", "y"],
    }


@pytest.mark.parametrize(
    ("labels", "multi"),
    [(["x", "y"], False), (["x", "x|y"], True), (["x", "y", []], True), (["x", "y", None], False), (["x", "x"], True)],
    ids=["one each", "two", "none", "one not known", "one label in all"],
)
def test_label_mode_auto(plan, labels, multi):
    made, _ = plan([(f"{i}.jpg", value) for i, value in enumerate(labels)])
    assert made.schema.multi_label is multi


def test_label_map_exclusions_and_counts(plan, tmp_path):
    table = tmp_path / "map.csv"
    table.write_text("from,to\ny,x\nz,\n")
    rows = [("a.jpg", "x|z"), ("b.jpg", "y|w"), ("c.jpg", "w|v"), ("d.jpg", "z")]
    made, lines = plan(rows, label_map=str(table), min_label_count=2, exclude_labels=("w",))
    assert made.schema.names == ("x",)
    assert {id_: row["labels"] for id_, row in lines.items()} == {"a.jpg": [0], "b.jpg": [0], "c.jpg": [], "d.jpg": []}
    assert made.dropped_labels == {"w": 2, "v": 1}


@pytest.mark.parametrize(
    ("labels", "warning"),
    [
        (["Cat", "cat", "dog"], r"look alike are kept apart: \['Cat', 'cat'\]"),
        (["0", "1", "2"], r"labels are numbers without names \(0, 1, 2\): name them with --label_map"),
    ],
)
def test_label_warnings(plan, labels, warning):
    made, _ = plan([(f"{i}.jpg", label) for i, label in enumerate(labels)])
    assert pd.Series(made.warnings).str.contains(warning).any()


def test_warnings_do_not_list_thousands_of_labels(plan):
    names = [f"label {i:04}" for i in range(3000)]
    made, _ = plan([("a.jpg", names[0])], labels=tuple(names))
    (warning,) = [text for text in made.warnings if text.startswith("labels on no image")]
    assert "['label 0001', 'label 0002', " in warning
    assert warning.endswith("'label 0040'], ... (2999 in all)")


# Splits


@pytest.mark.parametrize("stratify", [False, True])
def test_groups_stay_together(plan, stratify):
    frame = pd.DataFrame(_rows(400), columns=["image", "labels"]).assign(who=[f"p{i % 60}" for i in range(400)])
    _, lines = plan(frame, read={"group_column": "who"}, stratify=stratify, split_ratios=DEFAULT_RATIOS)
    splits_of = collections.defaultdict(set)
    for id_, row in lines.items():
        splits_of[int(id_.split(".")[0]) % 60].add(row["split"])
    assert all(len(found) == 1 for found in splits_of.values())
    assert {split for found in splits_of.values() for split in found} == {"train", "validation", "test"}


def test_adding_images_moves_none(plan):
    _, before = plan(_rows(200), split_ratios=DEFAULT_RATIOS)
    _, after = plan(_rows(300), split_ratios=DEFAULT_RATIOS)
    assert all(after[id_]["split"] == row["split"] for id_, row in before.items())


def test_stratified_labels_are_in_every_split(plan):
    rows = _rows(200, lambda i: "rare|x" if i % 20 == 0 else "x")
    made, lines = plan(rows, stratify=True, split_ratios=DEFAULT_RATIOS)
    counts = collections.Counter((row["split"], name) for row in lines.values() for name in _names(made, row["labels"]))
    assert {split: counts[split, "rare"] for split in ("train", "validation", "test")} == {
        "train": 8, "validation": 1, "test": 1,
    }  # fmt: skip
    assert plan(rows, stratify=True, split_ratios=DEFAULT_RATIOS)[1] == lines


def test_own_splits_win_and_rows_without_one_follow_their_group(plan):
    frame = pd.DataFrame(
        {
            "image": [f"{i}.jpg" for i in range(30)],
            "labels": ["x|y"] * 30,
            "part": ["VALID", "TEST", *[None] * 28],
            "who": ["v", "t", *["v", "t"] * 14],
        }
    )
    _, lines = plan(frame, read={"split_column": "part", "group_column": "who"})
    assert {row["split"] for i, row in lines.items() if int(i.split(".")[0]) % 2 == 0} == {"validation"}
    assert {row["split"] for i, row in lines.items() if int(i.split(".")[0]) % 2 == 1} == {"test"}


def test_a_torn_group_is_an_error(plan):
    frame = pd.DataFrame({"image": ["a.jpg", "b.jpg"], "labels": "x", "part": ["train", "test"], "who": "me"})
    read = {"split_column": "part", "group_column": "who"}
    with pytest.raises(
        AnnotationError, match=r"1 groups are in several splits.*'me' in (train,test|test,train).*--ignore_splits"
    ):
        plan(frame, read=read)
    made, _ = plan(frame, read={**read, "ignore_splits": True})
    assert {shard.split for shard in made.shards} == {"train"}


@pytest.mark.parametrize("column", ["labels", "part"])
def test_half_characters_of_a_frame_are_refused_in_one_line(plan, column):
    cells = {"image": ["a.jpg"], "labels": ["x"], "part": ["p"]}
    frame = pd.DataFrame({**cells, column: ["a\ud800"]}, dtype=object)
    with pytest.raises(AnnotationError, match=r"A row holds half of a character: .*ud800"):
        plan(frame, read={"keep_columns": ("part",)})


def test_an_empty_split_says_which_share_to_change(plan):
    with pytest.raises(UsageError, match=r"--splits: .*validation=0.1.* of 2 rows came to none: give a larger share"):
        plan(_rows(2), split_ratios=DEFAULT_RATIOS)


@pytest.mark.parametrize("name", ["train set", "all", "Total", "label"])
def test_a_split_of_an_impossible_name(plan, name):
    frame = pd.DataFrame({"image": ["a.jpg"], "labels": "x", "part": name})
    with pytest.raises(AnnotationError, match=rf"Splits are called \['{name.lower()}'\].*--ignore_splits"):
        plan(frame, read={"split_column": "part"})
