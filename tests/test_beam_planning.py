"""Plans made by Beam jobs: the manifests are those of the local planner, byte for byte."""

import dataclasses
import json
import random

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from PIL import Image

from tfr import beam_planning, conversion, dataset_dir, engines, files, plan_elements, plan_jobs, planning, runners
from tfr.annotations import ReadOptions, parts
from tfr.config import ConvertConfig
from tfr.errors import AnnotationError, ConversionError, UsageError
from tfr.splits import SplitRatios
from tfr.vocabulary import LabelMap

ONLY_TRAIN, HALVES = SplitRatios({"train": 1.0}), SplitRatios({"train": 0.5, "test": 0.5})

LABELS = ["sky", "sea", 'say "x"', "ü", "x,y"]
# Names that are one file's, another's under another case, or a stem of several.
NAMES = [
    "a.jpg", "A.JPG", "a.png", "a", "A", "b.jpg.png", "b.jpg", "B.jpg", "d/c.webp", "d\\c", "d/C", "d/c.txt", "e.txt",
    "E.TXT", "Caf\u00e9.jpg", "Cafe\u0301.jpg", "cafe\u0301", "f.v2.jpeg", "f.v2", "g.gif", "h",
]  # fmt: skip


@pytest.fixture(name="write_table")
def _write_table(tmp_path):
    """write_table(format, num): a table of `num` rows with repeated ids, groups, splits and some broken lines."""

    def write(format_="csv", num=300, seed=0):
        chance = random.Random(seed)
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        for i in range(num):
            if i % 9:
                (folder / f"{i}.jpg").write_bytes(b"x" * (i % 70))
        path = tmp_path / f"table.{format_}"
        with open(path, "w", encoding="utf-8-sig", newline="") as file:
            if format_ != "jsonl":
                file.write("image,labels,part,who,note\n".replace(",", "\t" if format_ == "tsv" else ","))
            for _ in range(num):
                i = chance.randrange(num)
                row = {"image": f"{i}.jpg" if i % 5 else f"{i}.JPG" if i % 2 else f"{i}"}
                row["labels"] = chance.sample(LABELS, chance.randint(0, 3))
                row |= {"part": chance.choice(["", "val", "TRAIN"]), "who": f"g{i % 40}" if i % 4 == 0 else ""}
                row |= {"note": f'n"{i}"é\u2028'}
                file.write(_line(row, format_))
                if i % 50 == 0:
                    file.write("\n" if i % 100 else "broken\n")
        return str(path)

    return write


def _line(row, format_):
    if format_ == "jsonl":
        return json.dumps(row, ensure_ascii=False) + "\n"
    cells = [*row.values()]
    cells[1] = "|".join(row["labels"])
    delimiter = "\t" if format_ == "tsv" else ","
    return delimiter.join('"' + cell.replace('"', '""') + '"' for cell in cells) + "\r\n"


@pytest.fixture(name="make_config")
def _make_config(tmp_path):
    def make(table, read=None, **settings):
        options = {"image_column": "image", "label_columns": ("labels",), **(read or {})}
        options |= {} if table.endswith("jsonl") else {"label_delimiter": "|"}
        defaults = {"data_dir": str(tmp_path / "data"), "images": str(tmp_path / "images"), "name": "n"}
        return ConvertConfig(annotations=table, read=ReadOptions(**options), **{**defaults, **settings})

    return make


@pytest.fixture(name="plan_both")
def _plan_both(tmp_path, monkeypatch, make_config):
    """plan_both(table, **settings): the local plan and its manifests, and those of Beam, from many small parts."""
    monkeypatch.setattr(beam_planning, "_PART_BYTES", 2000)
    monkeypatch.setattr(beam_planning, "_FILES_PER_BLOCK", 37)

    def plan(table, **settings):
        return [
            _plan(make_config(table, planner=planner, **settings), tmp_path / planner) for planner in ("local", "beam")
        ]

    return plan


def _plan(config, plan_dir):
    plan_dir.mkdir(exist_ok=True)
    with files.Listing(config.image_dir) as listing:
        if config.planner == "local":
            plan = planning.make_plan(config, str(plan_dir), listing)
        else:
            plan = beam_planning.make_plan(config, str(plan_dir), runners.prepare(config), listing)
    manifests = [(plan_dir / f"{shard.file}.jsonl").read_bytes() for shard in plan.shards]
    shards = [dataclasses.replace(shard, manifest="") for shard in plan.shards]
    return dataclasses.replace(plan, shards=shards), manifests


