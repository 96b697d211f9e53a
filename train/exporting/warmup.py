"""The requests that TensorFlow Serving answers for itself before it lets others in, so that the first user waits for
no tracing: records of `tensorflow.serving.PredictionLog` beside the SavedModel.

They are written field by field, since tensorflow-serving-api, which has the classes, is a large dependency for four
nested messages. Source of the numbers: prediction_log.proto, predict.proto and model.proto of TensorFlow Serving.
"""

import os

import tensorflow as tf

WARMUP_FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")
_PREDICT_LOG, _REQUEST = 6, 1  # of PredictionLog, of PredictLog
_MODEL_SPEC, _INPUTS = 1, 2  # of PredictRequest
_SIGNATURE_NAME = 3  # of ModelSpec
_KEY, _VALUE = 1, 2  # of an entry of a map
_BATCH_SIZES = (1, 4)


def write(folder: str, image_size: int) -> None:
    """Writes requests for encoded images and for pixels into a SavedModel's folder."""
    path = os.path.join(folder, WARMUP_FILE)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    grey = tf.fill((image_size, image_size, 3), tf.constant(127, tf.uint8))
    encoded = tf.io.encode_jpeg(grey)
    with tf.io.TFRecordWriter(path) as writer:
        for size in _BATCH_SIZES:
            writer.write(predict_request("serving_default", "image_bytes", tf.repeat(encoded[None], size, 0)))
            writer.write(predict_request("serving_pixels", "pixels", tf.repeat(grey[None], size, 0)))


def predict_request(signature: str, name: str, value: tf.Tensor) -> bytes:
    """A serialized PredictionLog of one request with one input."""
    tensor = tf.make_tensor_proto(value.numpy()).SerializeToString()
    entry = _field(_KEY, name.encode()) + _field(_VALUE, tensor)
    request = _field(_MODEL_SPEC, _field(_SIGNATURE_NAME, signature.encode())) + _field(_INPUTS, entry)
    return _field(_PREDICT_LOG, _field(_REQUEST, request))


def _field(number: int, content: bytes) -> bytes:
    """A field of protobuf's wire format whose content has a length."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
