"""Shapes on backgrounds that draw themselves: nothing to download, nothing to fetch."""

import dataclasses
import tempfile
from typing import Any

import tensorflow_datasets as tfds

from tfr import synthetic
from tfr.datasets import base
from tfr.features import RecordSchema


@dataclasses.dataclass(eq=False, kw_only=True)
class SyntheticShapesConfig(base.TaggedImagesConfig):
    """How much is drawn.

    Attributes:
      num_images: sound images.
      seed: the same seed draws the same images.
      messy: whether to add what real data has: files that are broken, empty or missing, and a row given twice.
    """

    num_images: int
    seed: int = 0
    messy: bool = False


class Builder(base.TaggedImagesBuilder):
    """Draws the images on this machine, in a temporary folder, and builds from there: runners must be local."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = [
        SyntheticShapesConfig(
            name="demo", num_images=400, messy=True, description="What `tfr demo` draws: 400 images, and some messes."
        ),
        SyntheticShapesConfig(name="tiny", num_images=60, description="60 images, for tests."),
    ]

    def _schema(self) -> RecordSchema:
        return RecordSchema(names=synthetic.LABELS)

    def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        with tempfile.TemporaryDirectory(prefix="synthetic_shapes-") as self._folder:
            super()._download_and_prepare(*args, **kwargs)

    def _conversion(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # nothing to download
        config = self.builder_config
        annotations, images = synthetic.write_image_set(
            self._folder, config.num_images, seed=config.seed, messy=config.messy
        )
        return {"annotations": annotations, "images": images, "label_delimiter": "|"}
