"""What several test modules share: small seeded images, tiny image sets with annotations, and the command line."""

import io
import logging
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

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
