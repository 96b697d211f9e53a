"""One image of any kind to what the model takes: verified, decoded and resampled as in training, in one go."""

import errno
import os
from typing import TypeAlias

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

from tfr import files, image_decoding, images
from tfr.errors import UsageError
from tfr.images import ImageOptions, ImageRejectedError

from . import preprocessing as pp

# A path or URI, the content of an image file, a picture of Pillow's, or pixels: uint8 (height, width, 3) or (h, w).
AnyImage: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | np.ndarray


class PixelReader:
    """Makes uint8 (size, size, 3) of an image. Any number of threads may call one reader."""

    def __init__(self, size: int, mode: str, options: ImageOptions | None = None):
        """See preprocessing.get_image for size and mode; the options are limits."""
        self._size, self._mode, self._options = size, mode, options or ImageOptions()

    def read(self, image: AnyImage) -> np.ndarray:
        """Reads, verifies, decodes and resamples an image.

        Files give the pixels that evaluation sees of the same file; those of other formats than JPEG may differ by
        what the conversion's JPEG compression changes. Pictures and arrays have no scale to be decoded at: large ones
        are reduced in one step.

        Raises:
          ImageRejectedError: it cannot be read, or is no image that can be used.
        """
        decoded = self._decode(image)
        plan = self._plan(decoded.height, decoded.width)
        top, left, height, width = (pixels // decoded.scale for pixels in plan.window)
        window = decoded.pixels[top : top + max(height, 1), left : left + max(width, 1)]
        return _with_borders(_resample(window, plan.target), self._size)

    def _plan(self, height: int, width: int) -> pp.DecodingPlan:
        return pp.plan_decoding(height, width, self._size, self._mode)

    def _decode(self, image: AnyImage) -> images.DecodedImage:
        if isinstance(image, np.ndarray):
            return self._from_array(image)
        if isinstance(image, Image.Image):
            return self._from_picture(image)
        data = image if isinstance(image, bytes) else read_file(os.fspath(image))
        return images.decode_image(data, self._options, lambda height, width: self._plan(height, width).scale)

    def _from_array(self, array: np.ndarray) -> images.DecodedImage:
        if array.dtype != np.uint8:
            raise ImageRejectedError("unsupported", f"an array of {array.dtype}; give uint8 of 0 to 255")
        if array.ndim == 3 and array.shape[2] == 3:
            height, width, _ = array.shape
            self._options.check_size(width, height)
            return images.DecodedImage(array, width, height, 1)
        if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 4)):
            return self._from_picture(Image.fromarray(array if array.shape[-1] != 1 else array[:, :, 0]))
        raise ImageRejectedError(
            "unsupported", f"an array of shape {array.shape}; give (height, width, 3), or 1 or 4 channels"
        )

    def _from_picture(self, picture: Image.Image) -> images.DecodedImage:
        self._options.check_size(picture.width, picture.height)
        try:
            upright = image_decoding.to_rgb(ImageOps.exif_transpose(picture))
        except (OSError, ValueError, SyntaxError) as err:  # of a file that Pillow reads only now
            raise ImageRejectedError("decode_error", f"{type(err).__name__}: {err}") from err
        return images.DecodedImage(np.asarray(upright), upright.width, upright.height, 1)


# As preprocessing.resample does, bit for bit, on the calling thread: a graph wakes other threads up for each of its
# small steps, which takes more than twice the CPU time and slows the network down.


def _resample(pixels: np.ndarray, target: tuple[int, int]) -> np.ndarray:
    height, width, _ = pixels.shape
    kernel = pp.choose_kernel(height, width, target)
    if kernel == "average":
        smaller = np.minimum((height, width), target).astype(np.int32)
        resized = tf.raw_ops.ResizeArea(images=pixels[None], size=smaller)
        if tuple(smaller) != target:
            resized = tf.raw_ops.ResizeBicubic(images=resized, size=target, half_pixel_centers=True)
    else:
        resize = tf.raw_ops.ResizeBicubic if kernel == "bicubic" else tf.raw_ops.ResizeBilinear
        resized = resize(images=pixels[None], size=target, half_pixel_centers=True)
    values = resized.numpy()[0]
    if kernel != "bilinear":
        np.clip(values, 0, 255, out=values)  # bicubic overshoots at edges
    return np.add(values, 0.5, out=values).astype(np.uint8)  # halves upwards


def _with_borders(pixels: np.ndarray, size: int) -> np.ndarray:
    """In the middle of a black square."""
    height, width, _ = pixels.shape
    if (height, width) == (size, size):
        return pixels
    square = np.zeros((size, size, 3), np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = pixels
    return square


def read_file(path: str) -> bytes:
    """The content of a file or URI.

    Raises:
      ImageRejectedError: it is not there, or cannot be read; `missing` or `unreadable`.
    """
    try:
        return files.read_bytes(path)
    except (FileNotFoundError, NotADirectoryError) as err:
        raise ImageRejectedError("missing", "there is no such file") from err
    except UsageError as err:  # an address of the web, one among other images
        raise ImageRejectedError("unreadable", str(err).removeprefix(f"{path}: ")) from err
    except (OSError, ValueError) as err:  # ValueError: names that no file can have
        if isinstance(err, OSError) and err.errno in (errno.ENOMEM, errno.EMFILE, errno.ENFILE):
            raise  # not the file's fault
        reason = err.strerror if isinstance(err, OSError) and err.strerror else str(err)
        raise ImageRejectedError("unreadable", reason) from err
