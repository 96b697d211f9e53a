"""Devices and replicas: a tf.distribute strategy from flags, and the arithmetic of batches."""

import json
import os

import tensorflow as tf

from tfr.errors import UsageError


def make_strategy(name: str = "auto", num_virtual_devices: int | None = None) -> tf.distribute.Strategy:
    """Makes the strategy that a model is built, compiled and trained under.

    Args:
      name: 'mirrored': MirroredStrategy over all GPUs, or over the (logical) CPU devices where there is none;
        'multi_worker': the same over the machines that the environment variable TF_CONFIG names, each running the same
        command; 'tpu': TPUStrategy; 'none': the default device; 'auto': multi_worker where TF_CONFIG names several
        workers, else mirrored.
      num_virtual_devices: makes that many logical CPU devices, to run several replicas without GPUs. Must come before
        anything else uses TensorFlow in this process.

    Raises:
      UsageError: logical devices can no longer be made; or there are no workers or TPUs.
    """
    if num_virtual_devices:
        _make_logical_cpus(num_virtual_devices)
    workers = _workers()
    if name == "multi_worker" or (name == "auto" and len(workers) > 1):
        return _multi_worker(workers)
    if name == "tpu":
        return _tpu()
    if name == "none":
        return tf.distribute.get_strategy()
    gpus = tf.config.list_logical_devices("GPU")
    devices = gpus or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices], _cross_device_ops(bool(gpus)))


def _workers() -> list[str]:
    """The addresses of all workers in TF_CONFIG; none where it is not set."""
    text = os.environ.get("TF_CONFIG", "")
    try:
        cluster = json.loads(text or "{}").get("cluster", {})
        return [*cluster.get("chief", []), *cluster.get("worker", [])]
    except (ValueError, AttributeError) as err:
        raise UsageError(f"The environment variable TF_CONFIG is not what TensorFlow wants ({err}): {text!r}") from err


def _multi_worker(workers: list[str]) -> tf.distribute.Strategy:
    if not workers:
        raise UsageError(
            "--strategy=multi_worker needs the environment variable TF_CONFIG on every machine, such as "
            '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}.'
        )
    return tf.distribute.MultiWorkerMirroredStrategy()


def _tpu() -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
    except (ValueError, tf.errors.OpError) as err:
        raise UsageError(f"--strategy=tpu: TensorFlow finds no TPU ({' '.join(str(err).split())}).") from err
    return tf.distribute.TPUStrategy(resolver)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes the run directory."""
    return strategy.extended.should_save_summary


def from_chief(strategy: tf.distribute.Strategy, value: float) -> float:
    """The chief's value, on all workers; also a point that none passes before all have reached it."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return value
    mine = tf.constant(value if is_chief(strategy) else 0.0, tf.float32)
    count = tf.constant(1.0 if is_chief(strategy) else 0.0, tf.float32)

    @tf.function
    def summed() -> tf.Tensor:
        def sum_over_replicas() -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.stack([mine, count]))

        return strategy.run(sum_over_replicas)

    total, number = strategy.experimental_local_results(summed())[0].numpy()
    return float(total / number)


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
