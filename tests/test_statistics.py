"""`tfr.statistics`, the differences between splits, what is worth knowing, and `tfr stats`."""

import collections
import dataclasses
import json
import pathlib
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from tfr import charts, cli, drift, findings, html_page, shard_jobs, statistics, statistics_report
from tfr.errors import DatasetError
from tfr.statistics import SplitStatistics, Statistics

# image, size, labels, split; 'c' is not known of the second
ROWS = [
    ("1.jpg", (40, 30), {"a": "1", "b": "0", "c": "0"}, "train"),
    ("2.jpg", (40, 30), {"a": "1", "b": "1", "c": ""}, "train"),
    ("3.png", (20, 60), {"a": "1", "b": "1", "c": "0"}, "train"),
    ("4.jpg", (64, 64), {"a": "0", "b": "0", "c": "0"}, "train"),
    ("5.jpg", (40, 30), {"a": "1", "b": "0", "c": "1"}, "test"),
    ("6.jpg", (40, 30), {"a": "0", "b": "0", "c": "1"}, "test"),
]


@pytest.fixture
def dataset(tmp_path, make_photo, encode, capsys):
    (tmp_path / "images").mkdir()
    lines = ["image,a,b,c,split"]
    for seed, (name, size, flags, split) in enumerate(ROWS):
        (tmp_path / "images" / name).write_bytes(encode(make_photo(seed, size), "PNG" if "png" in name else "JPEG"))
        lines.append(",".join([name, *flags.values(), split]))
    lines.append("gone.jpg,1,0,0,train")
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    arguments = ["--label_columns=a:c", "--label_encoding=one_hot", "--split_column=split", "--num_shards=2"]
    where = [f"--annotations={tmp_path}/rows.csv", f"--images={tmp_path}/images", f"--data_dir={tmp_path}/data"]
    assert cli.main(["convert", *where, "--name=letters", *arguments]) == 0
    capsys.readouterr()
    return str(tmp_path / "data" / "letters" / "1.0.0")


# Counting


@pytest.mark.parametrize("num_workers", [1, 4])
def test_counts_what_is_there(dataset, num_workers, monkeypatch):
    monkeypatch.setattr(shard_jobs, "_MIN_RECORDS", 1)
    counted = statistics.compute(dataset, num_workers=num_workers, samples_per_label=2)
    assert list(counted.splits) == ["train", "test"]
    train, test = counted.splits.values()
    assert (train.num_images, test.num_images, counted.total.num_images) == (4, 2, 6)
    assert counted.label_names == ("a", "b", "c")
    assert train.label_counts == {0: 3, 1: 2}
    assert test.label_counts == {0: 1, 2: 2}
    assert train.unknown_counts == {2: 1}
    assert train.pairs == {(0, 1): 2}
    assert test.pairs == {(0, 2): 1}
    assert train.labels_per_image == {0: 1, 1: 1, 2: 2}
    assert train.widths == {40: 2, 20: 1, 64: 1}
    assert train.heights == {30: 2, 60: 1, 64: 1}
    assert train.aspect_ratios == {1.33: 2, 0.33: 1, 1.0: 1}
    assert train.formats == {"jpeg": 4}
    assert counted.total.share(2) == 2 / 5
    assert {label: len(samples) for label, samples in counted.total.samples.items()} == {0: 2, 1: 2, 2: 2}
    assert (counted.rows_read, counted.rejects_by_reason) == (7, {"no_image": 1})


def test_bytes_are_those_of_the_stored_images(dataset):
    from tfr import dataset_dir

    builder = dataset_dir.open_builder(dataset)
    stored = sum(
        len(example["image"]) for split in builder.info.splits for example in dataset_dir.read_split(builder, split)
    )
    assert statistics.compute(dataset).total.total_bytes == stored


def test_a_damaged_shard_is_named(dataset):
    path = max(pathlib.Path(dataset).glob("letters-test.*"), key=lambda path: path.stat().st_size)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DatasetError, match=rf"{path.name}: record \d: the file ends inside .* `tfr verify` lists"):
        statistics.compute(dataset)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [({}, [0, 0, 0]), ({5: 3}, [5, 5, 5]), ({1: 1, 2: 1, 3: 1, 4: 1}, [1, 2, 4]), ({10: 1, 1: 99}, [1, 1, 10])],
)
def test_quantiles_are_exact(counts, expected):
    assert statistics.quantiles(counts, [0, 0.5, 1]) == expected


# Differences between splits


