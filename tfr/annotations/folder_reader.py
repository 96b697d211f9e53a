"""Folders of images named after their label, with or without folders of splits above them."""

from collections.abc import Iterator

from tfr import files
from tfr.annotations.base import Annotation, Event, ReadOptions, RejectedRow, Source
from tfr.errors import AnnotationError

SPLIT_FOLDERS = frozenset({"train", "training", "validation", "valid", "val", "dev", "test", "testing"})


def read_folders(path: str, options: ReadOptions) -> Iterator[Event]:
    """Yields the images under `path`, labelled by the folder they lie in.

    Shape: `<path>/<label>/<file>`, or `<path>/<split>/<label>/<file>` where every folder right below `path` is
    called train, validation, valid, val or test. Deeper folders belong to the label above them. The id is the path
    relative to `path`.

    Raises:
      AnnotationError: there is no folder with an image in it, or images lie beside the label folders' parent.
    """
    del options  # nothing to choose
    images = sorted(image.path for image in files.list_images(path))
    if not images:
        raise AnnotationError(f"{path}: no images in it. Expected <label>/<file> or <split>/<label>/<file>.")
    tops = {image.split("/")[0] for image in images if "/" in image}
    depth = 1 if tops and all(top.lower() in SPLIT_FOLDERS for top in tops) else 0
    for number, image in enumerate(images, 1):
        parts = image.split("/")
        source = Source(files.join(path, image), number)
        if len(parts) < depth + 2:
            yield RejectedRow(source, "no_label", "the image lies in no label folder", image)
        else:
            yield Annotation(image, image, (parts[depth],), source, split=parts[0] if depth else None)
