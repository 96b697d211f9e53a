"""Images with annotations in any format that tfr reads: `tfr convert` for those who live in TFDS."""

import os
import pathlib
import re
from typing import TYPE_CHECKING, Any, Union

import tensorflow_datasets as tfds
from etils import epath

from tfr import api, dataset_dir, files, input_digest
from tfr.datasets import base
from tfr.errors import ConversionError, UsageError

if TYPE_CHECKING:
    import pandas as pd

_NAME = "annotated_images"
_HASH_DIGITS = 12
_NOT_OPTIONS = ("data_dir", "output_dir", "name", "version", "overwrite", "file_format", "runner", "beam_args")
_PATHS = ("images", "label_map", "corrections", "labels_file", "classes_file")


class AnnotatedImagesConfig(tfds.core.BuilderConfig):
    """Which annotations and images, and how to read them.

    Its name ends in a digest of the options, of the annotations, and of names and sizes of the images, so that two
    sources, or two states of one, never share a dataset directory.
    """

    def __init__(
        self,
        annotations: Union[str, os.PathLike, "pd.DataFrame"],
        *,
        name: str | None = None,
        version: str | None = None,
        description: str | None = None,
        **options: Any,
    ):
        """Checks the options, and looks at the annotations and at the list of the images.

        Args:
          annotations: an annotation file or folder, or a pandas DataFrame (then `images` is needed).
          name: what the config's name begins with. Default: the annotation file's name.
          version: of the dataset. Default: the builder's.
          description: a text for the dataset's metadata.
          **options: as in tfr.convert, such as `images` or `label_columns`. Where records go and on which runner they
            are made is for TFDS to say: `data_dir`, DownloadConfig.

        Raises:
          UsageError: an option is not known, or the options do not fit together.
        """
        if refused := sorted(set(options) & set(_NOT_OPTIONS)):
            raise UsageError(f"{_NAME}: {refused} are for TFDS to say, by data_dir and DownloadConfig.")
        self.options = {key: _absolute(value) if key in _PATHS else value for key, value in options.items()}
        self.options["annotations"] = _absolute(annotations)
        config = api.make_config(**self.options, data_dir="", name=_NAME)
        with files.Listing(config.image_dir) as images:
            digest = input_digest.content_hash(config, images)[:_HASH_DIGITS]
        name = f"{_config_name(name or _stem(annotations))}_{digest}"
        super().__init__(name=name, version=version, description=description)


def _absolute(path: Any) -> Any:
    """The same path in one spelling, so that it has one digest; other things as they are."""
    if isinstance(path, (str, os.PathLike)) and files.is_local(os.fspath(path)):
        return os.path.abspath(path)
    return path


def _stem(annotations: Any) -> str:
    return pathlib.PurePath(annotations).stem if isinstance(annotations, (str, os.PathLike)) else "frame"


def _config_name(text: str) -> str:
    """A text as TFDS allows in a config's name."""
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower() or "images"


class Builder(base.TaggedImagesBuilder):
    """Builds from whatever is annotated.

        tfds.load("annotated_images", builder_kwargs={"annotations": "train.csv", "images": "Images"})

    The options are those of tfr.convert, given as keywords or as an AnnotatedImagesConfig. What was built once is also
    found by its full name, without its source: tfds.load("annotated_images/train_0f3a5c9b1d2e").
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}

    def __init__(
        self,
        *,
        annotations: Union[str, os.PathLike, "pd.DataFrame", None] = None,
        config: AnnotatedImagesConfig | str | None = None,
        data_dir: Any = None,
        version: Any = None,
        file_format: Any = None,
        **options: Any,
    ):
        """Takes `annotations` and options, `config` then being a name; or a config made of them. The rest is TFDS's."""
        if annotations is not None and not isinstance(config, AnnotatedImagesConfig):
            config = AnnotatedImagesConfig(annotations, name=config, **options)
        elif annotations is not None or options or not isinstance(config, AnnotatedImagesConfig):
            raise UsageError(_what_to_give(config, data_dir))
        super().__init__(config=config, data_dir=data_dir, version=version, file_format=file_format)

    def _schema(self) -> None:
        """Only the data can tell."""

    def _conversion(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # nothing to download
        return self.builder_config.options

    def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        try:
            super()._download_and_prepare(*args, **kwargs)
        except ConversionError as err:
            raise ConversionError(_keep_list(str(err), self.data_path)) from err


def _keep_list(message: str, folder: epath.Path) -> str:
    """Takes the list of rejected rows out of a folder that TFDS removes; returns the message with its new place."""
    listed, kept = folder / ".plan" / dataset_dir.REJECTED_FILE, folder.parent / dataset_dir.REJECTED_FILE
    if listed.exists():
        listed.copy(kept, overwrite=True)
    return message.replace(os.fspath(listed), os.fspath(kept))


def _what_to_give(config: Any, data_dir: Any) -> str:
    if isinstance(config, str):
        return (
            f"No {_NAME}/{config} is prepared in {data_dir or 'the data_dir'}. To make one, give `annotations` (and "
            "`images`, ...) instead of the config's name."
        )
    return (
        f"{_NAME} wants either `annotations` with options of tfr.convert, as "
        "builder_kwargs={'annotations': 'train.csv', 'images': 'Images'}, or "
        "config=AnnotatedImagesConfig('train.csv', images='Images'). On the command line: `tfr convert`."
    )
