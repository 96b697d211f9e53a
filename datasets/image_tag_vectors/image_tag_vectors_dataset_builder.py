"""Images in split folders, with a pickled vector of tags for each."""

from typing import Any

import tensorflow_datasets as tfds

from tfr.datasets import base
from tfr.features import RecordSchema


class Builder(base.TaggedImagesBuilder):
    """Builds from folders of images and two pickles: the images' tag vectors, and what the places in them mean."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    Put these into the manual directory:
    - images/train/<label>/<file> and images/validation/<label>/<file>: the images, each below one of its labels
    - meta/all_y_labels.p: a pickled dict of '<label>/<file>' to a vector of 1 (tag present), 0 (absent), NaN (unknown)
    - meta/classes_dict.p: a pickled dict of tag to its place in the vectors
    """

    def _schema(self) -> RecordSchema:
        return RecordSchema(names=(), has_unknown=True)  # the tags are in the data

    def _conversion(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        folder = dl_manager.manual_dir
        return {"annotations": str(folder / "meta"), "images": str(folder / "images"), "format": "pickles"}
