"""Bottlenecks: the embeddings of a split, computed once, or read from what `tfr embed` made, to train a head on."""

import dataclasses
import os
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tfr import dataset_dir, files
from tfr.errors import DatasetError, UsageError

from . import forward, input_pipeline, metrics, preprocessing, sampling, stage_means
from .config import TrainConfig
from .embedding import plan
from .embedding.directory import FILE, EmbeddingDir
from .embedding.plan import FEATURE, VIEWS_FEATURE
from .shard_dir import difference

_EMBED_BATCH = 32  # larger batches spill a CPU's caches, see benchmarks
_READ_BATCH = 256
_VIEW_STREAM = 0x76696577  # tells these random numbers from others of the same seed


@dataclasses.dataclass(frozen=True)
class Embeddings:
    """The embeddings of a split, in stored order.

    Attributes:
      values: float32 (num_examples, embedding_size).
      targets: float32 (num_examples, num_labels).
      views: of augmented images, (num_examples, num_views, embedding_size); None where there are none.
      parts: how many of the numbers come from each stage of the backbone, see stage_means; None: all from one.
    """

    values: np.ndarray
    targets: np.ndarray
    views: np.ndarray | None = None
    parts: Sequence[int] | None = None

    @property
    def num_bytes(self) -> int:
        """What the embeddings take of the memory."""
        return self.values.nbytes + (0 if self.views is None else self.views.nbytes)


def embed(
    backbone: keras.Model, builder: tfds.core.DatasetBuilder, split: str, *, batch_size: int, resize: str
) -> Embeddings:
    """Embeds every example of a split, in stored order."""
    shape = input_pipeline.BatchShape(backbone.input_shape[1], batch_size, resize)
    dataset = input_pipeline.for_evaluation(builder, split, shape)
    total = input_pipeline.num_examples(builder, split)
    found = forward.collect(forward.run(backbone, dataset, total=total, description=f"embedding {split}"))
    return Embeddings(found["output"], found["target"], parts=stage_means.widths(backbone))


def of_split(config: TrainConfig, backbone: keras.Model, builder: tfds.core.DatasetBuilder, split: str) -> Embeddings:
    """The embeddings of a split as training wants them: read where the config names a directory, else computed."""
    if config.data.bottlenecks is None:
        found = embed(backbone, builder, split, batch_size=_EMBED_BATCH, resize=config.data.resize)
    else:
        found = dataclasses.replace(load(config.data.bottlenecks, split), parts=stage_means.widths(backbone))
    metrics.check_known(found.targets, builder.info.full_name, split)
    return found


# Those that `tfr embed` made


def resolve(config: TrainConfig) -> TrainConfig:
    """A config whose backbone, image size and dataset, where left open, are those of its bottlenecks.

    `bottlenecks` may name the folder above their one version; in the result it names the version.

    Raises:
      DatasetError: `bottlenecks` is no finished directory of embeddings; or there is no dataset, and images are needed.
      UsageError: the embeddings were made otherwise than the config says.
    """
    if config.data.bottlenecks is None:
        return config
    path = _locate(config.data.bottlenecks)
    content = _read(path)
    recipe = content["recipe"]
    model = dataclasses.replace(
        config.model,
        backbone=config.model.backbone or recipe["backbone"],
        image_size=config.model.image_size or recipe["image_size"],
        features=config.model.features or recipe["features"],
    )
    wanted = {
        "backbone": model.backbone,
        "image_size": model.image_size,
        "features": model.features,
        "resize": config.data.resize,
        "preprocessing": preprocessing.VERSION,
    }
    if changed := difference(recipe, {**recipe, **wanted}):
        raise UsageError(
            f"--bottlenecks={config.data.bottlenecks} were made otherwise than this run wants them ({changed}). Leave "
            "the flags out or give those that they were made with; or run `tfr embed` anew."
        )
    dataset = config.data.dataset or _source(config, path, content["source"]["dataset_dir"])
    data = dataclasses.replace(config.data, dataset=dataset, bottlenecks=path)
    return dataclasses.replace(config, data=data, model=model)


def _locate(path: str) -> str:
    """A directory of embeddings that is named by its version, or by the folder above it."""
    path = path.rstrip("/")
    return path if files.exists(f"{path}/{FILE}") else dataset_dir.only_dataset_below(path) or path


def _read(path: str) -> dict:
    directory = EmbeddingDir(path)
    if not directory.is_published or "source" not in (content := directory.read()):
        raise DatasetError(
            f"--bottlenecks={path} is no finished directory of embeddings, with {FILE} and dataset_info.json. "
            "`tfr embed DATASET` makes one, and finishes one that it began."
        )
    return content


