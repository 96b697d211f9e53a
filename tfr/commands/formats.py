"""Lists the annotation formats that tfr reads, with an example of each.

Usage:
  tfr formats
  tfr formats coco voc
  tfr formats --detect=annotations.json     (which one a file or folder is, and why)
"""

import textwrap

from tfr.annotations.formats import FORMATS, detect_format
from tfr.errors import UsageError
from tfr.flag_groups import CommandFlags

FLAGS = CommandFlags()

_input = FLAGS.group("Input")
_DETECT = _input.string("detect", None, "Say of this file or folder which format it is.")


def main(args: list[str]) -> None:
    """Prints the formats that are named, or all."""
    if _DETECT.value:
        name, reason = detect_format(_DETECT.value)
        print(f"{_DETECT.value}: {name}, because {reason}")
        return
    if unknown := [name for name in args if name not in FORMATS]:
        raise UsageError(f"Unknown formats {unknown}. Known: {', '.join(FORMATS)}.")
    print("\n\n".join(_description(name) for name in args or FORMATS))


def _description(name: str) -> str:
    entry = FORMATS[name]
    options = f"\n  options: {', '.join(f'--{option}' for option in entry.options)}" if entry.options else ""
    text = f"{name}: {entry.summary}\n{textwrap.indent(entry.example, '    ')}{options}"
    return "\n".join(
        textwrap.fill(line, 118, subsequent_indent=" " * 11) if "options:" in line else line
        for line in text.splitlines()
    )
