"""Builds a named dataset: one of tfr's builders, any builder of TFDS, or the builder in a folder.

Usage:
  tfr build movie_posters --data_dir=data --manual_dir=downloads/posters
  tfr build mirflickr25k --config=all --data_dir=data
  tfr build ./my_pets --data_dir=data                (a folder that `tfr new my_pets` made)
  tfr build mnist --data_dir=data                    (a builder of TFDS)

The result is <data_dir>/<name>/[<config>/]<version>/; tfds.load and every command of tfr open it. For your own images
without a builder there is `tfr convert`. Arguments after `--` go to Beam.
"""

import dataclasses
import json

from tfr.errors import UsageError
from tfr.flag_groups import CommandFlags

FLAGS = CommandFlags()

_input = FLAGS.group("Input")
_CONFIG = _input.string("config", None, "Config of the builder, as in NAME/CONFIG. Default: the builder's own default.")
_MANUAL_DIR = _input.string(
    "manual_dir", None, "Folder with data that you have to fetch yourself. Default: <data_dir>/downloads/manual."
)
_DOWNLOAD_DIR = _input.string("download_dir", None, "Folder that keeps downloads. Default: <data_dir>/downloads.")
_REGISTER = _input.bool("register_checksums", False, "Write the downloads' checksums to the builder's checksums.tsv.")

_output = FLAGS.group("Output")
_DATA_DIR = _output.string("data_dir", None, "Root of dataset directories. Default: TFDS's own, ~/tensorflow_datasets.")
_FILE_FORMAT = _output.string(
    "file_format", None, "Format of the shards: tfrecord, array_record, ... Default: tfrecord."
)
_NUM_SHARDS = _output.integer("num_shards", None, "Shards of each split. Default: by size.", lower=1)
_MAX_SHARD_SIZE_MB = _output.integer("max_shard_size_mb", None, "Size in MiB that no shard is to exceed.", lower=1)
_MAX_EXAMPLES = _output.integer("max_examples_per_split", None, "Take no more than these, for a quick try.", lower=1)
_OVERWRITE = _output.bool("overwrite", False, "Replace a dataset that is there already.")
_JSON = _output.bool("json", False, "Print the result as JSON.")

_job = FLAGS.group("Beam")
_RUNNER = _job.string("runner", "in_process", "Where builders run that use Beam: here, or any Beam runner by name.")


def main(args: list[str]) -> None:
    """Builds, and says what came of it."""
    names = [argument for argument in args if not argument.startswith("--")]
    if len(names) != 1:
        raise UsageError(
            "tfr build takes one builder's name or folder, and after `--` Beam options as --name=value. Received: "
            f"{' '.join(args) or 'nothing'}"
        )
    import tfr

    result = tfr.build(
        names[0],
        data_dir=_DATA_DIR.value,
        manual_dir=_MANUAL_DIR.value,
        download_dir=_DOWNLOAD_DIR.value,
        config=_CONFIG.value,
        file_format=_FILE_FORMAT.value,
        num_shards=_NUM_SHARDS.value,
        max_shard_size_mb=_MAX_SHARD_SIZE_MB.value,
        max_examples_per_split=_MAX_EXAMPLES.value,
        overwrite=_OVERWRITE.value,
        register_checksums=_REGISTER.value,
        runner=_RUNNER.value,
        beam_args=tuple(argument for argument in args if argument.startswith("--")),
    )
    print(json.dumps(dataclasses.asdict(result), indent=1) if _JSON.value else result.summary())
