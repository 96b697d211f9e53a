"""Pillow's filters for `--image_size`: what each costs, and how much of a picture it keeps.

    python benchmarks/bench_filters.py --images=FOLDER_OF_JPEGS --count=60

Each picture is reduced to a shorter side of 256 pixels, stored as the conversion stores it, and scaled on to 224 x 224,
as a backbone would see it; that is held against the original scaled to 224 x 224 at once (bicubic, both).
"""

import argparse
import io
import statistics
import time

import numpy as np
import peers
from PIL import Image

from tfr.image_options import ImageOptions

_FILTERS = ("LANCZOS", "BICUBIC", "HAMMING", "BILINEAR", "BOX")


def _as_seen(image):
    return np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC), dtype=np.float64)


def _stored(image):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=ImageOptions().jpeg_quality, subsampling=0)
    return Image.open(buffer)


def _measure(image, name, side=256):
    """(milliseconds of CPU for the filter, PSNR in decibels)."""
    scale = side / min(image.size)
    size = round(image.width * scale), round(image.height * scale)
    started = time.thread_time()
    reduced = image.resize(size, Image.Resampling[name])
    seconds = time.thread_time() - started
    error = np.square(_as_seen(_stored(reduced)) - _as_seen(image)).mean()
    return 1e3 * seconds, 10 * np.log10(255**2 / error)


def main():
    """Measures all filters on every image whose shorter side is above 256 pixels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True)
    parser.add_argument("--count", type=int, default=60)
    args = parser.parse_args()
    opened = (Image.open(path).convert("RGB") for path in peers.jpeg_paths(args.images, args.count))
    images = [image for image in opened if min(image.size) > 256]
    print(f"{len(images)} images\n{'filter':<12}{'ms of CPU (median)':>20}{'PSNR in dB (mean)':>20}")
    for name in _FILTERS:
        costs, psnr = zip(*(_measure(image, name) for image in images), strict=True)
        print(f"{name:<12}{statistics.median(costs):>20.2f}{statistics.mean(psnr):>20.1f}")


if __name__ == "__main__":
    main()
