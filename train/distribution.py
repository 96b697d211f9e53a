"""Devices and replicas: a tf.distribute strategy from flags, and the arithmetic of batches."""

import tensorflow as tf

from tfr.errors import UsageError


def make_strategy(name: str = "auto", num_virtual_devices: int | None = None) -> tf.distribute.Strategy:
    """Makes the strategy that a model is built, compiled and trained under.

    Args:
      name: 'mirrored': MirroredStrategy over all GPUs, or over the (logical) CPU devices where there is none; 'none':
        the default device; 'auto': mirrored.
      num_virtual_devices: makes that many logical CPU devices, to run several replicas without GPUs. Must come before
        anything else uses TensorFlow in this process.

    Raises:
      UsageError: logical devices can no longer be made.
    """
    if num_virtual_devices:
        _make_logical_cpus(num_virtual_devices)
    if name == "none":
        return tf.distribute.get_strategy()
    gpus = tf.config.list_logical_devices("GPU")
    devices = gpus or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices], _cross_device_ops(bool(gpus)))


def _cross_device_ops(has_gpus: bool) -> tf.distribute.CrossDeviceOps | None:
    """NCCL (the default) between GPUs; logical CPUs share memory, so that one of them adds up."""
    return None if has_gpus else tf.distribute.ReductionToOneDevice()


def _make_logical_cpus(count: int) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError as err:
        if len(tf.config.list_logical_devices("CPU")) != count:
            raise UsageError(
                f"--num_virtual_devices={count}: TensorFlow has started with another number of devices in this "
                "process. Set it in a fresh process."
            ) from err


def per_replica_batch_size(global_batch_size: int, strategy: tf.distribute.Strategy) -> int:
    """Examples per step and replica.

    Raises:
      UsageError: the global batch size does not divide by the number of replicas.
    """
    replicas = strategy.num_replicas_in_sync
    if global_batch_size % replicas:
        raise UsageError(
            f"--batch_size is the global batch size and must divide by the number of replicas. Received: "
            f"--batch_size={global_batch_size} with {replicas} replicas; {global_batch_size // replicas * replicas} "
            f"or {-(-global_batch_size // replicas) * replicas} would do."
        )
    return global_batch_size // replicas
