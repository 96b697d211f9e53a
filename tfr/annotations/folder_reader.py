"""Labels from where images lie or what they are called: folders named after labels, and file name templates."""

import re
from collections.abc import Iterator

from tfr import files
from tfr.annotations.base import Annotation, Event, ReadOptions, RejectedRow, Source
from tfr.errors import AnnotationError, UsageError

SPLIT_FOLDERS = frozenset({"train", "training", "validation", "valid", "val", "dev", "test", "testing"})
_FIELDS = ("label", "split", "group", "id")


def read_folders(path: str, options: ReadOptions) -> Iterator[Event]:
    """Yields the images under `path`, labelled by the folder they lie in.

    Shape: `<path>/<label>/<file>`, or `<path>/<split>/<label>/<file>` where every folder right below `path` is
    called train, validation, valid, val or test. Deeper folders belong to the label above them. The id is the path
    relative to `path`.

    Raises:
      AnnotationError: there is no image in it.
    """
    del options  # nothing to choose
    images = _list_images(path)
    tops = {image.split("/")[0] for image in images if "/" in image}
    depth = 1 if tops and all(top.lower() in SPLIT_FOLDERS for top in tops) else 0
    for number, image in enumerate(images, 1):
        parts = image.split("/")
        source = Source(files.join(path, image), number)
        if len(parts) < depth + 2:
            yield RejectedRow(source, "no_label", "the image lies in no label folder", image)
        else:
            yield Annotation(image, image, (parts[depth],), source, split=parts[0] if depth else None)


def read_filenames(path: str, options: ReadOptions) -> Iterator[Event]:
    """Yields the images under `path`, labelled by their file names.

    Shape: `filename_template`, e.g. '{label}_{}.jpg', or '{split}/{label}-{label}_{}.png' for paths relative to
    `path`; a template without '/' is held against the last part of the path. `{label}` may occur several times, and
    may hold several labels around `label_delimiter`. A name that does not fit is rejected.

    Raises:
      UsageError: the template is missing or has an unknown field.
      AnnotationError: there is no image in the folder.
    """
    pattern, fields = _compile_template(options.filename_template)
    whole = "/" in (options.filename_template or "")
    for number, image in enumerate(_list_images(path), 1):
        source = Source(files.join(path, image), number)
        match = pattern.fullmatch(image if whole else image.rsplit("/", 1)[-1])
        if match is None:
            detail = f"the name does not fit --filename_template={options.filename_template}"
            yield RejectedRow(source, "no_match", detail, image)
        else:
            yield _from_match(image, source, list(zip(fields, match.groups(), strict=True)), options)


def _from_match(image: str, source: Source, found: list[tuple[str, str]], options: ReadOptions) -> Annotation:
    texts = [text for field, text in found if field == "label"]
    if options.label_delimiter:
        texts = [part for text in texts for part in text.split(options.label_delimiter)]
    values = {field: text for field, text in found if field != "label"}
    return Annotation(
        values.get("id", image),
        image,
        tuple(dict.fromkeys(texts)),
        source,
        split=values.get("split"),
        group=values.get("group"),
    )


def _compile_template(template: str | None) -> tuple[re.Pattern[str], list[str]]:
    """'{label}_{}.jpg' as a pattern with a group for each named field, and the fields."""
    if not template:
        raise UsageError("--format=filenames needs --filename_template, e.g. --filename_template='{label}_{}.jpg'.")
    parts = re.split(r"\{([^{}]*)\}", template)
    fields = parts[1::2]
    unknown = [field for field in fields if field and field not in _FIELDS]
    if unknown or "label" not in fields:
        raise UsageError(
            f"--filename_template={template}: the fields are {{label}} (needed), {{split}}, {{group}}, {{id}} and {{}} "
            f"for anything. {f'Unknown: {unknown}.' if unknown else ''}"
        )
    pattern = re.escape(parts[0])
    for field, literal in zip(fields, parts[2::2], strict=True):
        pattern += ("([^/]+?)" if field else "[^/]*?") + re.escape(literal)
    return re.compile(pattern), [field for field in fields if field]


def _list_images(path: str) -> list[str]:
    images = sorted(image.path for image in files.list_images(path))
    if not images:
        raise AnnotationError(f"{path}: no images in it. Expected <label>/<file> or <split>/<label>/<file>.")
    return images
