"""Pascal VOC: one XML file an image."""

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from tfr import files
from tfr.annotations import xml_files
from tfr.annotations.base import Annotation, Event, ReadOptions, RejectedRow, Source
from tfr.errors import AnnotationError


def read_voc(path: str, options: ReadOptions) -> Iterator[Event]:
    """Yields the images of Pascal VOC XML files, each with the set of its objects' names.

    Shape: a folder of XML files, or the one above its `Annotations/`: `<annotation><filename>a.jpg</filename>
    <object><name>cat</name><difficult>0</difficult></object></annotation>`. A label all of whose objects are difficult
    is unknown, as in VOC's own class lists. Images are looked for in the image folder, or in `JPEGImages/` below it.
    A file that is no such XML is rejected, the rest goes on.

    Raises:
      AnnotationError: there is no XML file, or one declares entities.
    """
    folder, prefix = path, image_prefix(options)
    if files.is_dir(path):
        folder = files.join(path, "Annotations") if files.is_dir(files.join(path, "Annotations")) else path
        names = [name for name in files.list_names(folder) if name.lower().endswith(".xml")]
        if not names:
            raise AnnotationError(f"{path}: no XML files in it.")
        paths = [files.join(folder, name) for name in names]
    else:
        paths = [path]
    for file in paths:
        source = Source(file, 1)
        try:
            root = xml_files.load(file, "annotation")
        except xml_files.RefusedXmlError:
            raise
        except AnnotationError as err:
            yield RejectedRow(source, "malformed_row", str(err))
            continue
        yield _from_xml(root, source, prefix)


def _from_xml(root: Element, source: Source, prefix: str) -> Annotation | RejectedRow:
    name = (root.findtext("filename") or "").strip()
    if not name:
        return RejectedRow(source, "no_id", "no <filename>")
    clear: dict[str, bool] = {}  # label: whether any of its objects is not difficult
    for item in root.iterfind("object"):
        label = (item.findtext("name") or "").strip()
        if label:
            clear[label] = clear.get(label, False) or (item.findtext("difficult") or "0").strip() != "1"
    labels = tuple(label for label, is_clear in clear.items() if is_clear)
    unknown = tuple(label for label, is_clear in clear.items() if not is_clear)
    return Annotation(name, prefix + name, labels, source, unknown)


def image_prefix(options: ReadOptions) -> str:
    """What stands before image names: VOC keeps them in a folder of their own."""
    has_folder = options.images is not None and files.is_dir(files.join(options.images, "JPEGImages"))
    return "JPEGImages/" if has_folder else ""
