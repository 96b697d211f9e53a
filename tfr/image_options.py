"""What an image must be, what is made of it, and how it is refused."""

import dataclasses

from tfr.errors import UsageError

# Why an image can be refused: the fixed list that counts and messages use.
REASONS = (
    "missing", "unreadable", "empty", "not_an_image", "unsupported", "truncated", "too_large", "too_small",
    "decode_error",
)  # fmt: skip
# How JPEGs that can be stored as they are are looked at: decoded whole, or by their header and their end alone.
CHECKS = ("decode", "header")
# TensorFlow decodes no image of 2**29 values (pixels times three) or more; Pillow refuses from here on as well.
LARGEST_MAX_PIXELS = ((1 << 29) - 1) // 3


class ImageRejectedError(Exception):
    """An image that cannot become an example."""

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """What an image must be, and what is made of it.

    Attributes:
      image_size: length of the shorter side in pixels after the conversion; larger images are reduced to it,
        smaller ones stay. None keeps every size.
      max_pixels: images of more pixels than this are refused before they are decoded (decompression bombs).
      min_side: images with a side shorter than this many pixels are refused.
      jpeg_quality: quality, 1 to 100, of those images that have to be encoded anew.
      keep_png: whether sound 8-bit RGB and grey PNGs are stored as they are; otherwise they become JPEGs.
      icc_to_srgb: whether the colours of images with a colour profile other than sRGB are converted to sRGB. Off by
        default: neither TensorFlow nor most other readers of images look at profiles, and every photograph of a
        phone with a wide-gamut profile would have to be encoded anew.
      check_images: 'decode' reads all of every image. 'header' stores common JPEGs by their header and their end
        alone, for sources that are known to be sound: damage inside is then only found by `tfr verify`, and records
        have no fingerprint. All other images are decoded anyway.
    """

    image_size: int | None = None
    max_pixels: int = 100_000_000
    min_side: int = 1
    jpeg_quality: int = 95
    keep_png: bool = False
    icc_to_srgb: bool = False
    check_images: str = "decode"

    def __post_init__(self) -> None:
        """Checks the values before any image is read."""
        if self.check_images not in CHECKS:
            raise UsageError(
                f"--check_images must be one of {', '.join(CHECKS)}. Received: --check_images={self.check_images}"
            )
        uppers = {"image_size": None, "max_pixels": LARGEST_MAX_PIXELS, "min_side": None, "jpeg_quality": 100}
        for name, upper in uppers.items():
            value = getattr(self, name)
            if value is not None and not (1 <= value <= (upper or value)):
                range_ = f"from 1 to {upper}" if upper else "at least 1"
                why = " (TensorFlow decodes no larger image)" if name == "max_pixels" else ""
                raise UsageError(f"--{name} must be {range_}{why}. Received: --{name}={value}")

    def check_size(self, width: int, height: int) -> None:
        """Raises ImageRejectedError for an image that is too large or too small."""
        if width * height > self.max_pixels:
            raise ImageRejectedError("too_large", f"{width} x {height} pixels; at most {self.max_pixels} in all")
        if max(width, height) > _MAX_SIDE:
            raise ImageRejectedError("too_large", f"{width} x {height} pixels; each side at most {_MAX_SIDE}")
        if min(width, height) < max(self.min_side, 1):
            raise ImageRejectedError("too_small", f"{width} x {height} pixels; each side at least {self.min_side}")

    def must_shrink(self, width: int, height: int) -> bool:
        """Whether an image is larger than `image_size` says."""
        return self.image_size is not None and min(width, height) > self.image_size


_MAX_SIDE = 65_500  # pixels; what libjpeg encodes and decodes
