"""Shows what a trained tagger gets wrong, and which labels of its dataset are probably wrong.

Usage:
  tfr errors runs/posters --split=test --output=errors
  tfr errors runs/posters --split=test --label=Horror --label="Science Fiction" --output=errors
  tfr errors runs/posters --split=test --label_issues=train,validation,test --output=errors

Writes a row for each mistake to errors.csv, and to sheets/ a contact sheet for each label of images that carry it but
were given it least, and one of images that do not but were given it most; each with its probability, id and true
labels. Prints which labels are missed, given wrongly, and taken for which. Uses the predictions that the run keeps.

--label_issues also looks for wrong labels in the splits that it names, and writes them to label_issues.csv for a person
to review: write 'yes' into the column `decision` where a suggestion is right, and give the file to
`tfr convert --corrections`.
"""

from tfr.errors import UsageError
from tfr.flag_groups import CommandFlags

FLAGS = CommandFlags()

_data = FLAGS.group("Data")
_DATASET = _data.string("dataset", None, "Dataset directory or TFDS name. Default: the one of the training.")
_SPLIT = _data.string("split", "test", "Split to look at.")
_LABEL = _data.multi("label", "A label to look at; may be repeated. Default: all.")
_BATCH_SIZE = _data.integer("batch_size", 32, "Images per step.", lower=1)
_LABEL_ISSUES = _data.list(
    "label_issues", [], "Splits to look for wrong labels in; the one of the training is judged by cross-validation."
)

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
    from .. import error_files, label_issue_files

    output, splits = _OUTPUT.value, _LABEL_ISSUES.value
    if splits:  # before the work
        label_issue_files.check(args[0], output, splits, _DATASET.value)
    common = {"dataset": _DATASET.value, "num_images": _NUM_IMAGES.value, "batch_size": _BATCH_SIZE.value}
    analysis = error_files.write_errors(args[0], output, split=_SPLIT.value, labels=_LABEL.value, **common)
    issues = label_issue_files.write_issues(args[0], output, splits, **common) if splits else None
    if _JSON.value:
        found = error_files.to_json(analysis, _NUM_IMAGES.value)
        doubtful = {} if issues is None else {"label_issues": label_issue_files.to_json(issues, _NUM_IMAGES.value)}
        print(run_dir.to_json(found | doubtful))
        return
    print(f"{error_files.text(analysis, _SPLIT.value)}\n\n  all of them, and the surest as pictures: {output}")
    if issues is not None:
        print(f"\n{label_issue_files.text(issues, splits, output)}")
