"""Writes a dataset directory back to an annotation file and image files, for any other tool or for `tfr convert`.

Usage:
  tfr export-annotations data/posters/1.0.0 --output=export
  tfr export-annotations data/posters --output=export --format=jsonl --noimages

Makes export/annotations.csv (or .jsonl), export/labels.txt and export/images/<id>.jpg. The annotation file appears when
everything is written; nothing is overwritten. Ends with the command that makes the same dataset of it again.
"""

import dataclasses
import json

from tfr.errors import UsageError
from tfr.flag_groups import CommandFlags

FLAGS = CommandFlags()

_output = FLAGS.group("Output")
_OUTPUT = _output.string("output", None, "Folder to make; it must not hold anything.", required=True)
_FORMAT = _output.enum("format", "csv", ["csv", "jsonl"], "Format of the annotation file.")
_IMAGES = _output.bool("images", True, "Write the images too.")
_LABEL_ENCODING = _output.enum(
    "label_encoding",
    "auto",
    ["auto", "list", "one_hot", "text"],
    "How labels are written; auto takes a 0/1 column each where labels can be unknown (an empty cell), the name where "
    "images have one label, else lists.",
)
_LABEL_DELIMITER = _output.string("label_delimiter", "|", "What stands between labels that are text.")
_JSON = _output.bool("json", False, "Print the result as JSON.")


def main(args: list[str]) -> None:
    """Exports the dataset directory."""
    if len(args) != 1:
        raise UsageError(f"tfr export-annotations takes one dataset directory. Received: {args}")
    from tfr import annotation_export

    config = annotation_export.ExportConfig(
        dataset=args[0],
        output=_OUTPUT.value,
        format=_FORMAT.value,
        images=_IMAGES.value,
        label_encoding=_LABEL_ENCODING.value,
        label_delimiter=_LABEL_DELIMITER.value,
    )
    result = annotation_export.export(config)
    print(json.dumps(dataclasses.asdict(result), indent=1) if _JSON.value else annotation_export.text(result))
