"""Facts about a dataset, a backbone and this machine, for automatic.choose."""

import io
import os

import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from . import backbones, input_pipeline, records, stage_means
from .automatic import Facts

_LOOKED_AT = 200  # images, spread over the split, to learn their size from


def gather(
    builder: tfds.core.DatasetBuilder,
    train_split: str,
    validation_split: str,
    backbone_name: str,
    strategy: tf.distribute.Strategy,
) -> Facts:
    """Looks at what a run will work on and with; takes about a second."""
    backbone = backbones.build_backbone(backbone_name, weights=None)  # for its shape alone
    size = backbone.input_shape[1]
    return Facts(
        num_train=input_pipeline.num_examples(builder, train_split),
        num_validation=input_pipeline.num_examples(builder, validation_split),
        image_side=image_side(builder, train_split) or size,
        backbone_size=size,
        multiplications=multiplications(backbone),
        last_width=backbone.output.shape[-1],
        stages_width=stage_means.with_stages(backbone).output.shape[-1],
        replicas=strategy.num_replicas_in_sync,
        has_accelerator=bool(tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("TPU")),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
    )


def image_side(builder: tfds.core.DatasetBuilder, split: str) -> int | None:
    """The longer side of the median image of a split in pixels; None where examples hold no images."""
    if "image" not in builder.info.features:
        return None
    stored = records.open_records(builder, split)
    places = np.unique(np.linspace(0, len(stored) - 1, _LOOKED_AT).astype(np.int64))
    sides = [max(_image_size(record)) for record in stored.read(places)]
    return int(np.median(sides))


def _image_size(record: bytes) -> tuple[int, int]:
    """Width and height of the image in a serialized example, from its header."""
    features = tf.train.Example.FromString(record).features.feature
    with Image.open(io.BytesIO(features["image"].bytes_list.value[0])) as image:
        return image.size


def multiplications(network: keras.Model) -> float:
    """About how many multiplications one example costs: each kernel is applied at each place of its layer's output."""
    total = 0.0
    for layer in network.layers:
        kernels = [weight for weight in layer.weights if "kernel" in weight.name]
        places = np.prod(layer.output.shape[1:-1]) if kernels else 0
        total += sum(float(np.prod(kernel.shape) * places) for kernel in kernels)
    return total
