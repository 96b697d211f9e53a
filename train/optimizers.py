"""Optimizers and learning rates: a rate for each depth, decoupled decay of kernels alone, warm-up, cosine, plateaus."""

import math
from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

_DECAYED = ("kernel", "depthwise_kernel", "pointwise_kernel")  # not biases, scales of normalisation, tokens


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate by step: a linear rise, then constant or half a cosine down to zero; times a plateau factor.

    Source of the cosine: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017.

    Attributes:
      factor: a variable that the rate is multiplied by, 1 at the start; see phases.
    """

    def __init__(self, rate: float, *, total_steps: int, warmup_steps: int = 0, cosine: bool = True):
        """`rate` is reached after `warmup_steps`; the cosine ends at `total_steps`."""
        self._rate, self._total, self._warmup, self._cosine = rate, total_steps, warmup_steps, cosine
        self.factor = tf.Variable(1.0, trainable=False, name="plateau_factor", dtype=tf.float32)

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """The rate of a step, float32 scalar."""
        step = tf.cast(step, tf.float32)
        rate = tf.constant(self._rate, tf.float32)
        if self._cosine:
            progress = (step - self._warmup) / max(self._total - self._warmup, 1)
            rate *= 0.5 * (1 + tf.cos(math.pi * tf.clip_by_value(progress, 0.0, 1.0)))
        if self._warmup:
            rate = tf.where(step < self._warmup, self._rate * (step + 1) / self._warmup, rate)
        return rate * self.factor

    def get_config(self) -> dict[str, float | int | bool]:
        """What the schedule was made from."""
        return {"rate": self._rate, "total_steps": self._total, "warmup_steps": self._warmup, "cosine": self._cosine}


class _ByVariable:
    """Mixed into an optimizer: learning rates by variable, and weight decay, decoupled as AdamW has it, of kernels.

    Source of the decoupling: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019.
    """

    def set_up(self, variables: Sequence[keras.Variable], factors: Mapping[str, float], decay: float) -> None:
        """Builds the optimizer's state.

        Args:
          variables: all that it will update.
          factors: path of a variable to what its learning rate is multiplied by; 1 where it is not named.
          decay: weight decay of kernels, times the learning rate of each.
        """
        self._by_key = {
            self._var_key(variable): (  # type: ignore[attr-defined]
                factors.get(variable.path, 1.0),
                decay if variable.path.rpartition("/")[2] in _DECAYED else 0.0,
            )
            for variable in variables
        }
        self.build(variables)  # type: ignore[attr-defined]

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Decays and updates one variable."""
        factor, decay = self._by_key[self._var_key(variable)]  # type: ignore[attr-defined]
        rate = tf.cast(learning_rate, variable.dtype) * factor
        if decay:
            self.assign(variable, variable * (1 - rate * decay))  # type: ignore[attr-defined]
        super().update_step(gradient, variable, rate)  # type: ignore[misc]


class _FusedAdam(keras.optimizers.Adam):
    """Keras's Adam, to rounding, with one pass over a variable instead of a dozen.

    On a CPU the passes over a wide head's variables cost more than its matrix products do at a small batch size.
    """

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Updates one variable and its moments."""
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations.value + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=self.beta_1**step,
            beta2_power=self.beta_2**step,
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, variable.dtype),
        )


class AdamW(_ByVariable, _FusedAdam):
    """Adam with what _ByVariable adds."""


class SGDW(_ByVariable, keras.optimizers.SGD):
    """SGD with Nesterov momentum, with what _ByVariable adds."""


def make_optimizer(
    name: str,
    schedule: Schedule,
    variables: Sequence[keras.Variable],
    *,
    weight_decay: float = 0.0,
    factors: Mapping[str, float] | None = None,
) -> keras.optimizers.Optimizer:
    """Makes an optimizer with its state; call it inside the strategy's scope.

    Args:
      name: 'adamw' or 'sgd' (momentum 0.9).
      schedule: the learning rate by step.
      variables: what it will update.
      weight_decay: see _ByVariable.
      factors: variable path to a factor of its learning rate.
    """
    optimizer = AdamW(schedule) if name == "adamw" else SGDW(schedule, momentum=0.9, nesterov=True)
    optimizer.set_up(variables, factors or {}, weight_decay)
    return optimizer
