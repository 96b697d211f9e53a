"""`tfr predict` and `tfr.load_tagger` on a trained run: images of any kind, streams, splits, and what is wrong."""

import functools
import io
import itertools
import json
import os
import re
import threading
import types

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import tfr
from tfr import cli
from tfr.annotations import ReadOptions
from tfr.errors import DatasetError, UsageError
from tfr.train import reading_ahead, run_dir
from tfr.train.prediction import saved_predictions
from tfr.train.prediction.tags import DEFAULT_TOP_K


@pytest.fixture(scope="module")
def tagger(trained_run):
    """The tagger of the small run, in batches of four."""
    return tfr.load_tagger(trained_run, batch_size=4)


@pytest.fixture(scope="module")
def paths(drawn):
    """Ten of the drawn images."""
    names = sorted(name for name in os.listdir(drawn[1]) if name.startswith("shapes_"))[:10]
    return [os.path.join(drawn[1], name) for name in names]


@pytest.fixture(scope="module")
def bad_path(drawn):
    """A JPEG that ends early."""
    return os.path.join(drawn[1], "truncated.jpg")


@pytest.fixture(scope="module", autouse=True)
def _load_once():
    """Commands share a run's tagger: loading and compiling it each time would be most of this module's work."""
    from tfr.train import tagger as module

    original = module.Tagger
    loaded = functools.cache(lambda path, batch_size: original(run_dir.load(path), batch_size=batch_size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "Tagger", lambda run, *, batch_size=32: loaded(run.path, batch_size))
        yield


def run(capsys, *arguments):
    """(exit code, standard output, standard error) of the command in this process."""
    capsys.readouterr()
    code = cli.main(["predict", *map(str, arguments)])
    return code, *capsys.readouterr()


# The tagger


def test_an_image_is_the_same_as_a_path_its_content_and_a_picture(tagger, paths):
    with open(paths[0], "rb") as file:
        content = file.read()
    found = tagger.predict([paths[0], content])
    np.testing.assert_allclose(found[0].probabilities, found[1].probabilities, atol=1e-6)
    assert [f.image for f in found] == [paths[0], "1"]
    with Image.open(paths[0]) as picture:  # decoded by another inverse DCT
        seen = tagger.predict([picture, np.asarray(picture.convert("RGB"))])
    for other in seen:
        np.testing.assert_allclose(other.probabilities, found[0].probabilities, atol=0.02)


def test_the_number_of_images_in_a_batch_changes_nothing(tagger, paths, trained_run):
    alone = [tagger.predict_one(path).probabilities for path in paths]
    together = [found.probabilities for found in tfr.load_tagger(trained_run).predict(paths)]
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_bad_images_keep_their_place_and_harm_nobody(tagger, paths, bad_path):
    clean = {found.image: found.probabilities for found in tagger.predict(paths)}
    mixed = [bad_path, *paths[:3], "nowhere.jpg", *paths[3:5], b"", bad_path, bad_path, bad_path, bad_path]
    found = tagger.predict(mixed)
    assert [f.error and f.error.split(":")[0] for f in found] == [
        "truncated", None, None, None, "missing", None, None, "empty", *["truncated"] * 4
    ]  # fmt: skip
    for result in found:
        if result.error:
            assert (result.tags, result.probabilities) == ([], None)
        else:
            np.testing.assert_allclose(result.probabilities, clean[result.image], atol=1e-5)


def test_thresholds_choose_the_tags(tagger, paths):
    limits = dict(zip(tagger.labels, run_dir.load(tagger.run.path).thresholds.per_label, strict=True))
    everything = tagger.predict_one(paths[0], top_k=99).tags
    assert [tag.label for tag in everything] != tagger.labels
    assert sorted(tag.label for tag in everything) == sorted(tagger.labels)
    assert tagger.predict_one(paths[0], thresholds="run").tags == [t for t in everything if t[1] >= limits[t[0]]]
    assert tagger.predict_one(paths[0], thresholds=0.1).tags == [t for t in everything if t[1] >= 0.1]
    assert tagger.predict_one(paths[0], thresholds="0.1", top_k=1).tags == everything[:1]
    with pytest.raises(UsageError, match=r"--thresholds must be none, run, or a number from 0 to 1\. Received.*=2"):
        tagger.predict_one(paths[0], thresholds=2)


def test_embeddings_are_what_the_head_is_given(tagger, paths):
    """The head alone, on the embeddings, gives the probabilities."""
    import keras

    found = tagger.predict(paths, embeddings=True)
    plain = tagger.predict(paths)
    embeddings = np.stack([f.embedding for f in found])
    model = tagger.run.load_model()
    names = [layer.name for layer in model.layers]
    values = embeddings
    for layer in model.layers[names.index("standardize") :]:
        values = layer(values)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(values), [f.probabilities for f in plain], atol=1e-5)
    np.testing.assert_allclose([f.probabilities for f in found], [f.probabilities for f in plain], atol=1e-5)
    assert embeddings.dtype == np.float32
    assert plain[0].embedding is None


