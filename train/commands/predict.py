"""Tags images with a trained tagger.

Usage:
  tfr predict runs/posters poster.jpg folder/ 'more/**/*.png' --top_k=3
  tfr predict runs/posters --images_file=list.csv --column=path --output=tags.csv --thresholds=run
  find . -name '*.jpg' | tfr predict runs/posters - --format=jsonl
  tfr predict runs/posters --split=test --targets --all_labels=probabilities --output=test.parquet
  tfr predict runs/posters --images_file=gs://b/list.txt --output=gs://b/tags --format=parquet \\
      --runner=DataflowRunner -- --project=p --region=r

Files, folders, patterns, URIs, '-' for paths on standard input (results come as each batch is done), a list, or a split
of a dataset. The likeliest labels are shown, a star marks those from the run's thresholds on; --thresholds=run gives
those alone. Images that cannot be used are named on standard error, have an `error` in the formats for programs, and do
no harm to the rest; the exit code is 1 if none could be used.

With --runner it is a Beam job that writes a folder: a file for each shard of the dataset, or for every
--images_per_shard of the images, and summary.json last. The same command does what is missing.
"""

import sys

from tfr.beam_flags import BeamFlags
from tfr.errors import UsageError
from tfr.flag_groups import CommandFlags

FLAGS = CommandFlags()

_input = FLAGS.group("Input")
_IMAGE = _input.multi("image", "Image, folder, pattern or '-', as the arguments after the run; may be given often.")
_IMAGES_FILE = _input.string("images_file", None, "List: a path a line; or a table, .csv, .tsv or .jsonl, with paths.")
_COLUMN = _input.string("column", None, "Column of that table. Default: a usual name such as image or path.")
_IMAGES = _input.string("images", None, "Folder that relative paths in lists are below. Default: the current one.")
_DATASET = _input.string("dataset", None, "Dataset directory or TFDS name. Default, with --split: the training's.")
_SPLIT = _input.string("split", None, "Split of the dataset instead of images. Default, with --dataset: test.")
_BATCH_SIZE = _input.integer("batch_size", 32, "Images per step.", lower=1)

_tags = FLAGS.group("Tags")
_TOP_K = _tags.integer("top_k", None, "Tags at most. Default: 10 without --thresholds, else any number.", lower=1)
_THRESHOLDS = _tags.string(
    "thresholds", "none", "run: tags from the run's thresholds on; 0.4: from there on; none: the likeliest."
)

_output = FLAGS.group("Output")
_FORMAT = _output.enum(
    "format", None, ["text", "jsonl", "csv", "parquet", "npz"], "Default: as the output's name ends, else text."
)
_OUTPUT = _output.string("output", None, "File or URI, which appears when it is complete. Default: standard output.")
_ALL_LABELS = _output.enum(
    "all_labels", "none", ["none", "probabilities", "binary"], "Every label: its probability, or 0 and 1 by thresholds."
)
_EMBEDDINGS = _output.bool("embeddings", False, "What the head is given of an image, too (jsonl, parquet, npz).")
_TARGETS = _output.bool("targets", False, "The labels that a dataset says, too.")
_JSON = _output.bool("json", False, "The same as --format=jsonl.")

_BEAM = BeamFlags(FLAGS, "predict RUN IMAGES", without="this process, without Beam.")
_IMAGES_PER_SHARD = _BEAM.group.integer("images_per_shard", 10_000, "Images of a list that make one shard.", lower=1)
_OVERWRITE = _BEAM.group.bool("overwrite", False, "Replace predictions of a job that were made otherwise.")


def main(args: list[str]) -> None:
    """Predicts and writes; says on standard error how much that was."""
    if not args:
        raise UsageError("tfr predict takes a run directory and what to predict on.")
    if _JSON.value and _FORMAT.value not in (None, "jsonl"):
        raise UsageError(f"--json is --format=jsonl. Received both, with --format={_FORMAT.value}.")
    from ..prediction import predict

    options = [argument for argument in args[1:] if _BEAM.runner and argument.startswith("--")]  # Beam's, after `--`
    beam_args, default_format = _BEAM.beam_args(options), "jsonl" if _BEAM.runner or _JSON.value else None
    config = predict.PredictConfig(
        run_dir=args[0],
        images=(*(argument for argument in args[1:] if argument not in options), *_IMAGE.value),
        images_file=_IMAGES_FILE.value,
        column=_COLUMN.value,
        folder=_IMAGES.value or "",
        dataset=_DATASET.value,
        split=_SPLIT.value,
        targets=_TARGETS.value,
        top_k=_TOP_K.value,
        thresholds=_THRESHOLDS.value,
        format=_FORMAT.value or default_format,
        output=_OUTPUT.value,
        all_labels=_ALL_LABELS.value,
        embeddings=_EMBEDDINGS.value,
        batch_size=_BATCH_SIZE.value,
    )
    if _BEAM.runner is None:
        summary = predict.predict(config)
    else:
        from ..prediction import job

        on_beam = job.JobConfig(
            predict=config,
            runner=_BEAM.runner,
            num_workers=_BEAM.num_workers,
            beam_args=beam_args,
            images_per_shard=_IMAGES_PER_SHARD.value,
            overwrite=_OVERWRITE.value,
        )
        summary = job.predict(on_beam)
    print(predict.summary_text(summary), file=sys.stderr)
