"""Shows a dataset directory: splits, counts, labels, shards; and draws the first images of a split.

Usage:
  tfr inspect data/posters/1.0.0
  tfr inspect data/posters --split=train --num_images=16 --output=sheet.png

It reads the metadata and the images it draws. `tfr stats` counts labels and sizes, `tfr verify` checks every byte.
"""

import json

from tfr.errors import UsageError
from tfr.flag_groups import CommandFlags

FLAGS = CommandFlags()

_sheet = FLAGS.group("Contact sheet")
_SPLIT = _sheet.string("split", None, "Split to draw. Default: the first.")
_NUM_IMAGES = _sheet.integer("num_images", 16, "How many images to draw; 0 for none.", lower=0)
_OUTPUT = _sheet.string("output", None, "PNG file to draw to. Default: <name>-<split>.png in the working directory.")

_output = FLAGS.group("Output")
_JSON = _output.bool("json", False, "Print the description as JSON.")


def main(args: list[str]) -> None:
    """Describes the dataset directory and writes the contact sheet."""
    if len(args) != 1:
        raise UsageError(f"tfr inspect takes one dataset directory. Received: {args}")
    from tfr import contact_sheet, dataset_dir

    builder = dataset_dir.open_builder(args[0])
    description = dataset_dir.describe(builder)
    print(json.dumps(description, indent=1) if _JSON.value else dataset_dir.description_text(description))
    if _NUM_IMAGES.value:
        split = _SPLIT.value or next(iter(builder.info.splits))
        output = _OUTPUT.value or f"{builder.info.name}-{split}.png"
        drawn = contact_sheet.draw_split(builder, split, _NUM_IMAGES.value, output)
        if not _JSON.value:
            print(f"The first {drawn} images of {split}: {output}")
    if not _JSON.value:
        print("More: `tfr stats` counts and compares the splits, `tfr verify` checks every record.")
