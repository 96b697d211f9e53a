"""Contact sheets: a grid of images with a caption under each, as one PNG."""

import io
import itertools
import math
from collections.abc import Sequence

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageDraw, ImageFont

from tfr import dataset_dir, files

_SIDE = 200  # pixels, of the square that holds an image
_CAPTION = 46  # pixels: three lines
_MARGIN = 8


def draw(cells: Sequence[tuple[Image.Image, str]], columns: int | None = None, side: int = _SIDE) -> Image.Image:
    """Draws images with captions as an RGB grid.

    Args:
      cells: an image of any size and mode, and its caption, each; at least one.
      columns: images a row; default: about as many as rows.
      side: of the square in pixels that each image is fitted into.
    """
    columns = columns or max(1, math.ceil(math.sqrt(len(cells) * 1.4)))
    rows = math.ceil(len(cells) / columns)
    width, height = side + _MARGIN, side + _CAPTION + _MARGIN
    sheet = Image.new("RGB", (columns * width + _MARGIN, rows * height + _MARGIN), "white")
    canvas, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, (image, caption) in enumerate(cells):
        left, top = _MARGIN + number % columns * width, _MARGIN + number // columns * height
        thumbnail = image.convert("RGB")
        thumbnail.thumbnail((side, side))
        sheet.paste(thumbnail, (left + (side - thumbnail.width) // 2, top + side - thumbnail.height))
        text = _wrap(caption, font, side)
        canvas.multiline_text((left, top + side + 2), text, fill="black", font=font, spacing=1)
    return sheet


def _wrap(caption: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Breaks a caption into at most three lines that fit a cell; what does not fit ends in an ellipsis."""
    lines = [""]
    for word in caption.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    lines = [line for line in lines if line]
    if len(lines) > 3:
        lines = [*lines[:2], lines[2] + " ..."]
    return "\n".join(_cut(line, font, width) for line in lines)


def _cut(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    while font.getlength(line) > width and len(line) > 1:
        line = line[:-2] + "…"
    return line


def draw_split(builder: tfds.core.DatasetBuilder, split: str, num_images: int, output: str) -> int:
    """Writes the first images of a split, with their labels, as a PNG file; returns how many there were.

    Raises:
      DatasetError: there is no such split, or a shard is damaged.
    """
    key, names = dataset_dir.label_key(builder), dataset_dir.label_names(builder)
    cells = []
    for example in itertools.islice(dataset_dir.read_split(builder, split), num_images):
        caption = ", ".join(names[i] for i in np.atleast_1d(example[key])) or "(no labels)"
        cells.append((thumbnail(example["image"]), caption))
    if cells:
        write(cells, output)
    return len(cells)


def thumbnail(data: bytes, side: int = _SIDE) -> Image.Image:
    """An encoded image as RGB, reduced to fit a square; where it cannot be read, a grey square that says so."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.draft("RGB", (2 * side, 2 * side))
            rgb = image.convert("RGB")
    except Exception:  # whatever Pillow raises on broken bytes; `tfr verify` says what is wrong
        rgb = Image.new("RGB", (side, side), "lightgray")
        ImageDraw.Draw(rgb).text((_MARGIN, _MARGIN), "cannot be read", fill="black")
    rgb.thumbnail((side, side))
    return rgb


def write(cells: Sequence[tuple[Image.Image, str]], output: str, columns: int | None = None) -> None:
    """Writes a grid of images (see `draw`) as a PNG file."""
    buffer = io.BytesIO()
    draw(cells, columns).save(buffer, "PNG")
    with files.atomic_write(output) as file:
        file.write(buffer.getvalue())
