"""Which part of an image speaks for a label: Grad-CAM and integrated gradients of a finished run."""

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from scipy import ndimage

from .. import feature_maps, input_pipeline, models, run_dir
from .config import BASELINES, STEPS

_BATCH = 16  # images, or points of a path, at once
_BLUR = 1 / 64  # sigma of the neighbourhoods of attributions, as a share of the image's side
_BRIGHTEST = 99  # percentile of the pixels' attributions that is drawn as 1: single pixels stand far out


@dataclasses.dataclass(frozen=True)
class IntegratedGradients:
    """What `Explainer.integrated_gradients` found for n images and k labels of each.

    Attributes:
      attributions: how much each pixel adds to the label's logit, summed over channels, float32 (n, k, height, width);
        negative where it speaks against the label.
      differences: logit of the image minus logit of the baseline, float32 (n, k): what the attributions should sum to.
    """

    attributions: np.ndarray
    differences: np.ndarray

    @property
    def completeness_error(self) -> np.ndarray:
        """How far the attributions' sum is from the difference of logits, float32 (n, k); more steps make it less."""
        return np.abs(self.attributions.sum(axis=(2, 3)) - self.differences)

    @property
    def maps(self) -> np.ndarray:
        """What speaks for the label, float32 (n, k, height, width) of 0 to 1: 1 for the top hundredth of the pixels.

        Attributions of neighbours differ wildly, in sign too: they are summed over little neighbourhoods first.
        """
        sigma = self.attributions.shape[-1] * _BLUR
        positive = np.maximum(ndimage.gaussian_filter(self.attributions, (0, 0, sigma, sigma)), 0)
        return np.minimum(_divide(positive, np.percentile(positive, _BRIGHTEST, axis=(2, 3), keepdims=True)), 1)


