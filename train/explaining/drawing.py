"""Heat maps over the images that they are of, and sheets of them side by side."""

import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from PIL import Image

from tfr import contact_sheet

from .. import preprocessing

_LEAST, _MOST = 320, 768  # pixels of the longer side of overlays
_COLORS = "inferno"
_STRENGTH = 0.75  # how much of the colour there is where a map is 1
_UNSEEN = 0.35  # brightness of what the model does not see


def onto_original(heat: np.ndarray, height: int, width: int, resize: str) -> np.ndarray:
    """Takes a map back from the model's square input to the shape of the image that it was made of.

    Args:
      heat: float32 (side, side), over the pixels that the model sees.
      height, width: of the image, or of a larger or smaller copy of it.
      resize: how the image became square; see DataConfig.

    Returns:
      float32 (height, width); NaN where the model does not see the image ('crop').
    """
    plan = preprocessing.plan_decoding(height, width, len(heat), resize)
    top, left, rows, columns = plan.window
    before = [(len(heat) - length) // 2 for length in plan.target]  # the borders of 'pad'
    seen = heat[before[0] : before[0] + plan.target[0], before[1] : before[1] + plan.target[1]]
    whole = np.full((height, width), np.nan, np.float32)
    whole[top : top + rows, left : left + columns] = _scale(seen, rows, columns)
    return whole


def _scale(heat: np.ndarray, height: int, width: int) -> np.ndarray:
    resized = Image.fromarray(heat.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def open_picture(data: bytes) -> Image.Image:
    """An encoded image as RGB in its own aspect ratio, its longer side 320 to 768 pixels."""
    picture = Image.open(io.BytesIO(data))
    longer = max(picture.size)
    scale = min(max(longer, _LEAST), _MOST) / longer
    width, height = (max(round(side * scale), 1) for side in picture.size)
    picture.draft("RGB", (width, height))  # a large JPEG need not be decoded whole
    return picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)


def overlay(picture: Image.Image, heat: np.ndarray, resize: str) -> Image.Image:
    """Draws a map over its image: dark violet to yellow the more it counts, nothing where it is 0.

    Args:
      picture: the image, in its own aspect ratio.
      heat: float32 (side, side) of 0 to 1, over the model's square input.
      resize: how the image became square; see DataConfig. What 'crop' cuts off is dark and grey.
    """
    values = onto_original(heat, picture.height, picture.width, resize)[..., None]
    pixels = np.asarray(picture, np.float32)
    strength = _STRENGTH * np.sqrt(np.clip(np.nan_to_num(values), 0, 1))
    colors = 255 * matplotlib.colormaps[_COLORS](np.nan_to_num(values[..., 0]))[..., :3]
    unseen = _UNSEEN * pixels.mean(axis=-1, keepdims=True)
    mixed = np.where(np.isnan(values), unseen, (1 - strength) * pixels + strength * colors)
    return Image.fromarray(mixed.round().astype(np.uint8))


def sheet(picture: Image.Image, rows: Sequence[Sequence[tuple[Image.Image, str]]], caption: str) -> Image.Image:
    """The image and its overlays side by side: a row for each method, the image itself at the start of each.

    Args:
      picture: the image.
      rows: overlays with what stands under each, as many in each row.
      caption: what stands under the image.
    """
    cells = [cell for row in rows for cell in ((picture, caption), *row)]
    return contact_sheet.draw(cells, columns=1 + len(rows[0]), side=320)
