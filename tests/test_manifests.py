import pathlib

import numpy as np
import pytest

from tfr import conversion, manifests, splits
from tfr.annotations import ReadOptions
from tfr.config import ConvertConfig


def make_config(**changes):
    return ConvertConfig(annotations="a.csv", images="i", data_dir="d", name="n", **changes)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("num_rows", "mean_kb", "max_mb"), [(3_000, 33, 4), (20_000, 110, 128), (8_000, 110, 8)])
def test_shards_stay_below_the_size_that_is_asked_for(seed, num_rows, mean_kb, max_mb):
    sizes = np.random.default_rng(seed).gamma(4, mean_kb * 256, num_rows)  # deviates by half its mean
    num_shards = manifests.choose_num_shards(num_rows, int(sizes.sum()), make_config(max_shard_size_mb=max_mb))
    hash_id, shard_sizes = splits.Hasher(f"tfr:{seed}"), np.zeros(num_shards)
    for row, size in enumerate(sizes):
        shard_sizes[manifests.shard_index(hash_id(f"images/{row}.jpg"), num_shards)] += size
    assert shard_sizes.max() <= max_mb << 20
    assert shard_sizes.mean() >= (max_mb << 20) / 5  # and there are not needlessly many


def test_what_fits_into_one_shard_is_one_shard():
    for num_bytes, expected in ((128 << 20, 1), ((128 << 20) + 1, 2)):
        assert manifests.choose_num_shards(100, num_bytes, make_config()) == expected


def test_a_number_of_shards_that_is_asked_for_is_taken():
    assert manifests.choose_num_shards(10, 1 << 40, make_config(num_shards=3)) == 3
    assert manifests.choose_num_shards(0, 0, make_config(num_shards=3)) == 3


def test_many_small_images_make_enough_shards_to_read_in_parallel():
    assert manifests.choose_num_shards(100_000, 1 << 20, make_config()) == 8
    assert manifests.choose_num_shards(256, 1 << 20, make_config()) == 2


def test_shards_of_real_images_stay_below_the_size_that_is_asked_for(shared_data, tmp_path):
    config = ConvertConfig(
        annotations=str(shared_data / "movie_posters" / "train.csv"),
        images=str(shared_data / "movie_posters" / "Images"),
        data_dir=str(tmp_path),
        name="posters",
        read=ReadOptions(id_column="Id", label_columns=("Action:Western",)),
        max_shard_size_mb=8,
    )
    folder = pathlib.Path(conversion.convert(config).dataset_dir)
    sizes = [path.stat().st_size for path in folder.glob("posters-train.*")]
    assert 10 < len(sizes) < 25
    assert max(sizes) <= 8 << 20
