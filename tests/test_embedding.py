"""Cached embeddings: right numbers, nothing done twice, nothing stale taken for fresh."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from tfr import cli, conversion, dataset_dir, shards, synthetic
from tfr.annotations import ReadOptions
from tfr.config import ConvertConfig
from tfr.errors import ConversionError, DatasetError, UsageError
from tfr.train import augmentation, bottlenecks, input_pipeline, preprocessing
from tfr.train.embedding import embed, plan
from tfr.train.embedding import writer as embedding_writer
from tfr.train.embedding.config import EmbedConfig
from tfr.train.embedding.directory import EmbeddingDir
from tfr.train.embedding.plan import Recipe

SIZE = 32


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """90 drawn images in three shards a split; returns the dataset directory."""
    folder = tmp_path_factory.mktemp("source")
    csv_path, images = synthetic.write_image_set(str(folder), 90)
    return conversion.convert(
        ConvertConfig(
            annotations=csv_path,
            images=images,
            data_dir=str(folder / "data"),
            name="shapes",
            read=ReadOptions(label_delimiter="|"),
            num_shards=3,
        )
    ).dataset_dir


@pytest.fixture(scope="module", autouse=True)
def _prepared_once():
    """Building and folding a network takes longer than embedding with it; each is done once a test module."""
    with pytest.MonkeyPatch.context() as patch:
        build, compile_forward = embed._build_backbone, embed.forward.compile_forward
        networks, compiled = {}, {}

        def build_once(config, name):
            key = (name, config.weights, config.image_size, config.seed)
            return networks.setdefault(key, networks.get(key) or build(config, name))

        def compile_once(model, **options):
            return compiled.setdefault(id(model), compiled.get(id(model)) or compile_forward(model, **options))

        patch.setattr(embed, "_build_backbone", build_once)
        patch.setattr(embed.forward, "compile_forward", compile_once)
        yield


@pytest.fixture(scope="module")
def base(source):
    """Embeddings of `source` by a small input of the real network."""
    return EmbedConfig(dataset=source, backbone="efficientnet_lite0", image_size=SIZE, batch_size=7)


@pytest.fixture(scope="module")
def embedded(base, tmp_path_factory):
    """The directory of `base`: look at it, do not change it."""
    return embed.embed(dataclasses.replace(base, output=str(tmp_path_factory.mktemp("embedded") / "1.0.0"))).output


@pytest.fixture(scope="module")
def exact(base, tmp_path_factory):
    """The same in single precision, with three views each."""
    output = str(tmp_path_factory.mktemp("exact") / "1.0.0")
    changes = {"dtype": "float32", "num_views": 3, "augment": "crop:0.3,flip", "output": output}
    return embed.embed(dataclasses.replace(base, **changes)).output


@pytest.fixture
def make_config(base, tmp_path):
    """make_config(**changes): `base` in tmp_path/embeddings."""
    return lambda **changes: dataclasses.replace(base, **{"output": str(tmp_path / "embeddings"), **changes})


@pytest.fixture
def copy(embedded, tmp_path):
    """A copy of `embedded` where `make_config` writes."""
    return str(shutil.copytree(embedded, tmp_path / "embeddings"))


@pytest.fixture(scope="module")
def backbone(base):
    """The network of `base`."""
    return embed._build_backbone(base, base.backbone)


def examples(path, split):
    """A split as TFDS alone gives it: id to example."""
    builder = tfds.builder_from_directory(path)
    return {example["id"].decode(): example for example in tfds.as_numpy(builder.as_dataset(split=split))}


def stamps(path):
    """Shard to the time it was written."""
    return {file.name: file.stat().st_mtime_ns for file in pathlib.Path(path).glob("*.tfrecord-*")}


def test_tfds_opens_embeddings_with_all_that_the_records_had(embedded, source):
    builder, before = tfds.builder_from_directory(embedded), tfds.builder_from_directory(source)
    assert builder.info.full_name == "shapes_efficientnet_lite0/1.0.0"
    assert set(builder.info.features) == {*before.info.features} - {"image"} | {"embedding"}
    assert builder.info.features["labels"].feature.names == before.info.features["labels"].feature.names
    for split, info in before.info.splits.items():
        assert builder.info.splits[split].shard_lengths == info.shard_lengths
        found, expected = examples(embedded, split), examples(source, split)
        assert list(found) == list(expected)
        for id_, example in found.items():
            assert example["labels"].tolist() == expected[id_]["labels"].tolist()
            assert example["fingerprint"] == expected[id_]["fingerprint"]
    assert not os.path.exists(f"{embedded}/.plan")


def test_the_numbers_are_those_of_the_backbone(embedded, exact, source, backbone):
    builder = input_pipeline.open_dataset(source)
    by_hand = bottlenecks.embed(backbone, builder, "validation", batch_size=32, resize="squash").values
    assert by_hand.std() > 0.1
    half, single = (
        np.stack([e["embedding"] for e in examples(path, "validation").values()]) for path in (embedded, exact)
    )
    assert (half.dtype, single.dtype) == (np.float16, np.float32)
    np.testing.assert_allclose(single, by_hand, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(half, by_hand, rtol=2e-3, atol=2e-3)


@pytest.mark.usefixtures("copy")
def test_the_same_command_again_does_nothing(make_config):
    written = stamps(make_config().output)
    again = embed.embed(make_config())
    assert (again.reused, again.shards_embedded, again.shards_kept) == (True, 0, 9)
    assert stamps(again.output) == written


class Killed(BaseException):
    """Stands for what ends a process."""


def test_a_killed_run_goes_on_with_the_missing_shards(make_config, monkeypatch, embedded):
    real, count = shards.create, 0

    @contextlib.contextmanager
    def create(path):
        nonlocal count
        count += 1
        with real(path) as writer:
            yield writer
            if count == 5:
                raise Killed

    monkeypatch.setattr(shards, "create", create)
    with pytest.raises(Killed):
        embed.embed(make_config())
    output = make_config().output
    written = stamps(output)
    assert len(written) == 4
    with pytest.raises(DatasetError):
        dataset_dir.open_builder(output)
    monkeypatch.undo()
    result = embed.embed(make_config())
    assert (result.shards_embedded, result.shards_kept) == (5, 4)
    assert written.items() <= stamps(output).items()
    for split in ("train", "validation", "test"):
        one, other = (np.stack([e["embedding"] for e in examples(path, split).values()]) for path in (output, embedded))
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(
    ("changes", "difference"),
    {
        "size": ({"image_size": 64}, "image_size: 32 -> 64"),
        "resize": ({"resize": "crop"}, "resize: squash -> crop"),
        "weights": ({"weights": "none"}, r"weights: \w{12}\.\.\. -> \w{12}\.\.\."),
        "dtype": ({"dtype": "float32"}, "dtype: float16 -> float32"),
        "views": ({"num_views": 2}, "num_views: 0 -> 2; augment: None -> light; seed: None -> 0"),
    }.values(),
)
@pytest.mark.usefixtures("copy")
def test_embeddings_made_otherwise_are_refused_with_the_difference(changes, difference, make_config):
    before = stamps(make_config().output)
    with pytest.raises(DatasetError, match=f"made otherwise .*{difference}.*--overwrite"):
        embed.embed(make_config(**changes))
    assert stamps(make_config().output) == before
    dataset_dir.open_builder(make_config().output)


@pytest.mark.usefixtures("copy")
def test_another_rule_for_pixels_makes_embeddings_old(make_config, monkeypatch):
    now = preprocessing.VERSION
    monkeypatch.setattr(preprocessing, "VERSION", now + 1)
    with pytest.raises(DatasetError, match=f"preprocessing: {now} -> {now + 1}"):
        embed.embed(make_config())
    result = embed.embed(make_config(overwrite=True))
    assert (result.shards_embedded, result.recipe["preprocessing"]) == (9, now + 1)


def _grow(source, target):
    """A copy of a dataset whose training split has another shard in front; returns its directory."""
    shutil.copytree(source, target)
    names = sorted(name for name in os.listdir(target) if "-train.tfrecord-" in name)
    for number, name in reversed(list(enumerate(names, 1))):
        os.rename(f"{target}/{name}", f"{target}/{shards.shard_name('shapes', 'train', number, len(names) + 1)}")
    extra = list(shards.read_records(f"{source}/{names[0]}"))[:5]
    with shards.create(f"{target}/{shards.shard_name('shapes', 'train', 0, len(names) + 1)}") as writer:
        for record in extra:
            writer.write(record, *shards.frame(record))
    path = pathlib.Path(target, "dataset_info.json")
    info = json.loads(path.read_text())
    for split in info["splits"]:
        if split["name"] == "train":
            split["shardLengths"] = [str(len(extra)), *split["shardLengths"]]
    path.write_text(json.dumps(info))
    return str(target)


def test_what_did_not_change_in_a_dataset_that_grew_is_kept(make_config, copy, source, tmp_path):
    before = {id_: e["embedding"] for id_, e in examples(copy, "train").items()}
    grown = _grow(source, tmp_path / "shapes" / "1.0.0")
    result = embed.embed(make_config(dataset=grown))
    assert (result.shards_embedded, result.shards_kept) == (1, 9)
    names = {
        path.name.replace("shapes-", "shapes_efficientnet_lite0-") for path in pathlib.Path(grown).glob("*.tfrecord-*")
    }
    assert set(stamps(result.output)) == names
    after = examples(result.output, "train")
    assert list(after) == list(examples(grown, "train"))
    np.testing.assert_array_equal([after[id_]["embedding"] for id_ in before], list(before.values()))


def test_another_version_takes_over_what_it_shares_with_the_one_beside_it(make_config, embedded, source, tmp_path):
    shutil.copytree(embedded, tmp_path / "cache" / "1.0.0")
    grown = _grow(source, tmp_path / "shapes" / "1.1.0")
    result = embed.embed(make_config(dataset=grown, output=str(tmp_path / "cache" / "1.1.0")))
    assert (result.shards_embedded, result.shards_kept) == (1, 9)
    assert list(examples(result.output, "train")) == list(examples(grown, "train"))


@pytest.mark.usefixtures("copy")
def test_a_dataset_whose_examples_changed_is_refused(make_config, source, tmp_path):
    changed = shutil.copytree(source, tmp_path / "changed")
    name = sorted(name for name in os.listdir(changed) if "-train.tfrecord-" in name)[1]
    records = list(shards.read_records(f"{changed}/{name}"))
    with shards.create(f"{changed}/{name}") as writer:
        for record in [*records[1:], records[0]]:
            writer.write(record, *shards.frame(record))
    os.unlink(f"{changed}/conversion.json")  # whose checksums are those of before
    with pytest.raises(DatasetError, match=r"the dataset changed.*1 of its 9 shards \(\S+-train.tfrecord-00001"):
        embed.embed(make_config(dataset=str(changed)))
    result = embed.embed(make_config(dataset=str(changed), overwrite=True))
    assert (result.shards_embedded, result.shards_kept) == (1, 8)
    assert list(examples(result.output, "train")) == list(examples(changed, "train"))


def test_views_are_the_augmented_images(exact, source, backbone):
    found = examples(exact, "train")
    views, plain = (np.stack([e[key] for e in found.values()]) for key in ("embedding_views", "embedding"))
    assert views.shape == (len(found), 3, 1280)
    assert (np.abs(views - plain[:, None]).max(axis=2) > 0.05).mean() > 0.9
    assert (np.abs(views[:, 0] - views[:, 1]).max(axis=1) > 0.05).mean() > 0.9
    builder = input_pipeline.open_dataset(source)
    images = next(
        iter(tfds.as_numpy(builder.as_dataset(split="train", decoders={"image": tfds.decode.SkipDecoding()})))
    )
    augmented = augmentation.make_augmentation("crop:0.3,flip", SIZE, "squash")
    key = tf.strings.to_hash_bucket_fast(images["image"], embedding_writer._HASHES)
    draws = augmentation.random_rows(0, key, 3, augmented.num_draws)
    example = {"image": tf.constant(images["image"]), "draws": draws[1]}
    for op in augmented.image_ops:
        example = op(example)
    expected = backbone(tf.cast(example["image"], tf.float32)[None], training=False)[0]
    np.testing.assert_allclose(views[0, 1], expected, rtol=1e-3, atol=1e-3)


def test_views_do_not_depend_on_the_order(exact, source, backbone, tmp_path):
    """The last shard alone, in one batch, has the views that it has when it is one of many."""
    recipe = Recipe(**json.loads(pathlib.Path(exact, "embedding.json").read_text())["recipe"])
    last = plan.plan(input_pipeline.open_dataset(source), "shapes_efficientnet_lite0")[-1]
    target = EmbeddingDir(str(tmp_path))
    os.makedirs(target.plan_dir)
    forward = embed.forward.compile_forward(backbone, dtype=tf.uint8)
    embedding_writer.write_shards(embedding_writer.Settings(target, recipe, source, 64), forward, [last])
    features = tfds.builder_from_directory(exact).info.features
    stored, alone = (
        np.stack(
            [features.deserialize_example_np(r)["embedding_views"] for r in shards.read_records(f"{path}/{last.file}")]
        )
        for path in (exact, target.path)
    )
    np.testing.assert_allclose(stored, alone, rtol=1e-3, atol=1e-3)


def test_single_label_datasets_keep_their_label(make_config, drawn_single):
    result = embed.embed(make_config(dataset=drawn_single, batch_size=32))
    builder = dataset_dir.open_builder(result.output)
    assert (dataset_dir.label_key(builder), dataset_dir.label_names(builder)) == ("label", ["blue", "green", "red"])


def test_the_default_place_is_beside_the_dataset(make_config, source):
    result = embed.embed(make_config(output=None))
    data_dir = pathlib.Path(source).parent.parent
    assert result.output == str(data_dir / "shapes_efficientnet_lite0" / "1.0.0")
    assert tfds.load("shapes_efficientnet_lite0", data_dir=data_dir, split="test").element_spec["embedding"].shape == (
        1280,
    )


def test_other_datasets_are_never_written_over(make_config, embedded, source, tmp_path):
    target = str(shutil.copytree(source, tmp_path / "other"))
    before = stamps(target)
    with pytest.raises(DatasetError, match="holds a dataset that tfr embed did not make"):
        embed.embed(make_config(output=target, overwrite=True))
    assert stamps(target) == before
    with pytest.raises(DatasetError, match="has no images in a feature 'image'"):
        embed.embed(make_config(dataset=embedded, output=str(tmp_path / "twice")))


def test_numbers_that_do_not_fit_are_an_error(make_config, monkeypatch):
    monkeypatch.setattr(embed.forward, "compile_forward", lambda *_, **__: lambda x: tf.fill((len(x), 1280), 1e5))
    with pytest.raises(DatasetError, match=r"does not fit float16.*100000.*--dtype=float32"):
        embed.embed(make_config())
    assert not stamps(make_config().output)


def test_two_at_once_do_not_mix(make_config):
    import fcntl

    os.makedirs(f"{make_config().output}/.plan")
    with open(f"{make_config().output}/.plan/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConversionError, match="Another tfr embed is writing to"):
            embed.embed(make_config())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "int8"}, "--dtype must be one of float16, float32"),
        ({"resize": "stretch"}, "--resize must be one of"),
        ({"augment": "crop,mixup"}, "mixup mixes images"),
        ({"num_views": -1}, "--views must be at least 0"),
    ],
)
def test_wrong_values_are_refused_at_once(changes, message):
    with pytest.raises(UsageError, match=message):
        EmbedConfig(dataset="no/such/folder", **changes)


# The command


@pytest.mark.usefixtures("copy")
def test_the_command_says_what_it_did_for_people_and_programs(make_config, source, capsys):
    command = ["embed", source, f"--output={make_config().output}", f"--image_size={SIZE}"]
    assert cli.main([*command, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["reused"], result["shards_kept"], result["recipe"]["dtype"]) == (True, 9, "float16")
    assert cli.main(command) == 0
    assert "Already embedded, nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "takes a dataset directory or a TFDS name"),
        (["d", "--backbone=effnet"], "Unknown backbone 'effnet'"),
        (["d", "--num_workers=2"], "--num_workers=2 is for a Beam job; name its --runner"),
        (["d", "--", "--region=r"], "Beam options --region=r are for a Beam job"),
        (["d", "more"], "Received: more"),
        (["d", "--runner=dask", "--dtype=int8"], "dtype"),
    ],
)
def test_wrong_calls_are_one_line_and_exit_code_2(arguments, message, capsys):
    assert cli.main(["embed", *arguments]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