def _source(config: TrainConfig, path: str, dataset: str) -> str:
    """The dataset that the bottlenecks at `path` are of; where it is gone and no image is needed, they stand for it."""
    if files.exists(dataset):
        return dataset
    if config.finetune_epochs:
        raise DatasetError(
            f"Fine-tuning needs images, and the dataset of --bottlenecks is not at {dataset}: --dataset?"
        )
    return path


def check(config: TrainConfig, backbone: keras.Model, builder: tfds.core.DatasetBuilder) -> None:
    """Holds the bottlenecks of a config, if there are any, against what a run is about to use.

    Raises:
      UsageError: they are by other weights.
      DatasetError: they are of other examples.
    """
    path = config.data.bottlenecks
    if path is None:
        return
    content = _read(path)
    if content["recipe"]["weights"] != plan.weights_digest(backbone):
        raise UsageError(
            f"--bottlenecks={path} were made with other weights: --weights={content['weights']} -> "
            f"--weights={config.model.weights}, or files of other content; random ones depend on --seed. Give those "
            "weights, or run `tfr embed` anew."
        )
    if "image" not in builder.info.features:  # the bottlenecks themselves
        return
    made_of = [(report.split, report.source) for report in EmbeddingDir(path).reports_in(content)]
    if made_of != [(shard.split, shard.source) for shard in plan.plan(builder, builder.name)]:
        raise DatasetError(
            f"--bottlenecks={path} are of {content['source']['dataset']} in {content['source']['dataset_dir']} as it "
            f"was then, and the dataset in {os.fspath(builder.data_path)} has other examples. `tfr embed` brings them "
            "up to date."
        )


def load(path: str, split: str) -> Embeddings:
    """Reads the embeddings of a split, in stored order.

    Args:
      path: a directory that `tfr embed` made.
      split: a split or a slice of one; the same examples as in the dataset.

    Raises:
      DatasetError: there is no such split, or a shard is damaged.
    """
    builder = dataset_dir.open_builder(path)
    keys = [key for key in (FEATURE, VIEWS_FEATURE) if key in builder.info.features]
    dataset = input_pipeline.for_evaluation(
        builder,
        split,
        input_pipeline.BatchShape(0, _READ_BATCH),
        image_op=lambda example: example,
        keys=(*keys, "target"),
    )
    size = input_pipeline.num_examples(builder, split)
    arrays: dict[str, np.ndarray] = {}
    start = 0
    for batch in dataset.as_numpy_iterator():
        for key, value in batch.items():
            array = arrays.setdefault(key, np.empty((size, *value.shape[1:]), value.dtype))
            array[start : start + len(value)] = value
        start += len(batch["target"])
    return Embeddings(arrays[FEATURE].astype(np.float32), arrays["target"], arrays.get(VIEWS_FEATURE))


# Batches


def training_batches(
    embeddings: Embeddings,
    batch_size: int,
    seed: int,
    *,
    sample: str = "shuffled",
    start_step: int = 0,
    input_context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Endless batches of (embedding, target) from memory, in the order of input_pipeline.for_training.

    The arguments are those of for_training. Where there are views, each draw of an example takes one of its views.
    """
    present = embeddings.targets == 1
    order = sampling.make_order(sample, len(embeddings.values), lambda: np.nonzero(present), seed)
    gather_values, targets = _get_gather(embeddings, seed), tf.constant(embeddings.targets)
    hosts = input_context.num_input_pipelines if input_context else 1
    first = batch_size // hosts * input_context.input_pipeline_id if input_context else 0

    def gather(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        positions = step * batch_size + first + tf.range(batch_size // hosts, dtype=tf.int64)
        places = tf.numpy_function(order, [positions], tf.int64, stateful=False)
        places = tf.ensure_shape(places, (batch_size // hosts,))
        return gather_values(positions, places), tf.gather(targets, places)

    dataset = tf.data.Dataset.range(start_step, input_pipeline.ENDLESS).map(gather)
    if input_context:
        dataset = dataset.unbatch().batch(batch_size // input_context.num_replicas_in_sync, drop_remainder=True)
    return dataset.prefetch(2)


def _get_gather(embeddings: Embeddings, seed: int) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """From positions in the stream and places in the split, both (n,), to float32 (n, embedding_size)."""
    views = embeddings.values[:, None] if embeddings.views is None else embeddings.views
    num_views = views.shape[1]
    rows = tf.constant(views.reshape(-1, views.shape[2]))

    def gather(positions: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
        if num_views == 1:
            return tf.cast(tf.gather(rows, places), tf.float32)
        text = tf.strings.as_string(positions)  # hashed: which view is a function of the seed and the position alone
        view = tf.strings.to_hash_bucket_strong(text, num_views, key=[seed, _VIEW_STREAM])
        return tf.cast(tf.gather(rows, places * num_views + view), tf.float32)

    return gather
