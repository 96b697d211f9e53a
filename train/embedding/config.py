"""What `tfr embed` does, as a frozen object; importing this imports no TensorFlow."""

import dataclasses

from tfr.errors import UsageError

from ..config import FEATURES, RESIZE_MODES, parse_augment

DTYPES = ("float16", "float32")
_MIXING = ("mixup", "cutmix")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbedConfig:
    """The embeddings of a dataset, cached.

    Attributes:
      dataset: a dataset directory, or a TFDS name such as 'beans' or 'posters:1.0.0'.
      data_dir: root of dataset directories, for a TFDS name.
      output: the directory to write; None: <data_dir>/<dataset>_<backbone>/<version> beside the dataset.
      backbone: a key of BACKBONES; None: efficientnet_lite0 if its weights are installed, else mobilenet_v2.
      weights: 'imagenet', 'none' for random ones, or a file.
      image_size: side of the square input in pixels; None: the backbone's own.
      features: 'last', the backbone's own embedding, or 'stages', which `tfr train` uses; see ModelConfig.
      resize: how an image of another shape becomes square, see DataConfig.
      dtype: of the stored embeddings: 'float16' is half the size and as good for training a head.
      num_views: augmented views of each example to embed beside the plain one.
      augment: what makes the views, see DataConfig; ops that mix images have no place here.
      seed: fixes the views, and weights that are random.
      batch_size: images per step.
      overwrite: whether to replace embeddings that were made otherwise.
      runner: a Beam runner to embed on, see tfr.runners; None: this process, without Beam.
      num_workers, beam_args: see tfr.runners.
    """

    dataset: str
    data_dir: str | None = None
    output: str | None = None
    backbone: str | None = None
    weights: str = "imagenet"
    image_size: int | None = None
    features: str = "last"
    resize: str = "squash"
    dtype: str = "float16"
    num_views: int = 0
    augment: str = "light"
    seed: int = 0
    batch_size: int = 32
    overwrite: bool = False
    runner: str | None = None
    num_workers: int | None = None
    beam_args: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks values before anything is read."""
        for flag, value, allowed in (
            ("dtype", self.dtype, DTYPES),
            ("features", self.features, FEATURES),
            ("resize", self.resize, RESIZE_MODES),
        ):
            if value not in allowed:
                raise UsageError(f"--{flag} must be one of {', '.join(allowed)}. Received: --{flag}={value}")
        if mixing := [name for name, _ in parse_augment(self.augment) if name in _MIXING]:
            raise UsageError(
                f"--augment={self.augment}: {', '.join(mixing)} mixes images, and a view is one image's. Leave it out."
            )
        if self.num_views < 0 or self.batch_size < 1:
            raise UsageError(
                "--views must be at least 0 and --batch_size at least 1. Received: "
                f"--views={self.num_views} --batch_size={self.batch_size}"
            )
