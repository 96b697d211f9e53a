"""A sanity check of explanations: do the maps change when what the model has learnt is taken from it?"""

import dataclasses

import keras
import numpy as np
import tensorflow as tf
from scipy import stats

from tfr import progress

from .. import models, run_dir
from .explainer import Explainer

_WINDOW = 11  # pixels, of the structural similarity; as in its source


@dataclasses.dataclass(frozen=True)
class Stage:
    """How like the maps of the run are to those of a model whose last layers are random.

    Attributes:
      randomized: which layers are, besides those of the stages before.
      rank_correlation: Spearman's, over the pixels of a map, the mean over maps; 1 for maps that did not change, about
        0 for maps that have nothing to do with the run's. A map that vanished counts 0.
      similarity: structural similarity (SSIM), the mean over maps; 1 for maps that did not change.
    """

    randomized: str
    rank_correlation: float
    similarity: float


def sanity_check(
    run: run_dir.Run, pixels: np.ndarray, *, method: str = "grad_cam", cascade: bool = True, seed: int = 0
) -> list[Stage]:
    """Compares the maps of each image's likeliest label with those of ever more random models.

    The head is made random first, then, with `cascade`, the blocks of the backbone on top of that, from the last to
    the first. Random means that the numbers of each kernel change places, and that batch normalisation then takes its
    statistics from these images: so sizes stay as they were, and what was learnt is gone. A method whose maps stay the
    same shows edges of the image rather than reasons of the model.

    Source: Adebayo et al., "Sanity Checks for Saliency Maps", 2018 (there with freshly drawn weights).

    Args:
      run: a finished run; it is not changed.
      pixels: uint8 (n, image_size, image_size, 3).
      method: of config.METHODS.
      cascade: whether to go on to the backbone.
      seed: of the random kernels.
    """
    explainer = Explainer(run)
    label_ids = explainer.predict(pixels).argmax(axis=1)[:, None]
    original = explainer.maps(pixels, label_ids, method)
    parts = [("head", list(explainer.head.layers))]
    if cascade:
        blocks = [layers for layers in models.blocks_of(explainer.backbone) if any(layer.weights for layer in layers)]
        parts += [(f"{layers[0].name} ... {layers[-1].name}", layers) for layers in reversed(blocks)]
    rng = np.random.default_rng(seed)
    stages = []
    for name, layers in progress.count(parts, "randomizing", "parts"):
        _randomize(layers, rng)
        explainer.backbone(pixels.astype(np.float32), training=True)  # for the statistics
        maps = explainer.maps(pixels, label_ids, method)
        stages.append(Stage(name, _rank_correlation(original, maps), _similarity(original, maps)))
    return stages


def _randomize(layers: list[keras.layers.Layer], rng: np.random.Generator) -> None:
    """Shuffles kernels, and has batch normalisation forget its statistics at the next batch of training."""
    for layer in layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable, layer.momentum = True, 0.0
        for variable in layer.weights:
            if len(variable.shape) > 1:  # kernels; biases and statistics of batches have no places to change
                values = variable.numpy()
                variable.assign(rng.permutation(values.ravel()).reshape(values.shape))


def _rank_correlation(maps: np.ndarray, others: np.ndarray) -> float:
    pairs = zip(maps.reshape(-1, maps[0, 0].size), others.reshape(-1, maps[0, 0].size), strict=True)
    return float(np.mean([0.0 if np.ptp(a) * np.ptp(b) == 0 else stats.spearmanr(a, b)[0] for a, b in pairs]))


def _similarity(maps: np.ndarray, others: np.ndarray) -> float:
    """Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004."""
    side = maps.shape[-1]
    first, second = (tf.constant(values.reshape(-1, side, side, 1)) for values in (maps, others))
    return float(tf.reduce_mean(tf.image.ssim(first, second, 1.0, filter_size=min(_WINDOW, side))))


def text(stages: list[Stage], method: str) -> str:
    """The stages as a table, and what they say."""
    lines = [f"{method} of the run and of models that are random from the end on:", ""]
    lines.append(f"  {'rank correlation':>16}  {'SSIM':>6}  random layers, in addition to those above")
    lines.append(f"  {1:>16.3f}  {1:>6.3f}  none")
    lines += [f"  {s.rank_correlation:>16.3f}  {s.similarity:>6.3f}  {s.randomized}" for s in stages]
    moved = stages[0].rank_correlation < 0.5
    verdict = (
        "The maps move when the head is random: they show what it has learnt."
        if moved
        else "The maps hardly move when the head is random: they show the image rather than what the head has learnt."
    )
    return "\n".join([*lines, "", verdict])