class Explainer:
    """Explains what a finished run says of images. The model is loaded once.

        explainer = Explainer(run_dir.load("runs/posters"))
        pixels = explainer.read([data])  # data: an encoded image
        maps = explainer.grad_cam(pixels, [explainer.run.labels.index("Horror")])

    Gradients are of logits: those of probabilities vanish where the model is sure. A temperature, which divides all
    logits by one number, changes no map.

    Attributes:
      run: the run.
      head: the part of the model behind its last feature map, see feature_maps.cut.
      backbone: the part before it.
    """

    def __init__(self, run: run_dir.Run):
        """Loads the model of a run. Raises RunDirError where that fails."""
        self.run = run
        model = run.load_model()
        logits = model.get_layer(models.LOGITS).output
        features = feature_maps.cut(logits)
        self.backbone = keras.Model(model.input, features)
        self.head = keras.Model(features, [logits, model.output])
        size = (run.image_size, run.image_size)
        self._map_features = tf.function(
            lambda pixels: self.backbone(tf.cast(pixels, tf.float32), training=False),
            input_signature=[tf.TensorSpec((None, *size, 3), tf.uint8)],
        )
        self._tag = tf.function(lambda features: self.head(features, training=False), reduce_retracing=True)
        self._activate = tf.function(self._class_activation, reduce_retracing=True)
        self._follow = tf.function(self._path_gradients)

    def read(self, encoded: Sequence[bytes]) -> np.ndarray:
        """Decodes images just as in evaluation: uint8 (n, image_size, image_size, 3).

        Args:
          encoded: JPEG, PNG, GIF or BMP files, upright, such as records hold and tfr.images.prepare_image gives.
        """
        shape = input_pipeline.BatchShape(self.run.image_size, _BATCH, self.run.resize)
        batches = input_pipeline.for_files(lambda: iter(encoded), shape)
        return np.concatenate([batch["image"] for batch in batches.as_numpy_iterator()])

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Probabilities, float32 (n, num_labels), of images, uint8 (n, image_size, image_size, 3)."""
        outputs = [self._tag(self._map_features(part))[1].numpy() for part in self._parts(pixels)]
        return np.concatenate(outputs)

    def maps(self, pixels: np.ndarray, label_ids: Sequence[int] | np.ndarray, method: str) -> np.ndarray:
        """Heat maps by a method of config.METHODS; see `grad_cam` for arguments and result."""
        if method == "grad_cam":
            return self.grad_cam(pixels, label_ids)
        return self.integrated_gradients(pixels, label_ids).maps

    def grad_cam(self, pixels: np.ndarray, label_ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """Heat maps by Grad-CAM: the last feature map, its channels weighted by what they do to the label's logit.

        Where the head is given earlier stages too (`--features=stages`), what those say is in no map;
        integrated_gradients has it.

        Source: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization",
        2017.

        Args:
          pixels: uint8 (n, image_size, image_size, 3).
          label_ids: (k,), the same labels for every image, or (n, k).

        Returns:
          float32 (n, k, image_size, image_size) of 0 to 1: each map is divided by its greatest value. One that is 0
          everywhere says that nothing in the image speaks for the label.
        """
        ids = _ids_of_each(label_ids, len(pixels))
        found = []
        for part, part_ids in zip(self._parts(pixels), self._parts(ids), strict=True):
            features = self._map_features(part)
            columns = [self._activate(features, tf.constant(column)).numpy() for column in part_ids.T]
            found.append(np.stack(columns, axis=1))
        maps = np.concatenate(found)
        return _divide(maps, maps.max(axis=(2, 3), keepdims=True))

    def _class_activation(self, features: tf.Tensor | list[tf.Tensor], label_ids: tf.Tensor) -> tf.Tensor:
        """Feature maps and a label for each to class activation maps (n, image_size, image_size), not yet scaled."""
        last_map = tf.nest.flatten(features)[0]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(last_map)
            logits = self.head(features, training=False)[0]
            chosen = tf.gather(logits, label_ids, batch_dims=1)
        gradients = tf.cast(tape.gradient(chosen, last_map), tf.float32)
        weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
        maps = tf.nn.relu(tf.reduce_sum(weights * tf.cast(last_map, tf.float32), axis=-1, keepdims=True))
        return tf.image.resize(maps, (self.run.image_size, self.run.image_size))[..., 0]

    def integrated_gradients(
        self,
        pixels: np.ndarray,
        label_ids: Sequence[int] | np.ndarray,
        *,
        baseline: str = "black",
        steps: int = STEPS,
    ) -> IntegratedGradients:
        """Attributions to pixels: gradients gathered on the straight way from a baseline image to the image.

        They sum to the difference of the two images' logits, but for the error of taking so many steps. Costs a forward
        and a backward pass a step and image.

        Source: Sundararajan et al., "Axiomatic Attribution for Deep Networks", 2017.

        Args:
          pixels: uint8 (n, image_size, image_size, 3).
          label_ids: (k,), the same labels for every image, or (n, k).
          baseline: a key of BASELINES, the colour of the image that says nothing. What has this colour in an image
            gets no attribution.
          steps: points on the way. They lie closer near the baseline, where logits change most: with even ones the
            error was ten times as large.
        """
        pairs = zip(pixels, _ids_of_each(label_ids, len(pixels)), strict=True)
        found = [self._integrate(image, ids, BASELINES[baseline], steps) for image, ids in pairs]
        attributions, differences = zip(*found, strict=True)
        return IntegratedGradients(np.stack(attributions), np.stack(differences))

    def _integrate(
        self, image: np.ndarray, ids: np.ndarray, baseline: float, steps: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Attributions (k, height, width) and differences (k,) of one image."""
        way = image.astype(np.float32) - baseline
        shares, weights = _points(steps)
        labels = tf.constant(ids)
        gradients = np.zeros((len(ids), *image.shape), np.float64)
        for part, part_weights in zip(self._parts(shares), self._parts(weights), strict=True):
            points = baseline + part[:, None, None, None] * way
            gradients += self._follow(points, labels, part_weights)[1].numpy()
        ends = np.stack([image.astype(np.float32), np.full(image.shape, baseline, np.float32)])
        at_ends = self._follow(ends, labels, np.zeros(2, np.float32))[0].numpy()
        return (gradients * way).sum(axis=-1).astype(np.float32), at_ends[0] - at_ends[1]

    def _path_gradients(
        self, points: tf.Tensor, label_ids: tf.Tensor, weights: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Logits (num_points, k) of images, and the weighted sum of their gradients (k, height, width, 3)."""
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(points)
            logits = self.head(self.backbone(points, training=False), training=False)[0]
            chosen = tf.gather(logits, label_ids, axis=1)
            sums = tf.unstack(tf.reduce_sum(chosen * weights[:, None], axis=0))
        return chosen, tf.stack([tf.reduce_sum(tape.gradient(value, points), axis=0) for value in sums])

    def _parts(self, rows: np.ndarray) -> list[np.ndarray]:
        """Rows, a few at a time."""
        return [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]


def _points(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Where on a way of length 1 to look, and what each look counts, float32 (steps,) each.

    The middles of even steps in u, where u ** 3 is the place on the way.
    """
    u = (np.arange(steps) + 0.5) / steps
    return (u**3).astype(np.float32), (3 * u**2 / steps).astype(np.float32)


def _ids_of_each(label_ids: Sequence[int] | np.ndarray, num_images: int) -> np.ndarray:
    """Label ids as int32 (num_images, k)."""
    ids = np.asarray(label_ids, np.int32)
    return np.broadcast_to(ids, (num_images, ids.shape[-1]))


def _divide(values: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Quotients as float32; 0 where the divisor is."""
    return np.divide(values, by, out=np.zeros(values.shape, np.float32), where=by > 0)
