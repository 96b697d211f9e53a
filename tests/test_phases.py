"""Which epoch's weights a phase keeps, and when it ends; on real steps, with what validation says given."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfr.train import checkpoints, losses, optimizers, phases
from tfr.train.loop import Loop


def run_phase(tmp_path, val_losses, **settings):
    """Runs a phase whose validations say this; returns what is left, and the weights after each epoch."""
    rng = np.random.default_rng(0)
    data = tf.data.Dataset.from_tensors(
        (rng.normal(size=(4, 3)).astype(np.float32), np.eye(4, 2, dtype=np.float32))
    ).repeat()
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    optimizer = optimizers.make_optimizer(
        "adamw", optimizers.Schedule(0.1, total_steps=100), model.trainable_variables, weight_decay=0.0
    )
    loop = Loop(model, losses.TaggerLoss(True), optimizer, tf.distribute.get_strategy())
    position = phases.Position(phase="head")
    seen = []

    def validate():
        seen.append(model.get_weights())
        return {"val_loss": val_losses[len(seen) - 1]}

    phase = phases.Phase(
        name="head", epochs=len(val_losses), steps_per_epoch=2, monitor="val_loss", **{"patience": 2, **settings}
    )
    store = checkpoints.Store(str(tmp_path), {}, every_secs=1e9, enabled=False)
    runner = phases.PhaseRunner(phase, loop, position, store, validate=validate, on_epoch=lambda _: None)
    runner.run(lambda *_: data, None)
    return model.get_weights(), seen, position


@pytest.mark.parametrize(
    ("settings", "num_epochs", "kept"),
    [({}, 4, 1), ({"patience": 9}, 5, 1), ({"keep_last": True}, 5, 4)],
    ids=["best", "best, in no hurry", "last"],
)
def test_the_weights_of_one_epoch_are_kept(tmp_path, settings, num_epochs, kept):
    weights, seen, position = run_phase(tmp_path, [0.5, 0.3, 0.4, 0.6, 0.5], **settings)
    assert len(seen) == position.epoch == num_epochs
    same = [all(np.array_equal(a, b) for a, b in zip(weights, one, strict=True)) for one in seen]
    assert same == [number == kept for number in range(num_epochs)]
    assert position.best == [0.5, 0.3, 0.4, 0.6, 0.5][kept]
