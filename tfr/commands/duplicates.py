"""Lists images that a dataset has more than once: exact and near duplicates, those in several splits first.

Usage:
  tfr duplicates data/posters/1.0.0
  tfr duplicates data/posters --radius=6 --csv=duplicates.csv --sheet=duplicates.png

Near duplicates have fingerprints (64-bit difference hashes) that differ in at most --radius bits. Images without
structure, such as uniform ones, have fingerprints that say nothing: only their exact duplicates are found.
`tfr convert --group_near_duplicates` keeps duplicates in one split.
"""

import json

from tfr.errors import UsageError
from tfr.flag_groups import CommandFlags

FLAGS = CommandFlags()

_search = FLAGS.group("Search")
_RADIUS = _search.integer("radius", 4, "Bits of 64, 0 to 10, in which near duplicates differ at most.", lower=0)
_NUM_WORKERS = _search.integer("num_workers", None, "Cores to use. Default: all.", lower=1)

_output = FLAGS.group("Output")
_NUM_GROUPS = _output.integer("num_groups", 10, "How many groups to print and to draw.", lower=0)
_SHEET = _output.string("sheet", None, "PNG file to draw the first groups to, a row each.")
_CSV = _output.string("csv", None, "CSV file for all groups, a row an image.")
_JSON = _output.bool("json", False, "Print all groups as JSON.")


def main(args: list[str]) -> None:
    """Finds duplicates, prints them, and writes what is asked for."""
    if len(args) != 1:
        raise UsageError(f"tfr duplicates takes one dataset directory. Received: {args}")
    from tfr import duplicates, near_duplicates

    near_duplicates.check_radius("--radius", _RADIUS.value)
    result = duplicates.find(args[0], _RADIUS.value, num_workers=_NUM_WORKERS.value)
    print(json.dumps(result.to_json(), indent=1) if _JSON.value else duplicates.text(result, _NUM_GROUPS.value))
    if _CSV.value:
        duplicates.write_csv(result, _CSV.value)
    if _SHEET.value and result.groups:
        duplicates.draw(result, args[0], _SHEET.value, max(_NUM_GROUPS.value, 1))