def test_distances_of_distributions():
    one, other = np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.5, 0.5])
    assert drift.l_infinity(one, other) == 0.5
    assert drift.jensen_shannon(one, other) == pytest.approx(0.5)
    assert drift.jensen_shannon(one, one) == 0
    assert drift.jensen_shannon(np.array([1.0, 0]), np.array([0, 1.0])) == 1
    from scipy.spatial import distance

    random = np.random.default_rng(0).dirichlet(np.ones(7), 2)
    assert drift.jensen_shannon(*random) == pytest.approx(distance.jensenshannon(*random, base=2) ** 2)


def make_split(num_images, label_counts, pairs=(), widths=None, unknown=(), **others):
    split = SplitStatistics(
        num_images=num_images,
        label_counts=collections.Counter(dict(enumerate(label_counts))),
        unknown_counts=collections.Counter(dict(unknown)),
        pairs=collections.Counter(dict(pairs)),
        labels_per_image=collections.Counter({1: num_images}),
        widths=collections.Counter(widths or {300: num_images}),
        heights=collections.Counter({300: num_images}),
    )
    return dataclasses.replace(split, **{name: collections.Counter(counts) for name, counts in others.items()})


def make(names, splits, **rest):
    return Statistics(
        **{"rejects_by_reason": {}, "rows_read": 0, **rest},
        name="x",
        version="1.0.0",
        dataset_dir="x",
        label_names=tuple(names),
        is_multi_label=True,
        splits=splits,
    )


