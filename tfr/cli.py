"""The `tfr` program: `tfr COMMAND [arguments] [--flags]`.

A command is a module with a docstring (its help), FLAGS (a CommandFlags) and main(args). Its module is imported when
the command is called, and imports what is heavy when main runs, so that help is fast.
"""

import difflib
import importlib
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Sequence

from absl import flags

from tfr import flag_groups
from tfr.errors import TfrError

# name: (module, one line for `tfr --help`), in the order in which a newcomer needs them.
COMMANDS = {
    "demo": ("tfr.train.commands.demo", "The whole way on a small image set that it draws: start here"),
    "run": ("tfr.train.commands.run", "The whole way on your images: convert, train, evaluate, report"),
    "convert": ("tfr.commands.convert", "Annotations and images to a dataset directory of TFRecords"),
    "build": ("tfr.commands.build", "A named dataset by its TFDS builder: ours, TFDS's own, or a folder"),
    "new": ("tfr.commands.new", "The folder of a new TFDS builder, with a test that passes as it stands"),
    "formats": ("tfr.commands.formats", "The annotation formats that convert reads, with an example of each"),
    "inspect": ("tfr.commands.inspect", "Show a dataset directory: splits, labels, shards, sample images"),
    "stats": ("tfr.commands.stats", "Count labels, sizes and splits of a dataset; call out what is odd"),
    "verify": ("tfr.commands.verify", "Check every record of a dataset directory, bytes to images"),
    "duplicates": ("tfr.commands.duplicates", "List exact and near duplicates, and those that leak across splits"),
    "export-annotations": (
        "tfr.commands.export_annotations",
        "A dataset directory back to CSV or JSONL and image files",
    ),
    "preview": ("tfr.train.commands.preview", "Draw training batches, augmented, as the network would see them"),
    "embed": ("tfr.train.commands.embed", "Cache a dataset's embeddings, to train heads from in seconds"),
    "train": ("tfr.train.commands.train", "Train a tagger on a dataset; writes a run directory"),
    "tune": ("tfr.train.commands.tune", "Search for good settings of a training run within a budget"),
    "evaluate": ("tfr.train.commands.evaluate", "Measure a trained tagger on a split, label by label"),
    "errors": ("tfr.train.commands.errors", "What a trained tagger gets wrong, as contact sheets and a table"),
    "compare": (
        "tfr.train.commands.compare",
        "Taggers side by side: is one better, and how sure is that",
    ),
    "calibrate": ("tfr.train.commands.calibrate", "Tune thresholds and the temperature of a trained tagger"),
    "report": ("tfr.train.commands.report", "One page that says how good a tagger is, in words, figures and images"),
    "export": ("tfr.train.commands.export", "A trained tagger for TensorFlow Serving, phones, ONNX Runtime; checked"),
    "predict": ("tfr.train.commands.predict", "Tag images with a trained tagger"),
    "serve": ("tfr.train.commands.serve", "Tag images over HTTP, with a page to drop them on"),
    "explain": ("tfr.train.commands.explain", "Heat maps of which part of an image speaks for a label"),
}


def main(argv: Sequence[str]) -> int:
    """Runs one command.

    Args:
      argv: the arguments after the program's name.

    Returns:
      The exit code: 0, 1 where the data or the environment is wrong, 2 where the call is.
    """
    if not argv or argv[0] in ("--help", "-h", "help"):
        print(_overview())
        return 0
    if argv[0] == "--version":
        from tfr import __version__

        print(f"tfr {__version__}")
        return 0
    name, *rest = argv
    if name not in COMMANDS:
        return _fail(f"Unknown command {name!r}.{_closest(name)} The commands are: {', '.join(COMMANDS)}.", 2)
    module = importlib.import_module(COMMANDS[name][0])
    if any(argument in ("--help", "-h", "-help") for argument in rest):
        print(f"{(module.__doc__ or '').strip()}\n{module.FLAGS.help_text()}")
        return 0
    try:
        args = module.FLAGS.parse(rest)
    except flags.Error as err:
        return _fail(f"{_one_line(err)}. See `tfr {name} --help`.", 2)
    verbosity = module.FLAGS.chosen_verbosity()
    _set_up_logging(verbosity)
    return _run(module, args, verbosity)


def _run(module: object, args: list[str], verbosity: int) -> int:
    try:
        module.main(args)  # type: ignore[attr-defined]
    except TfrError as err:
        if verbosity >= 1:
            traceback.print_exc()
        return _fail(str(err), err.exit_code)
    except KeyboardInterrupt:
        return _fail("Stopped.", 130)
    except BrokenPipeError:
        raise  # to `run`
    except Exception as err:
        if verbosity >= 1:
            traceback.print_exc()
        if isinstance(err, OSError) and err.filename is not None:
            return _fail(f"{os.fspath(err.filename)}: {err.strerror or err}.", 1)
        return _fail(f"Unexpected {type(err).__name__}: {err} (--verbosity=1 shows where)", 1)
    return 0


def run() -> None:
    """The console script."""
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()  # here rather than at the interpreter's end, where an error could not be caught
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        [
            "tfr: from a pile of annotated images to a deployed image tagger.\n",
            "Usage: tfr COMMAND [arguments] [--flags]\n",
            *lines,
            "\n`tfr COMMAND --help` lists a command's flags; `tfr --version` the version.",
        ]
    )


def _closest(name: str) -> str:
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _one_line(err: flags.Error) -> str:
    text = flag_groups.reason(err)
    missing = re.match(r"flag --(\w+)=None: Flag --\1 must have a value", text)
    return f"--{missing[1]} is required" if missing else text


def _fail(message: str, code: int) -> int:
    print(f"tfr: {message}", file=sys.stderr)
    return code


def _set_up_logging(verbosity: int) -> None:
    """Silences the start-up chatter of TensorFlow and Beam unless it is asked for; logs go to standard error."""
    level = [logging.ERROR, logging.WARNING, logging.INFO][min(verbosity, 2)]
    logging.basicConfig(level=level, stream=sys.stderr, force=True, format="%(levelname)s %(name)s: %(message)s")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", {0: "3", 1: "1"}.get(verbosity, "0"))
    if verbosity == 0:
        warnings.simplefilter("ignore")


if __name__ == "__main__":
    run()
