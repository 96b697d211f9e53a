"""TensorFlow Lite files: one image at a time, `pixels` to `probabilities`, float32 in and out whatever is between.

int8: weights and activations of the backbone are 8-bit integers, everything from its last pooling on, which is the
head, is float32. Reasons, from movie posters with EfficientNet-Lite0: an embedding of 8 bits cost 0.02 of micro mAP;
and TensorFlow 2.21's interpreter got a head of 8 bits all wrong, its XNNPACK kernels disagreeing with its plain ones
over the batched matrix product of an ensemble.
"""

import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from tfr import files
from tfr.errors import TfrError

from .. import quiet
from .config import FLOAT16, INT8
from .model import PIXELS, PROBABILITIES, SAVE_OPTIONS, ExportModel


def write(tagger: ExportModel, path: str, format: str, calibration: np.ndarray | None = None) -> None:
    """Writes a .tflite file.

    Args:
      tagger: what to write.
      path: of the file.
      format: one of the formats of TensorFlow Lite in config.FORMATS.
      calibration: for int8, training images by which the ranges of activations are chosen, uint8 (n, image_size,
        image_size, 3).

    Raises:
      TfrError: the network has something that TensorFlow Lite does not know.
    """
    with tempfile.TemporaryDirectory() as folder, quiet.no_chatter():
        _save_for_conversion(tagger, folder)
        try:
            if format == INT8:
                assert calibration is not None
                content = _quantize(folder, calibration)
            else:
                content = _converter(folder, half=format == FLOAT16).convert()
        except Exception as err:  # the converter raises several kinds
            raise TfrError(
                f"TensorFlow Lite cannot take this network as {format}: {' '.join(str(err).split())[:300]} "
                f"Leave {format} out, or train another backbone."
            ) from err
    with files.atomic_write(path) as file:
        file.write(content)


def _save_for_conversion(tagger: ExportModel, folder: str) -> None:
    """A SavedModel for one image: what the converter understands best."""
    module, network = tf.Module(), tagger.graph(batch_size=1)
    spec = tf.TensorSpec((1, *tagger.model.input_shape[1:]), tf.float32, name=PIXELS)
    module.call = tf.function(lambda pixels: {PROBABILITIES: network(pixels)[0]}, input_signature=[spec])
    tf.saved_model.save(module, folder, signatures={"serving_default": module.call}, options=SAVE_OPTIONS)


def _converter(folder: str, *, half: bool = False) -> Any:
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    if half:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    return converter


def _quantize(folder: str, calibration: np.ndarray) -> bytes:
    """The int8 model. TensorFlow's debugger of quantisation is what can leave parts of a network in float32."""

    def examples() -> Iterator[list[np.ndarray]]:
        for image in calibration:
            yield [image[None].astype(np.float32)]

    kept = _outputs_of_head(_converter(folder).convert())
    converter = _converter(folder)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = examples
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_nodes=kept)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the interpreter, see runtimes
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter, debug_dataset=examples, debug_options=options
        )
    return debugger.get_nondebug_quantized_model()


def _outputs_of_head(model: bytes) -> list[str]:
    """Names of what all operations give from the last one on that looks at a map of features: the pooling."""
    graph = schema.Model.GetRootAsModel(model, 0).Subgraphs(0)
    operators = [graph.Operators(number) for number in range(graph.OperatorsLength())]
    is_on_map = [_is_map(graph.Tensors(operator.Inputs(0))) for operator in operators]
    last = max((number for number, found in enumerate(is_on_map) if found), default=0)
    outputs = [number for operator in operators[last:] for number in operator.OutputsAsNumpy()]
    return [graph.Tensors(number).Name().decode() for number in outputs]


def _is_map(tensor: Any) -> bool:
    """Whether a tensor has height and width, (1, height, width, channels)."""
    return tensor.ShapeLength() == 4 and tensor.Shape(1) > 1 and tensor.Shape(2) > 1
