"""Exports a trained tagger to formats that are used without tfr, and checks them against it.

Usage:
  tfr export runs/posters --output=exported
  tfr export runs/posters --format=saved_model,tflite,tflite_int8,onnx --output=exported

saved_model     for TensorFlow Serving and plain TensorFlow: image files or pixels to tags, all inside
tflite          for phones and small boards, float32; tflite_float16: half its size
tflite_int8     8-bit weights and activations, ranges chosen by images of the training split
onnx            for ONNX Runtime (pip install 'tfr[onnx]')
keras           for Keras

Every format is compared with the run's model on images of the test split. A float format that says something else is an
error, and then nothing is left behind.
"""

from tfr import files
from tfr.errors import UsageError
from tfr.flag_groups import CommandFlags

from ..exporting.config import FORMATS, ExportConfig

FLAGS = CommandFlags()

_output = FLAGS.group("Output")
_OUTPUT = _output.string("output", None, "Folder to make; a path or URI.", required=True)
_FORMAT = _output.list("format", ExportConfig.formats, f"One or more of {', '.join(FORMATS)}.")
_NAME = _output.string("name", None, "Name of the model, and of the SavedModel's folder. Default: the run's.")
_VERSION = _output.integer("version", 1, "The SavedModel's version; TensorFlow Serving takes the highest.", lower=1)
_OVERWRITE = _output.bool("overwrite", False, "Replace the export that is in --output.")
_JSON = _output.bool("json", False, "Print what export.json holds.")

_data = FLAGS.group("Images")
_DATASET = _data.string("dataset", None, "Dataset directory or TFDS name. Default: the one of the training.")
_CALIBRATION = _data.integer("calibration_images", 256, "Training images by which int8 chooses ranges.", lower=1)
_CHECK = _data.bool("check", True, "Compare what was written with the run's model.")
_CHECK_SPLIT = _data.string("check_split", "test", "Split to compare on.")
_CHECK_IMAGES = _data.integer("check_images", 64, "How many images to compare on, at most.", lower=1)


def main(args: list[str]) -> None:
    """Exports and prints the comparison."""
    if len(args) != 1:
        raise UsageError(f"tfr export takes one run directory. Received: {args}")
    config = ExportConfig(
        run=args[0],
        output=_OUTPUT.value,
        formats=tuple(dict.fromkeys(_FORMAT.value)),
        name=_NAME.value,
        version=_VERSION.value,
        dataset=_DATASET.value,
        calibration_images=_CALIBRATION.value,
        check=_CHECK.value,
        check_split=_CHECK_SPLIT.value,
        check_images=_CHECK_IMAGES.value,
        overwrite=_OVERWRITE.value,
    )
    from .. import quiet, run_dir

    run_dir.load(args[0])  # an error here need not wait for TensorFlow
    quiet.import_tensorflow()
    from ..exporting import export

    result = export.export(config)
    if _JSON.value:
        print(files.read_bytes(files.join(config.output, export.EXPORT_FILE)).decode("utf-8"), end="")
    else:
        print(export.summary(result))
