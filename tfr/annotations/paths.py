"""Image paths as annotation files give them: made relative to the image folder, or refused."""

import dataclasses
import re
from collections.abc import Iterable, Iterator

from tfr.annotations.base import Annotation, Event, ReadOptions, RejectedRow
from tfr.annotations.folder_reader import SPLIT_FOLDERS

# An absolute path, a drive, a URI, or a step up, with either kind of slash; or a needless './' in front.
_SUSPECT = re.compile(r"^\./|^[/\\]|^[A-Za-z]:|://|(?:^|[/\\])\.\.(?:[/\\]|$)|\x00")
_HERE = re.compile(r"^(?:\./+)+")
_STORES = re.compile(r"^(?:gs|s3)://[^/]+/")  # the bucket of an object store


def keep_inside(events: Iterable[Event], options: ReadOptions, *, is_trusted: bool = False) -> Iterator[Event]:
    """Passes events on, image paths made relative to the image folder; rows whose image lies elsewhere are rejected.

    `strip_prefix` and the image folder itself are removed from the front of a path. So is the bucket of a gs:// or
    s3:// URI where the image folder is local: the images are then copies of those in the bucket. With `is_trusted`
    image paths are left alone: the reader made them, not the file. `ignore_splits` is applied here as well.
    """
    suspect = _SUSPECT.search
    strip, from_folder, forget_splits = options.strip_prefix, options.split_from_folder, options.ignore_splits
    if is_trusted and not forget_splits:
        yield from events
        return
    for event in events:
        if type(event) is Annotation:
            if forget_splits and event.split is not None:
                event = dataclasses.replace(event, split=None)
            if is_trusted:
                yield event
                continue
            if strip and event.image.startswith(strip):
                event = _renamed(event, event.image.removeprefix(strip))
            if suspect(event.image):
                yield _inside(event, options)
                continue
            if from_folder and event.split is None:
                event = _with_split(event)
        yield event


def _inside(a: Annotation, options: ReadOptions) -> Annotation | RejectedRow:
    """A row whose path is not plainly relative: mended, or rejected."""
    folder = (options.images or "").rstrip("/")
    image = _HERE.sub("", a.image)
    if folder and image.startswith(folder + "/"):
        image = image[len(folder) + 1 :]
    elif "://" not in folder:
        image = _STORES.sub("", image)
    if not _SUSPECT.search(image):
        moved = _renamed(a, image)
        return _with_split(moved) if options.split_from_folder and moved.split is None else moved
    if options.allow_outside and "\x00" not in image:
        return a
    if image.startswith(("http://", "https://", "ftp://")):
        return RejectedRow(
            a.source,
            "url_image",
            f"image {image[:200]!r} is a URL, and images are not downloaded. Fetch them to the image folder and remove "
            "what stands before their names with --strip_prefix",
            a.id,
        )
    return RejectedRow(
        a.source,
        "outside_image_folder",
        f"image {image[:200]!r} lies outside the image folder {folder or '.'!r}. Give its folder with --images, "
        "remove what is too much with --strip_prefix, or say --allow_outside if the file can be trusted",
        a.id,
    )


def _renamed(a: Annotation, image: str) -> Annotation:
    """The row with another image path; an id that was the path follows it."""
    return dataclasses.replace(a, image=image, id=image if a.id == a.image else a.id)


def _with_split(a: Annotation) -> Annotation:
    first = a.image.split("/", 1)[0]
    return dataclasses.replace(a, split=first) if first.lower() in SPLIT_FOLDERS and "/" in a.image else a
