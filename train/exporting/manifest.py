"""What is written beside exported files about them: export.json."""

import contextlib
import dataclasses
import importlib.metadata
import os
from collections.abc import Sequence
from typing import Any

from .. import run_dir
from . import check
from .config import ExportConfig

_PACKAGES = ("tensorflow", "keras", "numpy", "tf2onnx", "onnx", "onnxruntime", "ai-edge-litert")


def facts(run: run_dir.Run) -> dict[str, Any]:
    """What one has to know of the network to use it."""
    return {
        "labels": run.labels,
        "label_mode": "multi" if run.multi_label else "single",
        "thresholds": run.thresholds.to_json(run.labels),
        "image_size": run.image_size,
        "resize": run.resize,
        "pixels": "RGB, 0 to 255; all scaling is inside",
    }


def describe(
    config: ExportConfig, run: run_dir.Run, folder: str, split: str, num_checked: int, rows: Sequence[check.Row]
) -> dict[str, Any]:
    """What export.json holds: how to use the files, where they come from, and how they compare.

    Args:
      config: of the export.
      run: what was exported.
      folder: where the files are now.
      split, num_checked, rows: what was compared; see check.check.
    """
    resolved = run.config["resolved"]
    return {
        "name": config.model_name,
        "formats": {
            format: {"file": name, "bytes": _size(os.path.join(folder, name))}
            for format, name in config.file_names.items()
        },
        **facts(run),
        "run": {
            "path": os.path.abspath(run.path),
            "backbone": resolved["backbone"],
            "dataset": resolved["dataset"],
            "precision": run.config["precision"],
            "temperature": resolved.get("temperature", 1.0),
        },
        "check": {
            "split": split,
            "images": num_checked,
            "rows": [dataclasses.asdict(row) for row in rows],
        },
        "versions": _versions(),
    }


def _size(path: str) -> int:
    """Bytes of a file, or of all files below a folder."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names)


def _versions() -> dict[str, str]:
    from tfr import __version__

    found = {"tfr": __version__}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