def test_single_label_taggers_have_one_tag_above_any_threshold(single_label_run, paths):
    tagger = tfr.load_tagger(single_label_run)
    for found in tagger.predict(paths, thresholds="run"):
        assert found.probabilities.sum() == pytest.approx(1)
        assert [tag.label for tag in found.tags] == [tagger.labels[found.probabilities.argmax()]]


def test_a_split_is_predicted_as_evaluation_does(tagger, trained_run):
    expected = saved_predictions.of_split(run_dir.load(trained_run), split="test")
    found = list(tagger.predict_split("test", targets=True))
    assert [f.image for f in found] == expected.ids
    np.testing.assert_allclose([f.probabilities for f in found], expected.probabilities, atol=1e-5)
    np.testing.assert_array_equal([f.target for f in found], expected.targets)
    with pytest.raises(DatasetError, match="no split 'tset'"):
        list(tagger.predict_split("tset"))


def test_several_threads_may_use_one_tagger(tagger, paths):
    expected = [f.probabilities for f in tagger.predict(paths)]
    results = {}
    threads = [
        threading.Thread(target=lambda i=i: results.update({i: [f.probabilities for f in tagger.predict(paths)]}))
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(4):
        np.testing.assert_allclose(results[i], expected, atol=1e-5)


# Streams


def test_an_endless_stream_gives_results_and_is_read_only_so_far(tagger, paths):
    taken = itertools.count()
    stream = tagger.stream(path for path in itertools.cycle(paths) if next(taken) >= 0)
    assert len(list(itertools.islice(stream, 20))) == 20
    stream.close()
    assert next(taken) < 20 + 4 * 6


def test_a_full_batch_does_not_wait_for_the_next_image(tagger, paths):
    """What comes after a batch may never come."""
    more = threading.Event()

    def images():
        yield from paths[:4]
        more.wait(60)
        yield paths[4]

    stream = tagger.stream(images())
    assert [next(stream).image for _ in range(4)] == paths[:4]
    more.set()
    assert [found.image for found in stream] == paths[4:5]


def test_a_batch_that_waits_too_long_is_predicted_on_as_it_is(tagger, paths):
    more = threading.Event()

    def images():
        yield paths[0]
        more.wait(60)
        yield paths[1]

    stream = tagger.stream(images(), max_wait_secs=0.05)
    assert next(stream).image == paths[0]
    more.set()
    assert next(stream).image == paths[1]


def test_what_the_images_raise_comes_after_the_results_before_it(tagger, paths):
    def images():
        yield from paths[:5]
        raise OSError("the list is gone")

    seen = []
    with pytest.raises(OSError, match="the list is gone"):
        seen += [seen.append(found) for found in tagger.stream(images())]
    assert [found.image for found in seen] == paths[:5]


def test_no_more_than_the_window_is_ever_ahead():
    """Memory stays flat however many items there are."""
    ahead = most = 0
    lock = threading.Lock()

    def items():
        nonlocal ahead, most
        for number in range(500):
            with lock:
                ahead += 1
                most = max(most, ahead)
            yield number

    got = []
    with reading_ahead.ReadAhead(items(), lambda number: number * 2, threads=3, window=8) as reading:
        for batch in reading.batches(5):
            with lock:
                ahead -= len(batch)
            got += batch
    assert got == [2 * number for number in range(500)]
    assert most <= 8 + 5 + 2


# The command


def test_each_format_says_the_same(trained_run, paths, bad_path, tmp_path, capsys):
    arguments = [trained_run, *paths[:3], bad_path, "--all_labels=probabilities", "--batch_size=4"]
    for name in ("x.csv", "x.jsonl", "x.parquet"):
        code, output, errors = run(capsys, *arguments, f"--output={tmp_path / name}")
        assert (code, output) == (0, "")
        assert re.fullmatch(
            rf"tfr: {bad_path}: truncated: .*; skipped\n4 images, 1 of them could not be used; [\d.]+ images/s\n",
            errors,
        )
    table = pd.read_csv(tmp_path / "x.csv").set_index("image")
    columnar = pd.read_parquet(tmp_path / "x.parquet").set_index("image")
    for line in (tmp_path / "x.jsonl").read_text().splitlines():
        found = json.loads(line)
        if not found["error"]:
            np.testing.assert_allclose(table.loc[found["image"], list(found["labels"])], [*found["labels"].values()])
            np.testing.assert_allclose(
                columnar.loc[found["image"], list(found["labels"])].astype(float),
                [*found["labels"].values()],
                rtol=1e-5,
            )
            assert table.loc[found["image"], "tags"].split("|") == list(found["tags"])
    assert len(table) == len(columnar) == 4


def test_text_is_for_people(trained_run, paths, capsys):
    code, output, errors = run(capsys, trained_run, paths[0], f"--image={paths[1]}", "--top_k=2")
    assert code == 0
    assert re.fullmatch(r"(.+\.jpg\n(  [* ] \w+ +0\.\d{4}\n){2}){2}", output)
    assert output.startswith(f"{paths[0]}\n")
    assert errors.startswith("2 images; ")


def test_tags_of_a_run_can_be_annotations(trained_run, paths, tmp_path, capsys):
    """What the tagger says, as labels of a dataset: pseudo-labels."""
    tags = tmp_path / "tags.csv"
    assert run(capsys, trained_run, *paths, "--thresholds=0.3", f"--output={tags}")[0] == 0
    options = ReadOptions(label_columns=("tags",), label_delimiter="|", allow_outside=True, empty_labels="none")
    rows = [row for row in tfr.read_annotations(str(tags), options=options) if isinstance(row, tfr.Annotation)]
    table = pd.read_csv(tags, keep_default_na=False)
    assert [set(row.labels) for row in rows] == [set(filter(None, text.split("|"))) for text in table["tags"]]


def test_a_split_with_its_targets(trained_run, drawn, tmp_path, capsys):
    arguments = ["--split=test[:5]", "--targets", f"--output={tmp_path / 'x.parquet'}"]
    assert run(capsys, trained_run, *arguments)[0] == 0
    implied = pd.read_parquet(tmp_path / "x.parquet")
    assert run(capsys, trained_run, f"--dataset={drawn[0]}", *arguments)[0] == 0
    pd.testing.assert_frame_equal(implied, pd.read_parquet(tmp_path / "x.parquet"))
    assert len(implied) == 5
    expected = saved_predictions.of_split(run_dir.load(trained_run), split="test")
    names = run_dir.load(trained_run).labels
    assert [list(t) for t in implied["targets"]] == [[names[i] for i in np.nonzero(t)[0]] for t in expected.targets[:5]]


def test_paths_on_standard_input(trained_run, paths, monkeypatch, capsys):
    lines = "".join(f"{path}\n" for path in paths[:3]).encode()
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(lines)))
    code, output, _ = run(capsys, trained_run, "-", "--json", "--top_k=1")
    assert code == 0
    assert [json.loads(line)["image"] for line in output.splitlines()] == paths[:3]


