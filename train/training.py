"""Training: a head on the frozen backbone's embeddings, then optionally the whole network."""

import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from . import (
    backbones,
    bottlenecks,
    distribution,
    forward,
    input_pipeline,
    losses,
    metrics,
    models,
    optimizers,
    plots,
    run_dir,
    sampling,
    stage_means,
    summaries,
    threshold_tuning,
)
from . import task as task_lib
from .config import TrainConfig
from .loop import Loop
from .phases import Phase, PhaseRunner, Position
from .task import Task

_STEPS_AT_ONCE = {"head": 16, "finetune": 4}
_AUTO_PATIENCE = {"head": 5, "finetune": 15}  # of --schedule=auto
_AUTO_PLATEAU = 5
_LOGGED = ("macro_map", "micro_map", "macro_roc_auc", "micro_f1", "accuracy")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a run came to.

    Attributes:
      run_dir: the run directory.
      metrics: of the validation split, by the weights that were kept; see metrics.compute_metrics.
      epochs: epochs run, by phase.
      seconds: wall time, of the last start where a run was continued.
      measure_on: the split that says most of how good it is; see Task.
    """

    run_dir: str
    metrics: dict[str, Any]
    epochs: dict[str, int]
    seconds: float
    measure_on: str


def train(config: TrainConfig) -> TrainResult:
    """Trains a tagger and writes its run directory.

    The head phase embeds every image once with the frozen backbone and trains the head on the embeddings. The
    fine-tuning phase, if it has epochs, goes on from there on images.

    Where `run_dir` holds the state of a run with the same config that was killed, that run goes on with its very next
    step, and comes to the weights that it would have come to.

    Args:
      config: what to train on and how.

    Returns:
      Where the run is and how good it is on the validation split.

    Raises:
      UsageError: the config does not fit together, or `run_dir` is taken.
      DatasetError: the dataset cannot be used.
      ConversionError: another process trains in `run_dir`.
    """
    started = time.monotonic()
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if config.precision == "bfloat16" else "float32")
    with contextlib.ExitStack() as until_done:
        until_done.callback(keras.config.set_dtype_policy, policy)
        return _train(config, started, until_done)


def _train(config: TrainConfig, started: float, until_done: contextlib.ExitStack) -> TrainResult:
    config = bottlenecks.resolve(config)
    backbone_name = config.model.backbone or backbones.default_backbone()
    backbones.get_backbone(backbone_name)
    task = task_lib.prepare(config, backbone_name)
    until_done.enter_context(task_lib.claim(task))
    config = task.config
    task_lib.say_choices(task)
    task_lib.say_shared(task)
    backbone, train_set, validation = embed(task, backbone_name)
    task_lib.say_memory(task, train_set.num_bytes + validation.num_bytes)
    targets = validation.targets
    positive_weights = _positive_weights(task, train_set)
    head = _build_head(task, train_set, positive_weights)
    saved = task.store.load()
    position = Position(**saved[0]) if saved else Position(phase="head")
    arrays = saved[1] if saved else None
    probabilities = np.zeros_like(targets)
    if position.phase == "head":
        probabilities = _train_head(task, head, train_set, validation, positive_weights, position, arrays)
        summaries.write_predictions(task, "head", targets, probabilities, position.epoch)
        position, arrays = Position(phase="finetune", best=position.best, rows=position.rows), None
    with task.strategy.scope():
        logits_model = models.join(backbone, head)
    if config.finetune_epochs:
        probabilities = _finetune(task, backbone, logits_model, targets, positive_weights, position, arrays)
        summaries.write_predictions(task, "finetune", targets, probabilities, position.epoch)
    return _finish(task, backbone_name, logits_model, position, probabilities, targets, time.monotonic() - started)


def embed(task: Task, backbone_name: str) -> tuple[keras.Model, bottlenecks.Embeddings, bottlenecks.Embeddings]:
    """The backbone, frozen, and what it makes of the training and of the validation split."""
    config = task.config
    keras.utils.set_random_seed(config.seed)
    with task.strategy.scope():
        weights = None if config.model.weights == "none" else config.model.weights
        size = (task.image_size, task.image_size)
        backbone = backbones.build_backbone(backbone_name, weights=weights, image_size=size)
        if config.model.features == "stages":
            backbone = stage_means.with_stages(backbone)
        models.set_trainable(backbone, 0)
    bottlenecks.check(config, backbone, task.builder)
    splits = task.train_split, task.validation_split
    train_set, validation = (bottlenecks.of_split(config, backbone, task.builder, split) for split in splits)
    return backbone, train_set, validation


def fit_head(task: Task, train_set: bottlenecks.Embeddings, validation: bottlenecks.Embeddings) -> np.ndarray:
    """The head phase alone, on embeddings: the very head that `train` comes to with the task's config.

    Returns:
      Its probabilities on the validation split, float32 (num_examples, num_labels).
    """
    weights = _positive_weights(task, train_set)
    head = _build_head(task, train_set, weights)
    return _train_head(task, head, train_set, validation, weights, Position(phase="head"), None)


def _positive_weights(task: Task, train_set: bottlenecks.Embeddings) -> np.ndarray | None:
    positives, negatives = ((train_set.targets == value).sum(axis=0) for value in (1, 0))
    return sampling.positive_weights(positives, negatives, task.config.data.positive_weights)


def _build_head(task: Task, train_set: bottlenecks.Embeddings, weights: np.ndarray | None) -> keras.Model:
    config = task.config.model
    keras.utils.set_random_seed(task.config.seed)  # again: the head does not depend on what the backbone drew
    with task.strategy.scope():
        return models.build_head(
            train_set.values.shape[1],
            len(task.names),
            hidden_units=config.hidden_units,
            num_members=config.ensemble_size,
            dropout=config.dropout,
            mean=train_set.values.mean(axis=0),
            variance=train_set.values.var(axis=0),
            groups=train_set.parts,
            prior=sampling.prior(train_set.targets, weights),
        )


def _train_head(
    task: Task,
    head: keras.Model,
    train_set: bottlenecks.Embeddings,
    validation: bottlenecks.Embeddings,
    weights: np.ndarray | None,
    position: Position,
    arrays: dict[str, list[np.ndarray]] | None,
) -> np.ndarray:
    """The head phase: returns the head's probabilities on the validation split."""
    config = task.config
    activate = keras.activations.sigmoid if task.multi_label else keras.activations.softmax

    def predict() -> np.ndarray:
        logits = keras.ops.convert_to_numpy(head(validation.values, training=False)).astype(np.float32)
        return keras.ops.convert_to_numpy(activate(logits.mean(axis=1)))

    def batches(start_step: int, input_context: tf.distribute.InputContext | None) -> tf.data.Dataset:
        return bottlenecks.training_batches(
            train_set,
            task.batch_size,
            config.seed,
            sample=config.data.sample,
            start_step=start_step,
            input_context=input_context,
        )

    _run_phase(task, head, {}, batches, predict, validation.targets, weights, position, arrays)
    return predict()


