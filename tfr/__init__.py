"""tfr: from a pile of annotated images to a deployed image tagger on the TensorFlow stack."""

import importlib
import pathlib
from typing import Any

# In a checkout `datasets/` and `train/` lie beside this folder, not in it (setup.py maps them), so that the
# same names work uninstalled: `tfr.datasets` and `tfr.train` are then found by this second search path.
if (_ROOT := pathlib.Path(__file__).resolve().parent.parent).joinpath("setup.py").is_file():
    __path__.append(str(_ROOT))

__version__ = "0.1.0"
__all__ = [
    "Annotation", "ConvertConfig", "Tagger", "TfrError", "__version__", "build", "convert", "load", "load_tagger",
    "read_annotations",
]  # fmt: skip

# name: (module, attribute), imported when asked for: `import tfr` imports nothing of weight.
_LAZY = {
    "Annotation": ("tfr.annotations", "Annotation"),
    "ConvertConfig": ("tfr.config", "ConvertConfig"),
    "Tagger": ("tfr.train.tagger", "Tagger"),
    "TfrError": ("tfr.errors", "TfrError"),
    "build": ("tfr.datasets.building", "build"),
    "convert": ("tfr.api", "convert"),
    "load": ("tfr.train.loading", "load"),
    "load_tagger": ("tfr.train.tagger", "load_tagger"),
    "read_annotations": ("tfr.annotations", "read"),
}
_LAZY_MODULES = ("annotations", "datasets", "errors", "train")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        module, attribute = _LAZY[name]
        return getattr(importlib.import_module(module), attribute)
    if name in _LAZY_MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_LAZY_MODULES})
