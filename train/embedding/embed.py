"""Embeddings of a dataset by a frozen backbone, cached as a dataset of their own."""

import dataclasses
import os
import re
from typing import Any

import keras
import tensorflow as tf
import tensorflow_datasets as tfds

from tfr import folder_lock, runners
from tfr.errors import DatasetError, UsageError

from .. import backbones, forward, input_pipeline, preprocessing, stage_means
from . import job, plan, writer
from .config import EmbedConfig
from .directory import EmbeddingDir
from .plan import FEATURE, VIEWS_FEATURE, Recipe, Shard
from .writer import Settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbedResult:
    """What `embed` did.

    Attributes:
      output: the directory of the embeddings.
      reused: whether there was nothing to do.
      num_examples: over all splits.
      shards_embedded, shards_kept: shards computed now, and those that were there before.
      recipe: what they were made by, see Recipe.
    """

    output: str
    reused: bool
    num_examples: int
    shards_embedded: int
    shards_kept: int
    recipe: dict[str, Any]


def embed(config: EmbedConfig) -> EmbedResult:
    """Embeds every example of a dataset, split for split and shard for shard.

    The result is a dataset directory that TFDS opens: `embedding` instead of `image`, all other features as they
    were. Run again, it does what is missing: of a killed run, or of a dataset that has grown.

    Args:
      config: what to embed and how.

    Raises:
      DatasetError: the dataset cannot be used, or the directory holds something else, or embeddings that were made
        otherwise.
      UsageError: the config does not fit together.
      ConversionError: the Beam job failed, or another process is at it.
    """
    builder = input_pipeline.open_dataset(config.dataset, config.data_dir)
    _check_features(builder)
    backbone_name = config.backbone or backbones.default_backbone()
    name = _dataset_name(builder, backbone_name)
    target = EmbeddingDir((config.output or _default_output(builder, name)).rstrip("/"))
    runner = _prepare_runner(config, builder, target)
    backbone = _build_backbone(config, backbone_name)
    recipe = make_recipe(config, backbone)
    planned = plan.plan(builder, name)
    target.check(recipe, planned, config.overwrite)
    if target.is_current(recipe, planned, plan.features_of(builder, recipe)):
        return _result(target, recipe, planned, None)
    with folder_lock.hold(target.plan_dir, "tfr embed", target.path):
        todo = target.begin(recipe, planned)
        settings = Settings(target, recipe, os.fspath(builder.data_path), config.batch_size)
        if runner and todo:
            job.run(runner, settings, backbone, todo)
        else:
            writer.write_shards(settings, forward.compile_forward(backbone, dtype=tf.uint8), todo)
        target.publish(recipe, config.weights, builder, name, target.reconcile(planned))
    return _result(target, recipe, planned, todo)


def _result(target: EmbeddingDir, recipe: Recipe, planned: list[Shard], todo: list[Shard] | None) -> EmbedResult:
    return EmbedResult(
        output=target.path,
        reused=todo is None,
        num_examples=sum(shard.num_records for shard in planned),
        shards_embedded=len(todo or ()),
        shards_kept=len(planned) - len(todo or ()),
        recipe=dataclasses.asdict(recipe),
    )


def _check_features(builder: tfds.core.DatasetBuilder) -> None:
    if taken := {FEATURE, VIEWS_FEATURE} & set(builder.info.features):
        raise DatasetError(f"{builder.info.full_name} has a feature {taken.pop()!r} already.")


def _dataset_name(builder: tfds.core.DatasetBuilder, backbone: str) -> str:
    config = builder.builder_config.name if builder.builder_config else ""
    return re.sub(r"\W", "_", "_".join(part for part in (builder.info.name, config, backbone) if part))


def _default_output(builder: tfds.core.DatasetBuilder, name: str) -> str:
    """Beside the dataset, in TFDS's layout."""
    folder, place = os.fspath(builder.data_path).rstrip("/"), builder.info.full_name
    if not f"/{folder}".endswith(f"/{place}"):
        raise UsageError(f"{folder} does not end in {place}, as TFDS would have it. Say --output=FOLDER.")
    return f"{folder.removesuffix(place)}{name}/{builder.info.version}"


def _prepare_runner(
    config: EmbedConfig, builder: tfds.core.DatasetBuilder, target: EmbeddingDir
) -> runners.Runner | None:
    if not config.runner:
        return None
    places = {"DATASET": os.fspath(builder.data_path), "--output": target.path}
    return runners.prepare(runners.Job(config.runner, config.num_workers, config.beam_args, places))


def _build_backbone(config: EmbedConfig, name: str) -> keras.Model:
    weights = None if config.weights == "none" else config.weights
    if weights is None:
        keras.utils.set_random_seed(config.seed)  # as training does: the same seed gives the same network
    image_size = (config.image_size, config.image_size) if config.image_size else None
    backbone = backbones.build_backbone(name, weights=weights, image_size=image_size)
    return stage_means.with_stages(backbone) if config.features == "stages" else backbone


def make_recipe(config: EmbedConfig, backbone: keras.Model) -> Recipe:
    """What embeddings by this backbone and config depend on."""
    return Recipe(
        backbone=backbone.name,
        weights=plan.weights_digest(backbone),
        image_size=backbone.input_shape[1],
        features=config.features,
        resize=config.resize,
        preprocessing=preprocessing.VERSION,
        embedding_size=backbone.output_shape[1],
        dtype=config.dtype,
        num_views=config.num_views,
        augment=config.augment if config.num_views else None,
        seed=config.seed if config.num_views else None,
    )


def summary(result: EmbedResult) -> str:
    """What was done, in plain words."""
    recipe = result.recipe
    head = "Already embedded, nothing to do" if result.reused else "Embedded"
    views = f" and {recipe['num_views']} views" if recipe["num_views"] else ""
    return (
        f"{head}: {result.output}\n"
        f"  examples    {result.num_examples} ({recipe['embedding_size']} x {recipe['dtype']}{views} each)\n"
        f"  shards      {result.shards_embedded} embedded, {result.shards_kept} kept from before\n"
        f"  backbone    {recipe['backbone']}, {recipe['image_size']} pixels, {recipe['resize']}\n"
        f"  next: tfr train --bottlenecks={result.output} --run_dir=RUN"
    )
