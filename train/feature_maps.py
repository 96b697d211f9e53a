"""Where a network last knows places: the tensor that class activation maps are drawn on."""

import heapq
from collections.abc import Sequence

import keras

from . import stage_means


def cut(output: keras.KerasTensor) -> list[keras.KerasTensor]:
    """Where to cut a tagger in two: its last feature map, and whatever else the part behind it is given.

    The latter are the means of earlier stages, where the head has them; see stage_means.with_stages.
    """
    joined = [tensor for tensor in _all_sources(output) if stage_means.is_joined(tensor)]
    if not joined:
        return [last_feature_map(output)]
    *means, embedding = _sources(joined[0])
    return [last_feature_map(embedding), *means]


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
    number = {id(tensor): place for place, tensor in enumerate(_all_sources(output))}
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


def _all_sources(output: keras.KerasTensor) -> list[keras.KerasTensor]:
    """A tensor and all that it is computed from, each after those that it is computed from itself."""
    found: dict[int, keras.KerasTensor] = {}
    stack = [(output, False)]
    while stack:  # not by recursion: networks are deeper than Python's stack
        tensor, sources_done = stack.pop()
        if id(tensor) in found:
            continue
        if sources_done:
            found[id(tensor)] = tensor
        else:
            stack.append((tensor, True))
            stack += [(source, False) for source in _sources(tensor)]
    return list(found.values())
