"""What an export does, as a frozen object; importing this imports no TensorFlow."""

import dataclasses
import re

from tfr.errors import UsageError

from .. import run_dir

SAVED_MODEL, TFLITE, FLOAT16, INT8 = "saved_model", "tflite", "tflite_float16", "tflite_int8"
ONNX, KERAS = "onnx", "keras"
FORMATS = (SAVED_MODEL, TFLITE, FLOAT16, INT8, ONNX, KERAS)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """An export of a run into formats that are used without tfr.

    Attributes:
      run: a run directory.
      output: the folder to make; a path or URI.
      formats: some of FORMATS.
      name: of the model, and so of the SavedModel's folder, which TensorFlow Serving takes; None: run_dir.name_of it.
      version: the SavedModel's number; TensorFlow Serving takes the highest that it finds.
      dataset: dataset directory or TFDS name to take images from; None: the one of the training.
      calibration_images: training images by which int8 chooses its ranges.
      check: whether to compare what was written with the run's model.
      check_split: split whose images are compared.
      check_images: how many of them at most, evenly spread over the split.
      overwrite: whether to replace an export in `output`.
    """

    run: str
    output: str
    formats: tuple[str, ...] = (SAVED_MODEL,)
    name: str | None = None
    version: int = 1
    dataset: str | None = None
    calibration_images: int = 256
    check: bool = True
    check_split: str = "test"
    check_images: int = 64
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Checks values before anything is read."""
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown or not self.formats:
            raise UsageError(
                f"--format must be one or more of {', '.join(FORMATS)}, with commas between. "
                f"Received: --format={','.join(self.formats)}"
            )
        for flag in ("version", "calibration_images", "check_images"):
            if getattr(self, flag) < 1:
                raise UsageError(f"--{flag} must be at least 1. Received: --{flag}={getattr(self, flag)}")
        if not _NAME.fullmatch(self.model_name):
            raise UsageError(
                f"--name must be letters, digits, '.', '_' and '-', and not begin with the latter two signs. "
                f"Received: --name={self.model_name}"
            )

    @property
    def model_name(self) -> str:
        """`name`, or what the run's folder gives."""
        run = run_dir.name_of(self.run)
        return self.name or re.sub(r"[^A-Za-z0-9._-]", "_", run).lstrip(".-") or "model"

    def file_name(self, format: str) -> str:
        """Where a format is written, relative to `output`."""
        if format == SAVED_MODEL:
            return f"{self.model_name}/{self.version}"
        suffix = {ONNX: ".onnx", KERAS: ".keras"}.get(format, ".tflite")
        return f"model{format.removeprefix(TFLITE)}{suffix}" if format.startswith(TFLITE) else f"model{suffix}"

    @property
    def file_names(self) -> dict[str, str]:
        """Each of `formats` to its file or folder in `output`."""
        return {format: self.file_name(format) for format in self.formats}
