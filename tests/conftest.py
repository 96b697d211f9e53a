"""What several test modules share: small seeded images, tiny image sets with annotations, and the command line."""

import dataclasses
import io
import logging
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conversion_checks import ALL_IN_TRAIN, IMAGES, LABELS, one_hot_rows, write_csv
from PIL import Image

from tfr import conversion, synthetic
from tfr.annotations import ReadOptions
from tfr.config import ConvertConfig

os.environ["TFR_PROGRESS"] = "0"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _restore_logging():
    """A command that runs in this process logs to the standard error of its test, which ends with the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(autouse=True)
def _forget_networks(request):
    """Long tests build dozens of networks, which Keras would hold until the process ends: gigabytes."""
    yield
    if request.node.get_closest_marker("slow") and "keras" in sys.modules:
        from tfr.train import memory

        sys.modules["keras"].backend.clear_session()
        memory.give_back()


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real inputs beside the checkout; tests that use it are skipped where there is none."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no shared/data beside the checkout")
    return folder


@pytest.fixture(scope="session")
def make_photo():
    """make_photo(seed, size): an RGB image of smooth, seeded blobs, no two alike, that JPEG hardly changes."""

    def make(seed: int = 0, size: tuple[int, int] = (48, 32)) -> Image.Image:
        blobs = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
        return Image.fromarray(blobs).resize(size, Image.Resampling.BICUBIC)

    return make


@pytest.fixture(scope="session")
def encode():
    """encode(image, format, **options): an image file's bytes."""

    def encode_image(image: Image.Image, format: str = "JPEG", **options) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, format, **options)
        return buffer.getvalue()

    return encode_image


@pytest.fixture
def write_photos(tmp_path, make_photo, encode):
    """write_photos(names, folder): seeded JPEGs under these names (other formats by extension); returns the folder."""
    formats = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP", ".gif": "GIF"}

    def write(names, folder: str = "images") -> pathlib.Path:
        root = tmp_path / folder
        for seed, name in enumerate(names):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(make_photo(seed), formats[path.suffix.lower()]))
        return root

    return write


@pytest.fixture(scope="session")
def run_python():
    """run_python(*args, cwd=..., env=...): another interpreter, its output captured, whatever its exit code."""

    def run(*args, cwd=None, env=None, timeout=300) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, *map(str, args)],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


@pytest.fixture(scope="session")
def run_tfr(run_python, tmp_path_factory):
    """run_tfr(*args): the `tfr` program in a process of its own, by default in an empty folder."""

    def run(*args, cwd=None, **options) -> subprocess.CompletedProcess:
        return run_python("-m", "tfr", *args, cwd=cwd or tmp_path_factory.mktemp("cwd"), **options)

    return run


# Conversions


@pytest.fixture
def make_config(tmp_path):
    """make_config(**changes): a conversion of tmp_path/images by tmp_path/annotations.csv into tmp_path/data."""

    def make(**changes):
        settings = {
            "annotations": str(tmp_path / "annotations.csv"),
            "images": str(tmp_path / "images"),
            "data_dir": str(tmp_path / "data"),
            "name": "pets",
            "read": ReadOptions(label_columns=("bird:dog",), label_encoding="one_hot"),
            "split_ratios": ALL_IN_TRAIN,
            "num_shards": 3,
        }
        return ConvertConfig(**{**settings, **changes})

    return make


@pytest.fixture
def pets(tmp_path, write_photos):
    """tmp_path/images with IMAGES, and tmp_path/annotations.csv with their labels as 0/1 columns."""
    folder = write_photos(IMAGES)
    write_csv(tmp_path / "annotations.csv", one_hot_rows(IMAGES))
    return folder


