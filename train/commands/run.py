"""Goes the whole way from an annotation file and an image folder to a trained, measured tagger and its report.

Usage:
  tfr run --annotations=train.csv --images=Images --dir=posters
  tfr run --init=config.yaml --annotations=train.csv        (writes a file to start from)
  tfr run config.yaml
  tfr run config.yaml --set=train.epochs=5 --dry_run

Checks, converts, counts, trains, evaluates and writes the report, as the commands of these names do. The same command
again skips what is done: a changed input or setting repeats the stages that depend on it, and what was killed goes on
where it was. Keys of the file are flags of convert, train, evaluate and report, each below its command's name; paths
are relative to the folder that the command is run in. Flags and --set win over the file.
"""

import dataclasses
import importlib
import os
import re
from typing import Any

from absl import flags as absl_flags

from tfr import cli
from tfr.errors import TfrError, UsageError
from tfr.flag_groups import CommandFlags, reason

FLAGS = CommandFlags()
_SECTIONS = ("convert", "train", "evaluate", "report")
_BY_RUN = "tfr run decides that"
_REFUSED = {
    "convert": ("data_dir", "append_to", "overwrite", "stats", "json", "verbosity"),
    "train": ("dataset", "data_dir", "run_dir", "overwrite", "json", "verbosity"),
    "evaluate": ("json", "verbosity"),
    "report": ("json", "verbosity"),
}

_what = FLAGS.group("What to do")
_DIR = _what.string("dir", None, "Folder for everything that is made.")
_SET = _what.multi(
    "set", "SECTION.FLAG=VALUE: a flag of convert, train, evaluate or report; may be given several times."
)
_INIT = _what.string("init", None, "Write a commented file to start from here, by a look at --annotations; do no more.")
_DRY_RUN = _what.bool("dry_run", False, "Say what would be done and why; do nothing.")
_JSON = _what.bool("json", False, "Print the result as JSON.")

_input = FLAGS.group("Input (of convert, which has more)")
_OF_CONVERT = {
    name: _input.string(name, None, help_)
    for name, help_ in (
        ("annotations", "Annotation file, or folder of label folders."),
        ("images", "Image folder. Default: the folder of the annotations."),
        ("name", "Name of the dataset. Default: made from --dir."),
        ("id_column", "Column with a row's id."),
        ("image_column", "Column with the image's path."),
        ("label_columns", "Columns with labels, comma-separated; First:Last is a range of the header."),
        ("label_delimiter", "What stands between the labels of one cell, e.g. '|'."),
        ("where", "Keep rows that meet a condition, e.g. \"type == 'product'\"."),
    )
}


def main(args: list[str]) -> None:
    """Builds the config and goes the whole way, or says what would be done."""
    if _INIT.value:
        _init(args)
        return
    config = _build_config(args)
    from .. import one_command

    if _DRY_RUN.value:
        _print_plan(one_command.make_pipeline(config).plan())
        return
    result = one_command.run(config, say=_say)
    if _JSON.value:
        from .. import run_dir

        print(run_dir.to_json(dataclasses.asdict(result)))
    else:
        print(one_command.summary(result))


def _say(text: str) -> None:
    if not _JSON.value:
        print(text, flush=True)


def _print_plan(steps: list[Any]) -> None:
    for step in steps:
        print(f"{step.stage.name:<10}{'runs: ' + step.reason if step.reason else 'done already'}")


def _init(args: list[str]) -> None:
    from tfr import preflight, starting_file

    if args or not _OF_CONVERT["annotations"].value:
        raise UsageError("tfr run --init=FILE wants --annotations, to look at them, and no run file.")
    text = starting_file.make(_OF_CONVERT["annotations"].value, _OF_CONVERT["images"].value, _DIR.value)
    starting_file.write(_INIT.value, text)
    print(f"Written: {_INIT.value}. As it stands, it says:")
    try:
        print(preflight.text(preflight.check(_build_config([_INIT.value]).convert)))
    except TfrError as err:
        print(f"  not right yet: {err}")
    print(f"Look at the file, change what is not as you want it, then type\n  tfr run {_INIT.value}")


def _build_config(args: list[str]) -> Any:
    """The OneCommandConfig of the run file and the flags."""
    from tfr import run_file

    from .. import one_command

    if len(args) > 1:
        raise UsageError(f"tfr run takes one run file at most. Received: {args}")
    top, sections = run_file.read(args[0], _SECTIONS) if args else ({}, {name: {} for name in _SECTIONS})
    run_file.check_keys(top, ("dir",), f"a run file, beside the sections {', '.join(_SECTIONS)}")
    for name, flag in _OF_CONVERT.items():
        if flag.value is not None:
            sections["convert"][name] = run_file.Setting(flag.value, f"--{name}")
    for text in _SET.value:
        section, key, setting = run_file.parse_assignment(text, _SECTIONS)
        sections[section][key] = setting
    for name, settings in sections.items():  # a misspelt key explains what is missing
        _arguments(name, settings)
    folder = _DIR.value or (str(top["dir"].value) if "dir" in top else "")
    if not folder or "annotations" not in sections["convert"]:
        missing = "--annotations (convert: annotations: in a run file)" if folder else "--dir (dir: in a run file)"
        raise UsageError(f"tfr run needs {missing}. `tfr run --init=config.yaml --annotations=FILE` writes a file.")
    sections["convert"].setdefault("name", run_file.Setting(_dataset_name(folder), "--dir"))
    convert = _build("convert", sections["convert"], data_dir=one_command.data_dir(folder))
    train = _build("train", sections["train"], dataset=convert.dataset_dir, run_dir=one_command.run_path(folder))
    return one_command.OneCommandConfig(
        dir=folder,
        convert=convert,
        train=train,
        evaluate=_options("evaluate", sections["evaluate"]),
        report=_options("report", sections["report"]),
    )


def _build(name: str, settings: dict[str, Any], **decided: str) -> Any:
    """The config that a command makes of its flags."""
    module = _parse(name, settings, **decided)
    try:
        return module.build_config([])
    except UsageError as err:
        named = [settings[key].where for key in re.findall(r"--(\w+)", str(err)) if key in settings]
        raise UsageError(f"{named[0]}: {err}" if named and not named[0].startswith("--") else str(err)) from err


def _parse(name: str, settings: dict[str, Any], **decided: str) -> Any:
    """The module of a command, its flags set."""
    module, arguments = _arguments(name, settings)
    try:
        module.FLAGS.parse([*arguments, *(f"--{key}={value}" for key, value in decided.items())])
    except absl_flags.Error as err:
        raise UsageError(f"{name}: {reason(err)}.") from err
    return module


def _arguments(name: str, settings: dict[str, Any]) -> tuple[Any, list[str]]:
    """The module of a command, and its section as arguments of it."""
    from tfr import run_file

    module = importlib.import_module(cli.COMMANDS[name][0])
    return module, run_file.arguments(name, settings, module.FLAGS, dict.fromkeys(_REFUSED[name], _BY_RUN))


def _options(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The values of those flags of a command that are set."""
    module = _parse(name, settings)
    return {key: module.FLAGS.values[key].value for key in settings}


def _dataset_name(folder: str) -> str:
    """A name for a dataset that is made in a folder."""
    name = re.sub(r"[^a-z0-9]+", "_", os.path.basename(os.path.abspath(folder)).lower()).strip("_")
    return name if re.match(r"[a-z]", name) else f"images_{name}".rstrip("_")