@pytest.mark.parametrize(
    ("format_", "settings"),
    [
        ("csv", {}),
        (
            "tsv",
            {"num_shards": 5, "on_duplicate": "first", "read": {"split_column": "part", "keep_columns": ("note",)}},
        ),
        ("jsonl", {"read": {"split_column": "part", "keep_columns": ("note",)}}),
        ("csv", {"label_mode": "single", "split_ratios": HALVES, "read": {"group_column": "who"}}),
        ("csv", {"min_label_count": 40, "exclude_labels": ("sky",), "read": {"where": "note > 'n\"2'"}}),
        ("csv", {"read": {"empty_labels": "none"}, "split_seed": 3}),
    ],
    ids=["defaults", "first, own splits", "jsonl", "single, groups", "fewer labels, where", "no labels"],
)
def test_the_plan_is_the_local_one(write_table, plan_both, format_, settings):
    local, beam = plan_both(write_table(format_), **settings)
    assert beam == local
    assert sum(map(len, local[1])) > 9_000
    assert {reject.reason for reject in local[0].rejects} >= {"duplicate_id", "no_image", "malformed_row"}


@pytest.mark.parametrize("seed", range(4))
def test_images_are_found_by_the_same_rules(tmp_path, plan_both, seed):
    chance = random.Random(seed)
    (tmp_path / "images" / "d").mkdir(parents=True)
    for name in chance.sample(NAMES, 9):
        (tmp_path / "images" / name).touch()
    table = tmp_path / "table.csv"
    table.write_text("image,labels\n" + "".join(f"{name},x|y\n" for name in chance.sample(NAMES, 14)))
    local, beam = plan_both(str(table), num_shards=1, split_ratios=ONLY_TRAIN)
    assert beam == local


def test_unlisted_images_need_no_join(write_table, plan_both):
    local, beam = plan_both(write_table(), list_images=False, num_shards=3)
    assert beam == local


def test_labels_are_renamed_alike(write_table, plan_both, tmp_path):
    table = tmp_path / "map.csv"
    table.write_text("from,to\nsky,air\nsea,\nü,air\n")
    local, beam = plan_both(write_table("jsonl"), label_map=str(table))
    assert beam == local
    assert "air" in local[0].schema.names


@pytest.mark.parametrize(
    "settings",
    [
        {"runner": "BundleBasedDirectRunner"},
        pytest.param({"num_workers": 2}, marks=pytest.mark.slow),
        pytest.param({"runner": "dask", "num_workers": 2}, marks=pytest.mark.slow),
    ],
    ids=["bundle-based", "two processes", "dask"],
)
def test_other_runners_give_the_same(write_table, plan_both, settings):
    local, beam = plan_both(write_table(num=100), **settings)
    assert beam == local


def test_a_conversion_planned_by_beam_is_the_same(tmp_path, make_config):
    (tmp_path / "images").mkdir()
    for i in range(12):
        Image.new("RGB", (20, 16 + i), (i * 20, 90, 0)).save(tmp_path / "images" / f"{i}.jpg")
    table = tmp_path / "t.csv"
    table.write_text("image,labels\n" + "".join(f"{i}.jpg,{'x' if i % 2 else 'y|x'}\n" for i in range(14)))
    found = []
    for planner in ("local", "beam"):
        config = make_config(str(table), planner=planner, data_dir=str(tmp_path / planner), split_ratios=ONLY_TRAIN)
        result = conversion.convert(config)
        assert (result.records_written, result.rejects_by_reason) == (12, {"no_image": 2})
        conversion_file = f"{result.dataset_dir}/{dataset_dir.CONVERSION_FILE}"
        found.append(files.read_bytes(conversion_file))
        assert not files.exists(f"{result.dataset_dir}/.plan")
    assert found[0] == found[1]


# What cannot be planned so


@pytest.mark.parametrize("read", [{"image_column": "picture"}, {"where": "nobody == 1"}])
def test_a_column_that_is_missing_is_said_before_any_job(write_table, tmp_path, make_config, monkeypatch, read):
    config = make_config(write_table(), planner="beam", read=read)
    monkeypatch.setattr(runners.Runner, "run", lambda *_: pytest.fail("a job was started"))
    with pytest.raises(AnnotationError, match=r"table.csv: no column '(picture|nobody)' .from --"):
        _plan(config, tmp_path / "plan")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"stratify": True}, "--stratify looks at all rows"),
        ({"max_examples_per_split": 3}, "--max_examples_per_split wants"),
        ({"read": {"group_column": "who", "split_column": "part"}}, "--group_column with splits"),
        ({"beam_args": ("--template_location=gs://b/t",)}, "--template_location writes one job"),
    ],
)
def test_what_needs_all_rows_at_once_is_refused(make_config, settings, why):
    with pytest.raises(UsageError, match=rf"--planner=beam: {why}.*--planner=local"):
        make_config("t.csv", planner="beam", **settings)


