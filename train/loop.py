"""The training loop: steps on global batches under any strategy, with a state that can be saved and put back.

Keras's own `fit` saves neither the position in an epoch nor the state of schedules and early stopping, clips gradients
before they are summed over replicas, and weighs the examples of a short batch more. Here a step depends on the global
batch alone: the same losses and weights on one replica, on several, and after a restart.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Batch = tuple[tf.Tensor, tf.Tensor]


class Loop:
    """Takes optimisation steps.

    Attributes:
      model, optimizer, strategy: as given.
    """

    def __init__(
        self,
        model: keras.Model,
        loss: keras.losses.Loss,
        optimizer: keras.optimizers.Optimizer,
        strategy: tf.distribute.Strategy,
        *,
        clip_norm: float | None = None,
        ema_decay: float | None = None,
        jit_compile: bool = False,
    ):
        """Prepares steps.

        Args:
          model: takes a batch of inputs.
          loss: its `call` gives a loss for each example, (batch,).
          optimizer: built for `model.trainable_variables`.
          strategy: the one that model and optimizer were made under.
          clip_norm: gradients of the global batch are scaled to at most this norm, all variables together.
          ema_decay: an exponential moving average of the trainable weights is kept with this decay; it starts with
            a lower one, (1 + steps) / (10 + steps), so that early weights are forgotten.
          jit_compile: XLA, for GPUs.
        """
        self.model, self.optimizer, self.strategy = model, optimizer, strategy
        self._loss, self._clip_norm, self._ema_decay = loss, clip_norm, ema_decay
        self._trained = list(model.trainable_variables)
        with strategy.scope():
            self._averages = [_copy_of(variable) for variable in self._trained] if ema_decay else []
        step = tf.function(self._replica_step, jit_compile=True) if jit_compile else self._replica_step
        self._run_steps = tf.function(lambda iterator, count: self._steps(step, iterator, count))

    @property
    def steps_done(self) -> int:
        """Steps taken so far."""
        return int(self.optimizer.iterations.numpy())

    def run(self, batches: Iterator[Batch], num_steps: int) -> float:
        """Takes steps.

        Args:
          batches: an iterator over a dataset that `distribute` returned.
          num_steps: how many.

        Returns:
          The mean over the steps of the loss of the global batch.
        """
        return float(self._run_steps(batches, tf.constant(num_steps))) / num_steps

    def distribute(self, make_batches: Callable[..., tf.data.Dataset], start_step: int) -> Iterator[Batch]:
        """An iterator over global batches, from step `start_step` on, that `run` takes.

        Args:
          make_batches: takes start_step and a tf.distribute.InputContext. Where that is None it returns a dataset of
            global batches; else one of a worker's part of each, in batches for one replica.
          start_step: the first step.
        """
        if isinstance(self.strategy, tf.distribute.MultiWorkerMirroredStrategy):  # each reads its own part alone
            parts = self.strategy.distribute_datasets_from_function(lambda context: make_batches(start_step, context))
            return iter(parts)
        return iter(self.strategy.experimental_distribute_dataset(make_batches(start_step, None)))

    def _steps(self, step: Callable, iterator: Iterator[Batch], count: tf.Tensor) -> tf.Tensor:
        total = tf.constant(0.0)
        for _ in tf.range(count):
            losses = self.strategy.run(step, args=next(iterator))
            total += self.strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)
            self._update_averages()
        return total

    def _replica_step(self, inputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """One replica's part of a step; returns its part of the loss."""
        context = tf.distribute.get_replica_context()
        num_examples = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.cast(tf.shape(targets)[0], tf.float32))
        with tf.GradientTape() as tape:
            losses = self._loss.call(targets, self.model(inputs, training=True))
            loss = tf.reduce_sum(tf.cast(losses, tf.float32)) / num_examples
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, [variable.value for variable in self._trained])
        if self._clip_norm:
            gradients = self._clip(context, gradients)
        self.optimizer.apply(gradients, self._trained)  # sums over replicas
        return loss

    def _clip(self, context: tf.distribute.ReplicaContext, gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Clips the gradient of the global batch, and gives each replica an equal part of it."""
        summed = context.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients))
        clipped, _ = tf.clip_by_global_norm(summed, self._clip_norm)
        return [gradient / context.num_replicas_in_sync for gradient in clipped]

    def _update_averages(self) -> None:
        if not self._averages:
            return
        steps = tf.cast(self.optimizer.iterations.value, tf.float32)
        decay = tf.minimum(self._ema_decay, (1 + steps) / (10 + steps))
        for average, variable in zip(self._averages, self._trained, strict=True):
            average.assign(decay * average + (1 - decay) * tf.cast(variable.value, average.dtype))

    # State

    def state(self) -> list[np.ndarray]:
        """Everything that the next step depends on, in a fixed order."""
        return [_read(variable) for variable in self._all_variables()]

    def set_state(self, values: Sequence[np.ndarray]) -> None:
        """Puts back what `state` returned."""
        variables = self._all_variables()
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    def weights(self) -> list[np.ndarray]:
        """What is worth keeping of the model: its weights, with the averages in place of what they average."""
        averages = dict(zip((v.path for v in self._trained), self._averages, strict=False))
        return [_read(averages.get(variable.path, variable)) for variable in self.model.weights]

    def raw_weights(self) -> list[np.ndarray]:
        """The model's weights as they are."""
        return [_read(variable) for variable in self.model.weights]

    def set_weights(self, values: Sequence[np.ndarray]) -> None:
        """Gives the model weights that `weights` or `raw_weights` returned."""
        for variable, value in zip(self.model.weights, values, strict=True):
            variable.assign(value)

    def set_rate_factor(self, factor: float) -> None:
        """Multiplies the learning rate from now on; see optimizers.Schedule."""
        self._schedule.factor.assign(factor)

    @property
    def _schedule(self) -> Any:
        return self.optimizer._learning_rate  # Keras offers the rate of the moment, not what it comes from

    def _all_variables(self) -> list[keras.Variable | tf.Variable]:
        return [*self.model.variables, *self.optimizer.variables, self._schedule.factor, *self._averages]


def _copy_of(variable: keras.Variable) -> tf.Variable:
    return tf.Variable(variable.value, trainable=False, dtype=tf.float32, name="average")


def _read(variable: keras.Variable | tf.Variable) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable.value if hasattr(variable, "path") else variable))
