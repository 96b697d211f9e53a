"""MIRFLICKR-25k: 25,000 photographs from Flickr with labels and tags."""

import dataclasses
import functools
import re
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds
from etils import epath

from tfr import annotations, files
from tfr.annotations import Annotation, Event, LabelSet, ReadOptions
from tfr.datasets import base
from tfr.datasets.mirflickr25k import archives
from tfr.errors import AnnotationError
from tfr.features import RecordSchema

POTENTIAL = (
    "animals", "baby", "bird", "car", "clouds", "dog", "female", "flower", "food", "indoor", "lake", "male", "night",
    "people", "plant_life", "portrait", "river", "sea", "sky", "structures", "sunset", "transport", "tree", "water",
)  # fmt: skip
RELEVANT = (
    "baby", "bird", "car", "clouds", "dog", "female", "flower", "male", "night", "people", "portrait", "river", "sea",
    "tree",
)  # fmt: skip
_ALL = tuple(sorted((*POTENTIAL, *(f"{name}_r1" for name in RELEVANT))))
_READER_NAMES = {"relevant": "salient"}  # of our kinds of labels, where they differ
_COMMON_TAG_COUNT = 20  # images that a tag is on to be common; the archive lists these tags
_PHOTOGRAPHER = re.compile(
    r"(?im)^\W*(?:photographer|photo by|owner|author|user ?name|user|by)\b[^:=\n]*[:=]\s*(\S.*)$"
)


@dataclasses.dataclass(eq=False, kw_only=True)
class MirflickrConfig(base.TaggedImagesConfig):
    """Which labels.

    Attributes:
      labels: 'potential' (may fit the image), 'all' (these and the relevant ones, as '<label>_r1'), 'relevant' (salient
        in the image; what is only potential is unknown), or 'tags' (what the photographers wrote).
      names: the label names, each of which must have its file; none takes what the files say.
    """

    labels: str
    names: tuple[str, ...] = ()


class Builder(base.TaggedImagesBuilder):
    """Builds from the two archives, downloaded or in the manual directory."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    HOMEPAGE = "https://press.liacs.nl/mirflickr/"
    LICENSE = "Creative Commons; each image its own, see the features `license` and `photographer`"
    ARCHIVES = archives.MIRFLICKR25K
    BUILDER_CONFIGS = [
        MirflickrConfig(
            name="potential", labels="potential", names=POTENTIAL, description="24 labels that may fit an image."
        ),
        MirflickrConfig(
            name="all", labels="all", names=_ALL, description="All 38 annotations: 24 potential and 14 relevant labels."
        ),
        MirflickrConfig(
            name="relevant",
            labels="relevant",
            names=RELEVANT,
            description="14 labels that are salient in an image; those that only may fit it are unknown.",
        ),
        MirflickrConfig(name="tags", labels="tags", description="The 1,386 common ones of the photographers' tags."),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    Nothing is needed: both archives are downloaded. If you have them, put into the manual directory either
    mirflickr25k.zip and mirflickr25k_annotations_v080.zip, or what is in them: `mirflickr/` and the text files of the
    labels, in the directory itself, in `annotations/` or in `mirflickr25k_annotations_v080/`.
    """

    def _schema(self) -> RecordSchema:
        config = self.builder_config
        columns = ("license", "photographer")
        return RecordSchema(config.names, has_unknown=config.labels == "relevant", columns=columns)

    def _conversion(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        lists, images = archives.fetch(dl_manager, self.ARCHIVES)
        options = {"annotations": functools.partial(read_rows, lists, images, self.builder_config), "images": images}
        if self.builder_config.labels == "tags":
            common = read_common_tags(images)
            return options | ({"labels": common} if common else {"min_label_count": _COMMON_TAG_COUNT})
        return options


def read_rows(lists: str, images: str, config: MirflickrConfig) -> Iterator[Event]:
    """Yields the images with their labels, licence and photographer.

    Args:
      lists: the folder of the label files.
      images: the folder that `mirflickr/` is in.
      config: which labels.

    Raises:
      AnnotationError: a label of the config has no file.
    """
    options = ReadOptions(images=images, mirflickr_labels=_READER_NAMES.get(config.labels, config.labels))
    for event in annotations.read(lists, "mirflickr", options):
        if isinstance(event, LabelSet) and (missing := sorted(set(config.names) - set(event.names))):
            raise AnnotationError(f"{lists}: no files for the labels {missing}. Is the archive complete?")
        if isinstance(event, Annotation):
            event = dataclasses.replace(event, columns=_attribution(files.join(images, event.image)))
        yield event


def read_common_tags(images: str) -> tuple[str, ...]:
    """The tags that the archive lists as common ('<tag> <images>' a line), in its order; none if it has no list."""
    path = epath.Path(images, "mirflickr", "doc", "common_tags.txt")
    if not path.exists():
        return ()
    return tuple(line.rsplit(maxsplit=1)[0] for line in path.read_text().splitlines() if line.strip())


def _attribution(image: str) -> dict[str, str]:
    """Licence and photographer of an image, by its file in `meta/license/`; empty where there is none."""
    folder, _, name = image.rpartition("/")
    path = f"{folder}/meta/license/license{name.removeprefix('im').removesuffix('.jpg')}.txt"
    text = files.read_bytes(path).decode("utf-8", errors="replace") if files.exists(path) else ""
    named = _PHOTOGRAPHER.search(text)
    return {"license": " ".join(text.split()), "photographer": named[1].strip() if named else ""}
