"""Training plots, as PNG for looking at and as SVG for papers."""

import io
import os
from collections.abc import Sequence
from typing import Any

from . import run_dir

HISTORY_PLOT = "history"
_FORMATS = ("png", "svg")
_PANELS = {
    "Loss": {"loss": "training", "val_loss": "validation"},
    "Validation": {"val_macro_map": "macro mAP", "val_micro_map": "micro mAP", "val_accuracy": "accuracy"},
    "Learning rate": {"learning_rate": "at the end of the epoch"},
}


def draw_history(rows: Sequence[dict[str, Any]], path: str) -> None:
    """Draws loss, validation metrics and learning rate by epoch to `plots/history.png` and `.svg` of a run directory.

    Args:
      rows: phases.Position.rows, phases one after the other.
      path: the run directory.
    """
    import matplotlib
    from matplotlib.figure import Figure  # not pyplot: no display, no global state

    os.makedirs(os.path.join(path, run_dir.PLOTS_DIR), exist_ok=True)
    figure = Figure(figsize=(13, 4), layout="constrained")
    for axes, (title, series) in zip(figure.subplots(1, len(_PANELS)), _PANELS.items(), strict=True):
        _draw_panel(axes, title, series, rows)
    for format_ in _FORMATS:
        buffer = io.BytesIO()
        with matplotlib.rc_context({"svg.hashsalt": HISTORY_PLOT}):  # the same bytes of the same history
            figure.savefig(buffer, format=format_, dpi=110, metadata={"Date": None} if format_ == "svg" else None)
        run_dir.write_bytes(path, os.path.join(run_dir.PLOTS_DIR, f"{HISTORY_PLOT}.{format_}"), buffer.getvalue())


def _draw_panel(axes: Any, title: str, series: dict[str, str], rows: Sequence[dict[str, Any]]) -> None:
    epochs, boundary = range(1, len(rows) + 1), sum(row["phase"] == "head" for row in rows)
    for key, label in series.items():
        if any(key in row for row in rows):
            axes.plot(epochs, [row.get(key) for row in rows], label=label, marker="." if len(rows) < 20 else None)
    if title == "Learning rate" and (highest := max(row["learning_rate"] for row in rows)):
        axes.set_yscale("symlog", linthresh=highest / 1000)  # fine-tuning's is far lower, and a cosine ends at 0
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    if 0 < boundary < len(rows):
        axes.axvline(boundary + 0.5, color="gray", linestyle=":", label="fine-tuning starts")
    axes.legend()