def test_random_splits_do_not_drift_and_others_do():
    rng = np.random.default_rng(0)
    widths = [
        collections.Counter(rng.normal(mean, 50, n).round().tolist())
        for mean, n in ((300, 3000), (300, 400), (380, 400))
    ]
    train, same, other = (make_split(w.total(), [w.total() // 2, w.total() // 5], widths=w) for w in widths)
    other.label_counts[1] = 240
    counted = make("ab", {"train": train, "test": same, "other": other})
    notable = {(d.split, d.what) for d in drift.compare_splits(counted) if d.is_notable}
    assert notable == {("other", "widths"), ("other", "labels")}
    assert drift.drifting_labels(counted) == [("other", "b", 0.6, 0.2)]


# What is worth knowing


def kinds(counted, **options):
    return [finding.kind for finding in findings.find(counted, **options)]


def test_nothing_is_said_of_what_is_in_order():
    counted = make("ab", {"train": make_split(1000, [300, 200]), "test": make_split(500, [150, 100])})
    assert findings.find(counted) == []


@pytest.mark.parametrize(
    ("splits", "kind", "words"),
    [
        ({"train": make_split(500, [100, 0])}, "unused", "On no image: b"),
        ({"train": make_split(500, [100, 19])}, "rare", "b (19)"),
        ({"train": make_split(500, [99, 99]), "test": make_split(500, [99])}, "one_split", "'train' .* measured: b"),
        ({"train": make_split(500, [99]), "test": make_split(500, [99, 9])}, "one_split", "'test' .* be learnt: b"),
        ({"train": make_split(500, [490, 99])}, "everywhere", "nearly every image: a"),
        ({"train": make_split(9000, [3000, 20])}, "unbalanced", "'a' is on 150 times as many images as 'b'"),
        ({"train": make_split(500, [99, 99], {(0, 1): 99})}, "same", "always together: a and b$"),
        ({"train": make_split(500, [100, 98], {(0, 1): 97})}, "same", r"a and b \(96%\)"),
        ({"train": make_split(500, [100, 30], {(0, 1): 30})}, "implied", "Never: b without a"),
        ({"train": make_split(500, [99, 99], unknown=[(0, 300)])}, "unknown", "half of the images: a"),
        ({"train": make_split(500, [99, 99]), "test": make_split(50, [9, 9])}, "small_split", r"test \(50\)"),
        ({"train": make_split(500, [99, 99], widths={32: 500})}, "tiny", "median image has 32 pixels"),
        ({"train": make_split(500, [99, 99], widths={2000: 9}, heights={1500: 9})}, "large", "median image has 1500"),
        ({"train": make_split(500, [99, 99], labels_per_image={0: 60, 1: 440})}, "no_labels", "60 of 500 images"),
        ({"train": make_split(500, [99, 99], formats={"jpeg": 498, "unreadable": 2})}, "unreadable", "2 images have"),
        ({"train": make_split(500, [99, 99]), "test": make_split(500, [99, 300])}, "label_drift", r"b \(60.0%, not 19"),
        ({"train": make_split(500, [99]), "test": make_split(500, [99], widths={9: 500})}, "drift", "Widths in 'test'"),
    ],
)  # fmt: skip
def test_what_is_odd_is_called_out(splits, kind, words):
    found = {finding.kind: finding.found for finding in findings.find(make("ab", splits))}
    assert re.search(words.replace("b (19)", r"b \(19\)"), found[kind])


def test_rare_is_what_the_caller_says():
    counted = make("ab", {"train": make_split(500, [99, 30])})
    assert kinds(counted) == []
    assert kinds(counted, rare=31) == ["rare"]


def test_many_rejects_are_called_out_but_not_merged_rows():
    splits = {"train": make_split(500, [99, 99])}
    assert kinds(make("ab", splits, rejects_by_reason={"duplicate_id": 500}, rows_read=1000)) == []
    assert kinds(make("ab", splits, rejects_by_reason={"truncated": 60}, rows_read=1000)) == ["rejects"]


# Text, JSON and the page


def test_text_and_json_say_the_same(dataset):
    report = statistics_report.make(dataset)
    values = json.loads(json.dumps(report.to_json()))
    assert values["splits"]["train"]["label_counts"] == {"a": 3, "b": 2, "c": 0}
    assert values["splits"]["train"]["label_unknown_counts"]["c"] == 1
    assert values["splits"]["train"]["label_pairs"] == [["a", "b", 2]]
    assert values["splits"]["test"]["labels_per_image"] == {"1": 1, "2": 1}
    assert {finding["kind"] for finding in values["findings"]} >= {"rare", "small_split", "rejects"}
    text = report.to_text()
    assert re.search(r"^a +3 \(75\.0%\) +1 \(50\.0%\) +4 \(66\.7%\)", text, re.MULTILINE)
    assert "2  a and b: 50% and 100% of theirs" in text
    assert "rejected rows: no_image 1, of 7 rows" in text
    assert max(map(len, text.splitlines())) < 300


class Page(HTMLParser):
    """Tags that are opened and not closed, and everything that a page refers to."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.tags, self.text = [], [], collections.Counter(), ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_needs_nothing_but_itself(dataset, tmp_path):
    report = statistics_report.make(dataset, samples_per_label=2)
    report.write_html(str(tmp_path / "page.html"))
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert page.links
    assert all(link.startswith("data:image/jpeg;base64,") for link in page.links)
    assert not re.search(r"https?://|url\(|@import|<script", text)
    assert (page.tags["svg"], page.tags["img"]) == (6, 6)  # five charts and a heat map; two images a label
    for finding in report.findings:
        assert finding.found in page.text
    again = statistics_report.make(dataset, samples_per_label=2)
    again.write_html(str(tmp_path / "again.html"))
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == text


def test_names_cannot_become_markup():
    assert "<b>" not in charts.bar_chart(["<b>"], {"<b>": [0.5]}, axis="<b>")
    assert "<b>" not in charts.heat_map(["<b>"], [[0.5]])


def test_an_image_that_cannot_be_decoded_has_no_thumbnail():
    assert html_page.thumbnail_uri(b"no image") == ""


def test_the_command_writes_page_text_and_json(dataset, tmp_path, capsys):
    assert cli.main(["stats", dataset, f"--html={tmp_path}/page.html"]) == 0
    output, errors = capsys.readouterr()
    assert output.endswith(f"The page: {tmp_path}/page.html\n")
    assert errors == ""
    assert "<svg" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert cli.main(["stats", dataset, "--json", "--rare=3"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"]["test"]["images"] == 2


def test_convert_can_show_the_statistics(tmp_path, write_photos, capsys):
    folder = write_photos([f"{label}/{i}.jpg" for label in "ab" for i in range(6)])
    arguments = [
        f"--annotations={folder}",
        f"--data_dir={tmp_path}/data",
        "--name=letters",
        "--splits=train=1",
        "--stats",
    ]
    assert cli.main(["convert", *arguments]) == 0
    output = capsys.readouterr().out
    assert output.startswith("Converted: ")
    assert "worth knowing:" in output
    assert (tmp_path / "data" / "letters" / "1.0.0" / "statistics.html").exists()
    assert cli.main(["convert", *arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["statistics"]["splits"]["train"]["images"] == 12


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["a", "b"], 2), (["nowhere"], 1), (["--rare=0"], 2)])
def test_the_command_fails_in_one_line(arguments, code, capsys):
    assert cli.main(["stats", *arguments]) == code
    assert capsys.readouterr().err.count("\n") == 1