def test_nothing_usable_is_an_error_and_leaves_the_reasons(trained_run, bad_path, tmp_path, capsys):
    code, _, errors = run(capsys, trained_run, bad_path, "gone.jpg", f"--output={tmp_path / 'x.jsonl'}")
    assert code == 1
    assert errors.endswith("tfr: None of the 2 images could be used.\n")
    assert len((tmp_path / "x.jsonl").read_text().splitlines()) == 2


def test_many_bad_images_are_counted_not_all_named(trained_run, paths, tmp_path, capsys):
    names = [f"gone_{i}.jpg" for i in range(30)]
    code, _, errors = run(capsys, trained_run, paths[0], *names, f"--output={tmp_path / 'x.csv'}")
    assert code == 0
    assert errors.count("; skipped") == 20
    assert "tfr: and 10 more; see `error` in the output\n31 images, 30 of them could not be used" in errors
    assert run(capsys, trained_run, paths[0], *names)[2].count("; skipped") == 30  # text has no place for them


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "takes a run directory"),
        (["RUN"], 2, "There is nothing to predict on"),
        (["x.jpg"], 2, r"\(x.jpg was taken for the run directory, which comes first\.\)"),
        (["nowhere", "x.jpg"], 1, "No run directory at nowhere"),
        (["RUN", "x.jpg", "--split=test"], 2, "not both"),
        (["RUN", "x.jpg", "--targets"], 2, "--targets is for examples of a dataset"),
        (["RUN", "x.jpg", "--column=c"], 2, "--column=c"),
        (["RUN", "x.jpg", "--thresholds=often"], 2, "--thresholds must be none, run, or a number"),
        (["RUN", "x.jpg", "--format=parquet"], 2, "--format=parquet needs --output=FILE"),
        (["RUN", "x.jpg", "--output=x.xls"], 2, "does not say in which format"),
        (["RUN", "x.jpg", "--embeddings"], 2, "--embeddings needs --format=jsonl"),
        (["RUN", "x.jpg", "--json", "--format=csv"], 2, "--json is --format=jsonl"),
        (["RUN", "x.jpg", "--batch_size=0"], 2, "--batch_size"),
        (["RUN", "none/*.jpg"], 1, "No file matches"),
        (["RUN", "--split=tset"], 1, "no split 'tset'"),
        (["RUN", "--dataset=nowhere"], 1, "nowhere"),
    ],
)
def test_wrong_calls_are_one_line(arguments, code, message, trained_run, capsys):
    got, output, errors = run(capsys, *[trained_run if argument == "RUN" else argument for argument in arguments])
    assert (got, output) == (code, "")
    assert re.fullmatch(r"tfr: .+\n", errors), errors
    assert re.search(message, errors)


def test_a_folder_with_a_run_in_it_says_which_is_meant(trained_run, capsys):
    above = os.path.dirname(trained_run)
    code, _, errors = run(capsys, above, "x.jpg")
    assert code == 1
    assert errors == f"tfr: {above} is not a finished run: it has no model.keras, labels.txt, config.json. " + (
        f"{trained_run} is one.\n"
    )


def test_an_address_of_the_web_harms_no_other_image(trained_run, paths, tmp_path, capsys):
    (tmp_path / "list.txt").write_text(f"https://x.org/a.jpg\n{paths[0]}\n")
    code, output, errors = run(capsys, trained_run, f"--images_file={tmp_path / 'list.txt'}", "--json")
    assert code == 0
    assert [json.loads(line)["image"] for line in output.splitlines()] == ["https://x.org/a.jpg", paths[0]]
    assert "tfr: https://x.org/a.jpg: unreadable: files are not read from web servers. Download it" in errors


def test_the_rule_needs_no_tensorflow(run_python):
    code = "import sys; from tfr.train.prediction import job, output, predict; print('tensorflow' in sys.modules)"
    assert run_python("-c", code).stdout == "False\n"
    assert DEFAULT_TOP_K == 10
