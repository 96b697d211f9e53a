"""CVAT's XML for images, version 1.1: image tags."""

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from tfr.annotations import xml_files
from tfr.annotations.base import Annotation, Event, LabelSet, Note, ReadOptions, RejectedRow, Source
from tfr.errors import AnnotationError

_SHAPES = ("box", "polygon", "polyline", "points", "cuboid", "skeleton", "mask", "ellipse")


def read_cvat(path: str, options: ReadOptions) -> Iterator[Event]:
    """Yields the images of a CVAT XML file, each with its tags.

    Shape: `<annotations><version>1.1</version><meta>...</meta><image id="0" name="a.jpg"><tag label="cat"/></image>
    </annotations>`. An image without tags has no label. A `subset` of an image, which exports of whole projects have,
    is its split ('default' is none). Boxes and other shapes are no tags and are left out. The labels that the file's
    `<meta>` declares are kept even where no image carries them, shapes' labels excepted.

    Raises:
      AnnotationError: not such a file, or there are shapes and no tags in it.
    """
    del options  # nothing to choose
    number = num_tags = num_shapes = 0
    for element in xml_files.iterate(path, ("meta", "image"), "annotations"):
        if element.tag == "meta":
            yield LabelSet(_declared(element))
            continue
        number += 1
        tags = [tag for tag in (item.get("label", "").strip() for item in element.iterfind("tag")) if tag]
        num_tags += len(tags)
        num_shapes += sum(len(element.findall(shape)) for shape in _SHAPES)
        yield _from_image(element, tags, Source(path, number))
    if num_shapes and not num_tags:
        raise AnnotationError(
            f"{path}: {num_shapes} boxes or other shapes and not one image tag: it was made to find objects. Export "
            "it as COCO to take the objects' labels as tags (--format=coco)."
        )
    if num_shapes:
        yield Note(f"{path}: {num_shapes} boxes or other shapes are left out; only image tags are labels")


def _declared(meta: Element) -> tuple[str, ...]:
    """The labels of tasks and projects that may be tags: type 'tag', 'any', or none said."""
    labels = [label for label in meta.iter("label") if (label.findtext("type") or "any").strip() in ("any", "tag")]
    return tuple(filter(None, ((label.findtext("name") or "").strip() for label in labels)))


def _from_image(element: Element, tags: list[str], source: Source) -> Annotation | RejectedRow:
    name = element.get("name", "").strip()
    if not name:
        return RejectedRow(source, "no_id", "<image> without a name", element.get("id", ""))
    subset = element.get("subset", "").strip()
    split = None if subset.lower() in ("", "default") else subset
    return Annotation(name, name, tuple(dict.fromkeys(tags)), source, split=split)
