"""Shows what a trained tagger gets wrong: the surest mistakes of each label.

Usage:
  tfr errors runs/posters --split=test --output=errors
  tfr errors runs/posters --split=test --label=Horror --label="Science Fiction" --output=errors

Writes a row for each mistake to errors.csv, and to sheets/ a contact sheet for each label of images that carry it but
were given it least, and one of images that do not but were given it most; each with its probability, id and true
labels. Prints which labels are missed, given wrongly, and taken for which. Uses the predictions that the run keeps.
"""

from tfr.errors import UsageError
from tfr.flag_groups import CommandFlags

FLAGS = CommandFlags()

_data = FLAGS.group("Data")
_DATASET = _data.string("dataset", None, "Dataset directory or TFDS name. Default: the one of the training.")
_SPLIT = _data.string("split", "test", "Split to look at.")
_LABEL = _data.multi("label", "A label to look at; may be repeated. Default: all.")
_BATCH_SIZE = _data.integer("batch_size", 32, "Images per step.", lower=1)

_output = FLAGS.group("Output")
_OUTPUT = _output.string("output", None, "Folder to write to.", required=True)
_NUM_IMAGES = _output.integer("num_images", 20, "Images on a contact sheet, at most; 0 for no sheets.", lower=0)
_JSON = _output.bool("json", False, "Print the summary as JSON.")


def main(args: list[str]) -> None:
    """Writes and prints."""
    if len(args) != 1:
        raise UsageError(f"tfr errors takes one run directory. Received: {args}")
    from .. import quiet, run_dir

    run_dir.load(args[0])  # an error here need not wait for TensorFlow
    quiet.import_tensorflow()
    from .. import error_files

    analysis = error_files.write_errors(
        args[0],
        _OUTPUT.value,
        dataset=_DATASET.value,
        split=_SPLIT.value,
        labels=_LABEL.value,
        num_images=_NUM_IMAGES.value,
        batch_size=_BATCH_SIZE.value,
    )
    if _JSON.value:
        print(run_dir.to_json(error_files.to_json(analysis, _NUM_IMAGES.value)))
    else:
        print(
            f"{error_files.text(analysis, _SPLIT.value)}\n\n  all of them, and the surest as pictures: {_OUTPUT.value}"
        )
