"""Opening what was exported, each with the program that its users have: pixels or encoded images to probabilities."""

import os
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import quiet
from .config import KERAS, ONNX, SAVED_MODEL


class Image(NamedTuple):
    """An image both ways: uint8 (image_size, image_size, 3), and encoded."""

    pixels: np.ndarray
    data: bytes


Predict = Callable[[Image], np.ndarray]  # probabilities, float32 (num_labels,)


def open_format(folder: str, format: str, file_name: str, *, threads: int | None = None) -> dict[str, Predict]:
    """What a format predicts for one image, by the name of a row in a table.

    Args:
      folder: of the export.
      format: one of config.FORMATS.
      file_name: the format's file or folder in it.
      threads: for TensorFlow Lite and ONNX Runtime; None: their default. TensorFlow has one number for its process.
    """
    path = os.path.join(folder, file_name)
    if format == SAVED_MODEL:
        return _open_saved_model(path)
    if format == ONNX:
        return {format: _open_onnx(path, threads)}
    if format == KERAS:
        return {format: _open_keras(path)}
    return {format: _open_tflite(path, threads)}


def _open_saved_model(path: str) -> dict[str, Predict]:
    import tensorflow as tf

    serve = tf.saved_model.load(path).signatures

    def predict(signature: str, value: Any) -> np.ndarray:
        return serve[signature](tf.constant(value))["probabilities"][0].numpy()

    return {
        "saved_model, bytes": lambda image: predict("serving_bytes", [image.data]),
        "saved_model, pixels": lambda image: predict("serving_pixels", image.pixels[None]),
    }


def _open_tflite(path: str, threads: int | None) -> Predict:
    with quiet.no_chatter():
        interpreter = _interpreter()(path, num_threads=threads)
        interpreter.allocate_tensors()
    predict = interpreter.get_signature_runner()
    return lambda image: predict(pixels=image.pixels[None].astype(np.float32))["probabilities"][0].copy()


def _interpreter() -> Any:
    """LiteRT's interpreter where it is installed, else TensorFlow's, which is the same program and has been announced
    to go."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        warnings.filterwarnings("ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated")
        return tf.lite.Interpreter
    return Interpreter


def _open_onnx(path: str, threads: int | None) -> Predict:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(["probabilities"], {"pixels": image.pixels[None].astype(np.float32)})[0][0]


def _open_keras(path: str) -> Predict:
    import keras
    import tensorflow as tf

    from .. import forward

    run = forward.compile_forward(keras.models.load_model(path, compile=False), freeze=False, dtype=tf.uint8)
    return lambda image: run(tf.constant(image.pixels[None])).numpy()[0]