def _finetune(
    task: Task,
    backbone: keras.Model,
    logits_model: keras.Model,
    targets: np.ndarray,
    weights: np.ndarray | None,
    position: Position,
    arrays: dict[str, list[np.ndarray]] | None,
) -> np.ndarray:
    """The fine-tuning phase: returns the validation probabilities of the weights that were kept."""
    config = task.config
    blocks = {"all": None, "none": 0}.get(config.unfreeze, -1)
    with task.strategy.scope():
        models.set_trainable(backbone, int(config.unfreeze) if blocks == -1 else blocks)
        tagger = models.with_probabilities(logits_model, task.multi_label)
    measure = forward.compile_forward(tagger, freeze=False, dtype=tf.uint8)  # once: the weights are looked up each time

    def predict() -> np.ndarray:
        validation = input_pipeline.for_evaluation(task.builder, task.validation_split, task.shape)
        return forward.collect(forward.run_compiled(measure, validation, total=len(targets), description="validating"))[
            "output"
        ]

    def batches(start_step: int, input_context: tf.distribute.InputContext | None) -> tf.data.Dataset:
        return input_pipeline.for_training(
            task.builder,
            task.train_split,
            task.shape,
            augment=config.data.augment,
            sample=config.data.sample,
            seed=config.seed,
            start_step=start_step,
            input_context=input_context,
        )

    factors = models.rate_factors(backbone, config.layer_decay)
    _run_phase(task, logits_model, factors, batches, predict, targets, weights, position, arrays)
    return predict()


