"""Makes the folder of a new TFDS builder, ready to be filled in, whose test passes as it stands.

Usage:
  tfr new my_pets
  tfr new my_pets --dir=builders

The folder has TFDS's own layout: my_pets_dataset_builder.py, its test, README.md, CITATIONS.bib, TAGS.txt,
checksums.tsv and dummy_data/. For one annotation file without code there is `tfr convert`.
"""

from tfr.errors import UsageError
from tfr.flag_groups import CommandFlags

FLAGS = CommandFlags()

_output = FLAGS.group("Output")
_DIR = _output.string("dir", ".", "Where the new folder is made.")


def main(args: list[str]) -> None:
    """Makes the folder, and says what to do in it."""
    if len(args) != 1:
        raise UsageError(f"tfr new takes one name. Received: {' '.join(args) or 'nothing'}")
    from tfr import scaffolding

    folder = scaffolding.write_builder(args[0], _DIR.value)
    print(_next_steps(args[0], folder))


def _next_steps(name: str, folder: str) -> str:
    return f"""Made {folder}
  {name + "_dataset_builder.py":<34} the labels, and where annotations and images are: start here
  {"dummy_data/":<34} a small sample in the layout of the real data
  {name + "_dataset_builder_test.py":<34} builds the sample:  python -m pytest {folder}
  {"README.md, CITATIONS.bib, TAGS.txt":<34} what the dataset's page says
Then
  tfr build {folder} --data_dir=data --manual_dir=FOLDER_WITH_YOUR_DATA
  tfr train --dataset=data/{name} --run_dir=runs/{name}"""