@pytest.fixture
def messy(tmp_path, write_photos):
    """Every way in which a row or an image can fail, beside sound ones."""
    folder = write_photos([f"{name}.jpg" for name in (*"abcdef", "extra1", "extra2")])
    whole = (folder / "a.jpg").read_bytes()
    (folder / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("no image")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("no image, and not said to be one")
    lines = [
        "id,bird,cat,dog",
        "a,0,1,0", "b,1,0,0", "c,0,1,1", "a,0,0,1", "gone,1,0,0", "broken,0,1,0", "text,0,1,0", "d,0,2,0",
        "e,1,0", ",1,0,0", "a,1,0,0", "empty,0,0,1", "f,0,0,0",
    ]  # fmt: skip
    (tmp_path / "annotations.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture
def many(tmp_path, write_photos):
    """Forty rows: enough for several batches of several threads; some images are broken, some are PNGs."""
    folder = write_photos([f"{i:02}.{'png' if i % 7 == 0 else 'jpg'}" for i in range(40)])
    (folder / "05.jpg").write_text("broken")
    (folder / "33.jpg").write_bytes((folder / "33.jpg").read_bytes()[:-200])
    rows = [[f"{i:02}", i % 2, int(i % 3 == 0), int(i % 5 == 0)] for i in range(40)]
    write_csv(tmp_path / "annotations.csv", [["id", *LABELS], *rows])
    return folder


# A trained run, made once for all test modules: copy it (`run_copy`) to change it


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """150 drawn images with 9 labels, and the messes of real data; returns (dataset directory, image folder)."""
    folder = tmp_path_factory.mktemp("drawn")
    csv_path, images = synthetic.write_image_set(str(folder), 150)
    result = conversion.convert(
        ConvertConfig(
            annotations=csv_path,
            images=images,
            data_dir=str(folder / "data"),
            name="shapes",
            read=ReadOptions(label_delimiter="|"),
        )
    )
    return result.dataset_dir, images


@pytest.fixture(scope="session")
def drawn_single(drawn, tmp_path_factory):
    """The drawn images with exactly one of three labels each; returns the dataset directory."""
    folder = tmp_path_factory.mktemp("drawn_single")
    names = sorted(name for name in os.listdir(drawn[1]) if name.startswith("shapes_"))
    assert len(names) > 100
    rows = [[name, ("red", "green", "blue")[number % 3]] for number, name in enumerate(names)]
    write_csv(folder / "one.csv", [["image", "label"], *rows])
    result = conversion.convert(
        ConvertConfig(
            annotations=str(folder / "one.csv"),
            images=drawn[1],
            data_dir=str(folder / "data"),
            name="one",
            label_mode="single",
        )
    )
    return result.dataset_dir


@pytest.fixture(scope="session")
def small_train_config():
    """small_train_config(dataset_dir, run_dir, **changes): seconds of training on a small, random network."""

    def make(dataset_dir, run_path, **changes):
        from tfr.train.config import DataConfig, ModelConfig, TrainConfig

        small = TrainConfig(
            run_dir=str(run_path),
            data=DataConfig(dataset=dataset_dir, batch_size=16),
            model=ModelConfig(weights="none", image_size=64, features="stages", hidden_units=(16,), dropout=0.1),
            epochs=3,
            finetune_epochs=1,
        )
        return dataclasses.replace(small, **changes)

    return make


@pytest.fixture(scope="session")
def trained_run(drawn, small_train_config, tmp_path_factory):
    """The run directory of three head epochs and one of fine-tuning on `drawn`."""
    from tfr.train import training

    path = tmp_path_factory.mktemp("runs") / "small"
    training.train(small_train_config(drawn[0], path))
    return str(path)


@pytest.fixture(scope="session")
def single_label_run(drawn_single, small_train_config, tmp_path_factory):
    """The run directory of two head epochs on `drawn_single`."""
    from tfr.train import training

    path = tmp_path_factory.mktemp("runs") / "single"
    training.train(small_train_config(drawn_single, path, epochs=2, finetune_epochs=0))
    return str(path)


@pytest.fixture
def run_copy(trained_run, tmp_path):
    """A copy of `trained_run` that a test may change."""
    return str(shutil.copytree(trained_run, tmp_path / "run_copy"))