def _run_phase(
    task: Task,
    model: keras.Model,
    factors: dict[str, float],
    make_batches: Callable[..., tf.data.Dataset],
    predict: Callable[[], np.ndarray],
    targets: np.ndarray,
    weights: np.ndarray | None,
    position: Position,
    arrays: dict[str, list[np.ndarray]] | None,
) -> None:
    """Trains one phase and leaves the model with the weights of its best epoch."""
    config, phase = task.config, _phase(task, position.phase)
    rate = config.finetune_learning_rate if phase.name == "finetune" else config.learning_rate
    with task.strategy.scope():
        schedule = optimizers.Schedule(
            rate,
            total_steps=phase.epochs * phase.steps_per_epoch,
            warmup_steps=round(config.warmup_epochs * phase.steps_per_epoch),
            cosine=config.schedule == "cosine",
        )
        optimizer = optimizers.make_optimizer(
            config.optimizer, schedule, model.trainable_variables, weight_decay=config.weight_decay, factors=factors
        )
    loss = losses.TaggerLoss(
        task.multi_label, config.loss, label_smoothing=config.label_smoothing, positive_weights=weights
    )
    loop = Loop(
        model,
        loss,
        optimizer,
        task.strategy,
        clip_norm=config.clip_norm or None,
        ema_decay=config.ema_decay or None,
        jit_compile=config.jit_compile,
    )

    def validate() -> dict[str, float]:
        measured = metrics.compute_metrics(targets, predict(), task.names, multi_label=task.multi_label)
        values = {"val_loss": measured["log_loss"]}
        values |= {f"val_{key}": measured[key] for key in _LOGGED if key in measured}
        values[config.monitor] = distribution.from_chief(task.strategy, values[config.monitor])  # all stop together
        per_label = measured["per_label"].items()
        return values | {f"val_average_precision/{name}": m["average_precision"] for name, m in per_label}

    runner = PhaseRunner(
        phase, loop, position, task.store, validate=validate, on_epoch=lambda _: task.history.write(position.rows)
    )
    runner.run(make_batches, arrays)


def _phase(task: Task, name: str) -> Phase:
    config = task.config
    auto = config.schedule == "auto"
    return Phase(
        name=name,
        epochs=(config.finetune_epochs if name == "finetune" else config.epochs) or 0,
        steps_per_epoch=task.steps_per_epoch,
        monitor=config.monitor,
        patience=_AUTO_PATIENCE[name] if auto else config.patience,
        keep_last=config.keep == "last" and name == "head",
        plateau_patience=_AUTO_PLATEAU if auto else None,
        steps_at_once=_STEPS_AT_ONCE[name],
    )


def _finish(
    task: Task,
    backbone_name: str,
    logits_model: keras.Model,
    position: Position,
    probabilities: np.ndarray,
    targets: np.ndarray,
    seconds: float,
) -> TrainResult:
    """Writes everything that a run directory holds; model.keras, which marks it as finished, comes last."""
    config, rows = task.config, position.rows
    tuned = threshold_tuning.tune(targets, probabilities, tuned_on=task.validation_split)
    measured = metrics.compute_metrics(
        targets, probabilities, task.names, threshold=tuned.per_label, multi_label=task.multi_label
    )
    epochs = {phase: sum(row["phase"] == phase for row in rows) for phase in ("head", "finetune")}
    result = TrainResult(
        run_dir=config.run_dir, metrics=measured, epochs=epochs, seconds=seconds, measure_on=task.measure_on
    )
    if not distribution.is_chief(task.strategy):
        return result
    task.history.close()
    run_dir.write_text(config.run_dir, run_dir.LABELS_FILE, "".join(f"{name}\n" for name in task.names))
    run_dir.write_json(config.run_dir, run_dir.THRESHOLDS_FILE, tuned.to_json(task.names))
    run_dir.write_json(
        config.run_dir, run_dir.CONFIG_FILE, task_lib.describe(task, backbone_name, logits_model, seconds)
    )
    run_dir.update_metrics(config.run_dir, "validation", measured)
    plots.draw_history(rows, config.run_dir)
    run_dir.save_model(config.run_dir, models.with_probabilities(logits_model, task.multi_label))
    task.store.remove()
    return result


def summary(result: TrainResult) -> str:
    """How a run went, in plain words."""
    figures = ", ".join(f"{key} {result.metrics[key]:.4f}" for key in _LOGGED if key in result.metrics)
    epochs = ", ".join(f"{count} {phase}" for phase, count in result.epochs.items() if count)
    return (
        f"Trained in {result.seconds:.0f} s ({epochs} epochs): {result.run_dir}\n"
        f"  validation: {figures}\n"
        f"  plots: {result.run_dir}/{run_dir.PLOTS_DIR}/history.png; or tensorboard --logdir={result.run_dir}\n"
        f"  next: tfr evaluate {result.run_dir} --split={result.measure_on}\n"
        f"        tfr predict {result.run_dir} --image=FILE"
    )
