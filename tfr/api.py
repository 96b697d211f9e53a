"""The Python calls that have a name at the top: `tfr.convert(...)`."""

import dataclasses
from typing import TYPE_CHECKING, Any, Union

from tfr import splits
from tfr.annotations import ReadOptions
from tfr.config import ConvertConfig
from tfr.errors import UsageError
from tfr.images import ImageOptions

if TYPE_CHECKING:
    import pandas as pd

    from tfr.conversion import ConversionResult


def convert(annotations: Union[str, "pd.DataFrame"], **options: Any) -> "ConversionResult":
    """Converts annotations and images to a dataset directory that TFDS opens.

        tfr.convert("train.csv", images="Images", data_dir="data", name="posters", label_columns=("Genre",))

    Args:
      annotations: an annotation file or folder; a pandas DataFrame, or a function that yields tfr.Annotations each time
        it is called (then `images` is needed).
      **options: fields of ConvertConfig (`data_dir` and `name` are needed), ReadOptions and ImageOptions by their
        names, such as `label_columns` or `image_size`; `split_ratios` may be text: 'train=0.9,test=0.1'.

    Returns:
      What was done; `dataset_dir` is the place.

    Raises:
      UsageError: an option is not known, or the options do not fit together.
      TfrError: others of its children, where the data is wrong.
    """
    from tfr import conversion  # imports Beam

    return conversion.convert(make_config(annotations, **options))


def make_config(annotations: Union[str, "pd.DataFrame"], **options: Any) -> ConvertConfig:
    """Builds a ConvertConfig from the flat options of `convert`."""
    parts = {kind: {f.name for f in dataclasses.fields(kind)} for kind in (ReadOptions, ImageOptions, ConvertConfig)}
    unknown = sorted(set(options) - set().union(*parts.values()))
    missing = sorted({"data_dir", "name"} - set(options))
    if unknown or missing:
        problem = f"unknown options {unknown}" if unknown else f"missing options {missing}"
        raise UsageError(f"tfr.convert: {problem}. There are: {', '.join(sorted(set().union(*parts.values())))}.")
    read, image = ({k: v for k, v in options.items() if k in parts[kind]} for kind in (ReadOptions, ImageOptions))
    read.pop("images", None)  # the conversion's own field fills it in
    rest = {k: v for k, v in options.items() if k not in read and k not in image}
    if isinstance(rest.get("split_ratios"), str):
        rest["split_ratios"] = splits.parse_ratios(rest["split_ratios"])
    return ConvertConfig(annotations=annotations, read=ReadOptions(**read), image=ImageOptions(**image), **rest)
