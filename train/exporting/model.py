"""The network of a run as its exports have it: in float32, weights as constants, by itself."""

import dataclasses
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from .. import run_dir
from ..prediction import tags

# Swish has a gradient of its own, which a graph without variables cannot be saved with; nobody trains an export.
SAVE_OPTIONS = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
PIXELS, PROBABILITIES = "pixels", "probabilities"  # names of input and output in every format


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportModel:
    """What is exported.

    Attributes:
      run: the run.
      model: float32 (n, image_size, image_size, 3) pixels of 0 to 255 to (n, num_labels) probabilities, computed in
        float32 whatever the run was trained in.
      rule: which labels are tags, as in prediction by the run's thresholds.
    """

    run: run_dir.Run
    model: keras.Model
    rule: tags.TagRule

    def graph(self, batch_size: int | None) -> Any:
        """The network as a ConcreteFunction without variables, from `pixels` to one output.

        Constants for two reasons: batch normalisation is folded into the convolutions, and the converters lose weights
        otherwise (TensorFlow Lite's keeps none of a Keras 3 model's without an error, and through Keras's own ONNX
        export the constants of a Normalization layer become inputs; both with TensorFlow 2.21).
        """
        spec = tf.TensorSpec((batch_size, *self.model.input_shape[1:]), tf.float32, name=PIXELS)
        forward = tf.function(lambda pixels: self.model(pixels, training=False), input_signature=[spec])
        return convert_variables_to_constants_v2(forward.get_concrete_function())


def load(run: run_dir.Run) -> ExportModel:
    """Loads a run's model for export."""
    rule = tags.make_rule(run, thresholds="run")
    return ExportModel(run=run, model=in_float32(run.load_model()), rule=rule)


def in_float32(model: keras.Model) -> keras.Model:
    """The same network computing in float32: few CPUs and no phone compute in bfloat16.

    The variables of mixed precision are float32 already, so nothing is lost.
    """
    if all(layer.dtype_policy.name == "float32" for layer in model.layers):
        return model
    copy = keras.models.clone_model(model, clone_function=_clone_in_float32)
    copy.set_weights(model.get_weights())
    return copy


def _clone_in_float32(operation: keras.Operation) -> keras.Operation:
    """A layer, or an operation of keras.ops, which has no type of its own."""
    changes = {"dtype": "float32"} if isinstance(operation, keras.Layer) else {}
    return type(operation).from_config({**operation.get_config(), **changes})