@pytest.mark.parametrize(
    ("name", "content", "read"),
    [
        ("t.json", b'[{"image": "a.jpg", "labels": ["x"]}]', {}),
        ("t.csv", "image,labels\na.jpg,x\n".encode("utf-16"), {}),
        ("t.csv", b"image,labels\na.jpg,x\n", {"encoding": "utf-7"}),
        ("t.csv", b"image,labels\ra.jpg,x\r", {}),
    ],
    ids=["json", "utf-16", "utf-7", "carriage returns"],
)
def test_tables_that_cannot_be_divided_are_refused(tmp_path, make_config, name, content, read):
    (tmp_path / "images").mkdir()
    (tmp_path / name).write_bytes(content)
    config = make_config(str(tmp_path / name), planner="beam", read=read)
    with pytest.raises(UsageError, match="--planner=local"):
        _plan(config, tmp_path / "plan")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'7.jpg,"x\ny"', r"table.csv:152: a cell goes on over a line end.*--planner=local"),
        (b'7.jpg,"x\ry"', r"table.csv:152: a carriage return stands within the line.*--planner=local"),
        (b"7.jpg,\xff", r"table.csv:152: byte 0xff is not utf-8. Give the file's own encoding"),
    ],
)
def test_bad_lines_are_named_by_their_number_in_the_file(tmp_path, monkeypatch, make_config, line, message):
    monkeypatch.setattr(beam_planning, "_PART_BYTES", 5000)
    (tmp_path / "images").mkdir()
    lines = [f"{i}.jpg,{'x' * 100}".encode() for i in range(300)]  # the bad line lies behind what is read of the head
    (tmp_path / "table.csv").write_bytes(b"\n".join([b"image,labels", *lines[:150], line, *lines[151:]]))
    with pytest.raises(AnnotationError, match=message):
        _plan(make_config(str(tmp_path / "table.csv"), planner="beam"), tmp_path / "plan")


def test_a_quote_left_open_at_the_end_of_a_part_is_found(tmp_path, monkeypatch, make_config):
    (tmp_path / "images").mkdir()
    rows = b"".join(b"%02d.jpg,x\n" % i for i in range(20))
    table = tmp_path / "table.csv"
    table.write_bytes(b"image,labels\n" + rows + b'20.jpg,"x\n' + b'y",\n' + rows)
    for part_bytes in (99, 100, 110, 111, 230):  # some of these cut right between the two lines
        monkeypatch.setattr(beam_planning, "_PART_BYTES", part_bytes)
        with pytest.raises(AnnotationError, match=r"table.csv:22: a cell goes on over a line end"):
            _plan(make_config(str(table), planner="beam"), tmp_path / "plan")


@pytest.mark.parametrize("planner", ["local", "beam"])
def test_errors_are_those_of_the_local_planner(tmp_path, write_table, make_config, planner):
    table = write_table(num=60)
    with pytest.raises(AnnotationError, match=r"table.csv:\d+: the id stands on row \d+ already, with other labels"):
        _plan(make_config(table, planner=planner, on_duplicate="error"), tmp_path / "plan")
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(ConversionError, match=r"None of the rows has an image: row 1 wants '\d+"):
        _plan(make_config(table, planner=planner, images=str(tmp_path / "elsewhere")), tmp_path / "plan")
    ratios = SplitRatios({"train": 0.999999, "test": 0.000001})
    with pytest.raises(UsageError, match="came to none"):
        _plan(make_config(table, planner=planner, split_ratios=ratios), tmp_path / "plan")


# The jobs


def test_keys_have_deterministic_coders(make_config, write_table):
    config = make_config(write_table(num=5), planner="beam")
    table, _ = parts.open_table(config.annotations_path, config.format, config.read)
    settings = plan_elements.PlanSettings(
        config=config, table=table, label_map=LabelMap(), work_dir="", num_partitions=1
    )
    pipeline = beam.Pipeline(runner="FnApiRunner", options=PipelineOptions([]))
    plan_jobs.plan_rows(pipeline, settings, [("partition", 0)])
    proto = pipeline.to_runner_api().components
    shuffles = [t for t in proto.transforms.values() if t.spec.urn == "beam:transform:group_by_key:v1"]
    inputs = [proto.pcollections[next(iter(t.inputs.values()))].coder_id for t in shuffles]
    keys = {proto.coders[proto.coders[coder].component_coder_ids[0]].spec.urn for coder in inputs}
    assert keys == {"beam:coder:string_utf8:v1", "beam:coder:varint:v1"}


class _LosingRunner(runners.Runner):
    """Runs jobs, and loses a row of what the first one made."""

    def run(self, build, num_images=0):
        super().run(build, num_images)
        (path,) = self.plan_dir.glob("planning/report-00000.json")
        report = json.loads(path.read_text())
        split = next(iter(report[0]))
        report[0][split][0] -= 1
        path.write_text(json.dumps(report))


def test_lost_rows_are_noticed(tmp_path, write_table, make_config):
    config = make_config(write_table(num=50), planner="beam")
    runner = _LosingRunner(engines.in_process, [])
    runner.plan_dir = tmp_path / "plan"
    with pytest.raises(ConversionError, match=r"\d+ rows read, but \d+ planned and \d+ rejected. The runner lost"):
        beam_planning.make_plan(config, str(runner.plan_dir), runner, files.list_files(config.image_dir))
    assert not (runner.plan_dir / "planning").exists()
