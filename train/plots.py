"""Training plots as PNG files."""

import os
from collections.abc import Sequence
from typing import Any


def draw_history(rows: Sequence[dict[str, Any]], folder: str) -> None:
    """Draws loss and validation metrics by epoch to `<folder>/history.png`.

    Args:
      rows: phases.Position.rows, phases one after the other.
      folder: made if it is not there.
    """
    from matplotlib.figure import Figure  # not pyplot: no display, no global state

    os.makedirs(folder, exist_ok=True)
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = range(1, len(rows) + 1)
    for key, label in (("loss", "training"), ("val_loss", "validation")):
        left.plot(epochs, [row.get(key) for row in rows], label=label)
    for key, label in (("val_macro_map", "macro mAP"), ("val_micro_map", "micro mAP"), ("val_accuracy", "accuracy")):
        if any(key in row for row in rows):
            right.plot(epochs, [row.get(key) for row in rows], label=label)
    boundary = sum(row["phase"] == "head" for row in rows)
    for axes, title in ((left, "Loss"), (right, "Validation")):
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        if 0 < boundary < len(rows):
            axes.axvline(boundary + 0.5, color="gray", linestyle=":", label="fine-tuning starts")
        axes.legend()
    figure.savefig(os.path.join(folder, "history.png"), dpi=110)
