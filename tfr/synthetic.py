"""A small multi-label image set that draws itself: shapes on backgrounds, with the messes of real data on request."""

import csv
import os
import random

from PIL import Image, ImageDraw

SHAPES = ("circle", "square", "triangle", "star")
COLORS = {"red": (205, 45, 40), "green": (50, 160, 70), "blue": (45, 85, 200), "yellow": (235, 200, 50)}
PATTERN = "stripes"
LABELS = (*COLORS, *SHAPES, PATTERN)
_SIDE = 192  # pixels


def draw_example(rng: random.Random) -> tuple[Image.Image, list[str]]:
    """Draws one image of one to three shapes.

    Returns:
      An RGB image of 192 x 192 pixels, and its labels: every shape and colour in it, and 'stripes' for a striped
      background.
    """
    gray = rng.randrange(185, 245)
    image = Image.new("RGB", (_SIDE, _SIDE), (gray, gray, gray))
    canvas = ImageDraw.Draw(image)
    labels = set()
    if rng.random() < 0.3:
        labels.add(PATTERN)
        for x in range(-_SIDE, _SIDE, 16):
            canvas.line([(x, 0), (x + _SIDE, _SIDE)], fill=(gray - 60, gray - 60, gray - 60), width=5)
    for x, y in rng.sample([(52, 52), (140, 52), (52, 140), (140, 140)], rng.choice([1, 1, 2, 3])):
        shape, color = rng.choice(SHAPES), rng.choice(list(COLORS))
        labels |= {shape, color}
        radius = rng.randrange(28, 42)
        _draw_shape(canvas, shape, x + rng.randrange(-6, 7), y + rng.randrange(-6, 7), radius, COLORS[color])
    return image, sorted(labels)


def _draw_shape(canvas: ImageDraw.ImageDraw, shape: str, x: int, y: int, r: int, fill: tuple[int, int, int]) -> None:
    if shape == "circle":
        canvas.ellipse([x - r, y - r, x + r, y + r], fill=fill)
    elif shape == "square":
        canvas.rectangle([x - r, y - r, x + r, y + r], fill=fill)
    elif shape == "triangle":
        canvas.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=fill)
    else:
        points = [(0, -1), (0.24, -0.32), (0.95, -0.31), (0.38, 0.12), (0.59, 0.81)]
        points += [(0, 0.4), (-0.59, 0.81), (-0.38, 0.12), (-0.95, -0.31), (-0.24, -0.32)]
        canvas.polygon([(x + r * dx, y + r * dy) for dx, dy in points], fill=fill)


def write_image_set(folder: str, num_images: int, *, seed: int = 0, messy: bool = True) -> tuple[str, str]:
    """Draws an image set to disk.

    Args:
      folder: gets `images/` and `annotations.csv` (columns image and labels, '|' between labels).
      num_images: sound images; 'messy' ones come on top.
      seed: the same seed draws the same images.
      messy: adds what real data has: a truncated file, a file that is no image, an empty file, a row without a file,
        a file without a row, a row given twice, a PNG with transparency and a rotated photograph.

    Returns:
      The paths of the annotation file and of the image folder.
    """
    rng = random.Random(seed)
    images = os.path.join(folder, "images")
    os.makedirs(images, exist_ok=True)
    rows = []
    for number in range(num_images):
        image, labels = draw_example(rng)
        name = f"shapes_{number:04d}.jpg"
        image.save(os.path.join(images, name), quality=90)
        rows.append([name, "|".join(labels)])
    if messy:
        rows += _write_messes(images, rng, rows)
    annotations = os.path.join(folder, "annotations.csv")
    with open(annotations, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["image", "labels"], *rows])
    return annotations, images


def _write_messes(images: str, rng: random.Random, rows: list[list[str]]) -> list[list[str]]:
    """Writes the files that real data has and the demo should survive; returns their rows."""

    def path(name: str) -> str:
        return os.path.join(images, name)

    added = []
    for name in ("alpha.png", "rotated.jpg", "truncated.jpg", "forgotten.jpg"):
        image, labels = draw_example(rng)
        if name == "alpha.png":
            image.putalpha(image.convert("L").point(lambda value: 255 if value < 180 else 0))
        exif = Image.Exif()
        if name == "rotated.jpg":
            exif[0x0112] = 6  # to be turned by 90 degrees
        image.save(path(name), exif=exif)
        if name != "forgotten.jpg":
            added.append([name, "|".join(labels)])
    os.truncate(path("truncated.jpg"), os.path.getsize(path("truncated.jpg")) // 2)
    for name, content in (("notes.jpg", "not an image\n"), ("empty.jpg", "")):
        with open(path(name), "w", encoding="utf-8") as file:
            file.write(content)
    return [*added, ["notes.jpg", "red"], ["empty.jpg", "blue"], ["gone.jpg", "circle|red"], rows[0]]
