"""XML that may come from anywhere: document types and entities are refused."""

import contextlib
from collections.abc import Iterator
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from tfr import files
from tfr.errors import AnnotationError


class RefusedXmlError(AnnotationError):
    """A file that declares what only an attack needs."""


def load(path: str, root: str) -> Element:
    """The root element of a small XML file.

    Raises:
      AnnotationError: not XML (names the line), or another root.
      RefusedXmlError: it declares a document type or entities, which an annotation file does not need and a malicious
        one grows to gigabytes with.
    """
    with files.open_binary(path) as file, _explained(path):
        element = defusedxml.ElementTree.parse(file, forbid_dtd=True).getroot()
    _check_root(element, root, path)
    return element


def iterate(path: str, tags: tuple[str, ...], root: str) -> Iterator[Element]:
    """Yields those children of the root that have one of these names, each as it is complete, in flat memory.

    Raises: as `load`.
    """
    with files.open_binary(path) as file, _explained(path):
        depth, top = 0, None
        for event, element in defusedxml.ElementTree.iterparse(file, ("start", "end"), forbid_dtd=True):
            if top is None:
                top = element
                _check_root(top, root, path)
            depth += 1 if event == "start" else -1
            if event == "end" and depth == 1:
                if element.tag in tags:
                    yield element
                top.clear()


def _check_root(element: Element, root: str, path: str) -> None:
    if element.tag != root:
        raise AnnotationError(f"{path}: the root is <{element.tag}>, expected <{root}>.")


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except DefusedXmlException as err:
        raise RefusedXmlError(
            f"{path}: refused: it declares a document type or entities ({type(err).__name__}). Annotation files need "
            "none; remove the <!DOCTYPE ...> if you trust the file."
        ) from err
    except ParseError as err:
        raise AnnotationError(f"{path}:{err.position[0]}: not well-formed XML: {err}. Is the file cut off?") from err
