"""Where a network last knows places: the tensor that class activation maps are drawn on."""

import heapq
from collections.abc import Sequence

import keras


def last_feature_map(output: keras.KerasTensor) -> keras.KerasTensor:
    """Finds the last feature map of a network by its graph, whatever its layers are called.

    That is the last tensor with more than one place that everything between it and `output` is computed from. So the
    1x1 maps behind a pooling are none, nor are those of squeeze-and-excitation, which are a side path; and where
    branches are concatenated, it is what comes of them.

    Args:
      output: of a functional model on images in channels-last order.

    Returns:
      A tensor of shape (batch, height, width, channels); the pixels themselves, if nothing else will do.

    Raises:
      ValueError: there is none.
    """
    number = _number(output)
    pending = [(-number[id(output)], output)]  # what has to be known to compute the output, the last to be made first
    waiting = {id(output)}
    while pending:
        _, tensor = heapq.heappop(pending)
        if not pending and _has_places(tensor):
            return tensor
        for source in _sources(tensor):
            if id(source) not in waiting:
                waiting.add(id(source))
                heapq.heappush(pending, (-number[id(source)], source))
    raise ValueError(f"No tensor of shape (batch, height, width, channels) leads to {output}.")


def _has_places(tensor: keras.KerasTensor) -> bool:
    return len(tensor.shape) == 4 and tensor.shape[1:3] != (1, 1)


def _sources(tensor: keras.KerasTensor) -> Sequence[keras.KerasTensor]:
    """The tensors that one is computed from, by the call that made it: a layer may have been called several times."""
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index].input_tensors


def _number(output: keras.KerasTensor) -> dict[int, int]:
    """Numbers all tensors behind one, by id, so that each comes after those that it is computed from."""
    number: dict[int, int] = {}
    stack = [(output, False)]
    while stack:  # not by recursion: networks are deeper than Python's stack
        tensor, sources_done = stack.pop()
        if id(tensor) in number:
            continue
        if sources_done:
            number[id(tensor)] = len(number)
        else:
            stack.append((tensor, True))
            stack += [(source, False) for source in _sources(tensor)]
    return number
