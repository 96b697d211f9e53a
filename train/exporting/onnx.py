"""ONNX files: `pixels`, float32 (batch, image_size, image_size, 3) of 0 to 255, to `probabilities`."""

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from typing import Any

from tfr import files
from tfr.errors import MissingDependencyError, TfrError

from .. import quiet
from .model import PIXELS, PROBABILITIES, ExportModel

_CATCH_ERRORS = "TF2ONNX_CATCH_ERRORS"  # set to anything, tf2onnx does not
OPSET = 18  # the newest that tf2onnx 1.17 knows


def check_installed() -> None:
    """Raises MissingDependencyError where the packages that write and run ONNX are not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError as err:
        raise MissingDependencyError(
            f"--format=onnx needs the package {err.name}, which is not installed. Run `pip install 'tfr[onnx]'`."
        ) from err


def write(tagger: ExportModel, path: str, metadata: dict[str, Any]) -> None:
    """Writes an .onnx file.

    Args:
      tagger: what to write.
      path: of the file.
      metadata: goes into the file's metadata, each value as JSON.

    Raises:
      TfrError: the network has operations that tf2onnx does not know.
    """
    import onnx

    with quiet.no_chatter():
        model = _convert(tagger)
    unknown = sorted({node.op_type for node in model.graph.node if not _is_known(node)})
    if unknown:  # tf2onnx only logs them
        raise TfrError(
            f"tf2onnx cannot take this network: it does not know {', '.join(unknown)}. Leave onnx out, or train "
            "another backbone: ConvNeXt is one that does not work."
        )
    _rename_outputs(model)
    _keep_padding(model)
    onnx.helper.set_model_props(model, {key: json.dumps(value, ensure_ascii=False) for key, value in metadata.items()})
    onnx.checker.check_model(model)
    with files.atomic_write(path) as file:
        file.write(model.SerializeToString())


def _convert(tagger: ExportModel) -> Any:
    import tf2onnx

    network = tagger.graph(batch_size=None)
    graph = network.graph.as_graph_def()

    def convert() -> Any:
        return tf2onnx.convert.from_graph_def(
            graph,
            name=tagger.model.name,
            input_names=[network.inputs[0].name],
            output_names=[network.outputs[0].name],
            opset=OPSET,
        )[0]

    logger = logging.getLogger("tf2onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # what it does not know is told in `write`
    try:
        with _environment(_CATCH_ERRORS, "FALSE"):  # else it copies all weights before each of dozens of optimizers
            return convert()
    except Exception:  # of one of its optimizers: from the copies it can go back
        with _environment(_CATCH_ERRORS, None):
            return convert()
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _environment(name: str, value: str | None) -> Iterator[None]:
    """Sets a variable of the environment, or takes it out; afterwards it is as it was."""
    before = os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


def _is_known(node: Any) -> bool:
    from onnx import defs

    return defs.has(node.op_type, domain=node.domain)


def _rename_outputs(model: Any) -> None:
    """`pixels:0` to `pixels`, the output to `probabilities`, and the first dimension of both to `batch`."""
    graph = model.graph
    names = {graph.input[0].name: PIXELS, graph.output[0].name: PROBABILITIES}
    for value in (graph.input[0], graph.output[0]):
        value.name = names[value.name]
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def _keep_padding(model: Any) -> None:
    """Keeps ONNX Runtime from joining zero padding to a MaxPool, which itself pads with minus infinity.

    Version 1.31 does so, and changes what ResNet V2 says at the borders. A MaxPool that tells the
    places of its maxima, too, is left as it is.
    """
    padded = {node.output[0] for node in model.graph.node if node.op_type == "Pad"}
    for node in model.graph.node:
        if node.op_type == "MaxPool" and node.input[0] in padded and len(node.output) == 1:
            node.output.append(f"{node.output[0]}_places")
