"""Embedding on Beam's runners: the numbers of the local way, shard for shard, nothing done twice."""

import dataclasses
import os
import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfr import shards
from tfr.errors import ConversionError, UsageError
from tfr.train.embedding import embed, job
from tfr.train.embedding.config import EmbedConfig


@pytest.fixture(scope="module")
def base(drawn):
    """Small embeddings of the drawn images, in a few shards a split."""
    return EmbedConfig(dataset=drawn[0], backbone="efficientnet_lite0", image_size=32)


@pytest.fixture(scope="module")
def local(base, tmp_path_factory):
    """The directory of `base`, embedded without Beam."""
    return embed.embed(dataclasses.replace(base, output=str(tmp_path_factory.mktemp("local")))).output


def embeddings(path):
    """Split and id to embedding, by TFDS alone."""
    builder = tfds.builder_from_directory(path)
    return {
        (split, example["id"]): example["embedding"]
        for split in builder.info.splits
        for example in tfds.as_numpy(builder.as_dataset(split=split))
    }


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"runner": "in_process"}, id="in_process"),
        pytest.param({"runner": "in_process", "num_workers": 2}, id="processes", marks=pytest.mark.slow),
        pytest.param({"runner": "portable"}, id="portable", marks=pytest.mark.slow),
        pytest.param({"runner": "dask", "num_workers": 2}, id="dask", marks=pytest.mark.slow),
    ],
)
def test_a_job_gives_what_the_local_way_gives(options, base, local, tmp_path):
    result = embed.embed(dataclasses.replace(base, output=str(tmp_path / "job"), **options))
    found, expected = embeddings(result.output), embeddings(local)
    assert list(found) == list(expected)
    np.testing.assert_allclose([*found.values()], [*expected.values()], rtol=2e-3, atol=2e-3)
    assert sorted(os.listdir(result.output)) == sorted(os.listdir(local))
    written = [path.stat().st_mtime_ns for path in sorted(pathlib.Path(result.output).glob("*.tfrecord-*"))]
    again = embed.embed(dataclasses.replace(base, output=str(tmp_path / "job"), **options))
    assert again.reused
    assert written == [path.stat().st_mtime_ns for path in sorted(pathlib.Path(result.output).glob("*.tfrecord-*"))]


def test_a_job_that_failed_goes_on_with_the_missing_shards(base, local, tmp_path, monkeypatch):
    real, count = shards.create, 0

    def create(path):
        nonlocal count
        count += 1
        if count == 3:
            raise OSError(28, "No space left on device", path)
        return real(path)

    config = dataclasses.replace(base, output=str(tmp_path / "job"), runner="in_process")
    monkeypatch.setattr(shards, "create", create)
    with pytest.raises(ConversionError, match=r"No space left.*run the same command again"):
        embed.embed(config)
    monkeypatch.undo()
    ran = []
    monkeypatch.setattr(job._WriteShard, "__call__", _noting(ran, job._WriteShard.__call__), raising=True)
    result = embed.embed(config)
    assert (result.shards_kept, result.shards_embedded) == (2, len(ran))
    assert list(embeddings(result.output)) == list(embeddings(local))


def _noting(ran, real):
    def call(self, shard, forward):
        ran.append(shard.file)
        return real(self, shard, forward)

    return call


def test_what_workers_elsewhere_would_not_find_is_refused(base, tmp_path):
    options = {"runner": "PortableRunner", "beam_args": ("--job_endpoint=localhost:1", "--environment_type=DOCKER")}
    with pytest.raises(UsageError, match=r"DATASET=.* is on this machine, and a container runs on others"):
        embed.embed(dataclasses.replace(base, output=str(tmp_path / "job"), **options))
    assert not os.listdir(tmp_path)
