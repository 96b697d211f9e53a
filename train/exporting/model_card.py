"""The model card of an export: what a person who is given the files should know, in plain words."""

from typing import Any

from .. import run_dir

_FIGURES = {
    "macro_map": "Average precision, mean over labels (macro mAP)",
    "micro_map": "Average precision over all decisions (micro mAP)",
    "macro_roc_auc": "ROC-AUC, mean over labels",
    "micro_f1": "F1 of all tags given (micro)",
    "macro_f1": "F1, mean over labels (macro)",
    "accuracy": "Share of images whose likeliest label is right",
}
_RESIZE = {
    "squash": "squashed to a square, whatever their aspect ratio",
    "crop": "cut to their central square",
    "pad": "fitted into a square with black borders",
}


def text(run: run_dir.Run, described: dict[str, Any], metrics: dict[str, dict[str, Any]]) -> str:
    """The card as Markdown.

    Args:
      run: what was exported.
      described: what export.json holds.
      metrics: split to metrics, as in metrics.json.
    """
    split = next((name for name in ("test", *metrics) if name in metrics), None)
    parts = [_head(run, described), _data(run), _files(described)]
    parts.append(_quality(metrics[split], split) if split else "## How good it is\n\nIt was not measured.")
    parts.append(_labels(described, metrics[split]["per_label"] if split else {}))
    return "\n\n".join(parts) + "\n"


def _head(run: run_dir.Run, described: dict[str, Any]) -> str:
    count = len(run.labels)
    kind = f"any number of {count} tags" if run.multi_label else f"exactly one of {count} labels"
    return (
        f"# {described['name']}\n\nGives an image {kind}. The network is {run.config['resolved']['backbone']} with a "
        f"small head. It sees {run.image_size} x {run.image_size} pixels: images are {_RESIZE[run.resize]}."
    )


def _data(run: run_dir.Run) -> str:
    resolved = run.config["resolved"]
    others = f"{resolved['num_validation']} others ({resolved['validation_split']})"
    decided = "when to stop, and " if run.epoch_was_chosen else ""
    return (
        "## What it was trained on\n\n"
        f"{resolved['num_train']} images of {resolved['dataset']} ({resolved['train_split']}). {others} decided "
        f"{decided}from which probability on a label is a tag. Of images unlike these the figures below say nothing."
    )


def _files(described: dict[str, Any]) -> str:
    rows = [
        f"| {name} | `{found['file']}` | {found['bytes'] / 1e6:.1f} MB |"
        for name, found in described["formats"].items()
    ]
    return "\n".join(["## Files", "", "| format | file | size |", "|---|---|---|", *rows])


def _quality(measured: dict[str, Any], split: str) -> str:
    lines = [
        f"## How good it is\n\nOn {measured['num_examples']} images of {split}:\n",
        "| | | 95 % interval |",
        "|---|---|---|",
    ]
    for key, title in _FIGURES.items():
        if measured.get(key) is not None:
            interval = measured.get("intervals", {}).get(key)
            shown = f"{interval['low']:.3f} to {interval['high']:.3f}" if interval else ""
            lines.append(f"| {title} | {measured[key]:.3f} | {shown} |")
    if measured.get("rare_labels"):
        lines.append(f"\nToo few examples to say much of: {', '.join(measured['rare_labels'])}.")
    if measured.get("undefined_labels"):
        lines.append(f"\nNothing could be measured of: {', '.join(measured['undefined_labels'])}.")
    return "\n".join(lines)


def _labels(described: dict[str, Any], measured: dict[str, dict[str, Any]]) -> str:
    thresholds = described["thresholds"]["per_label"]
    lines = ["## Labels", "", "| label | tag from | average precision | examples |", "|---|---|---|---|"]
    for name in described["labels"]:
        figures = measured.get(name, {})
        precision = figures.get("average_precision")
        shown = "" if precision is None else f"{precision:.3f}"
        limit = f"{thresholds[name]:.3f}" if described["label_mode"] == "multi" else "the likeliest"
        lines.append(f"| {_cell(name)} | {limit} | {shown} | {figures.get('support', '')} |")
    return "\n".join(lines)


def _cell(name: str) -> str:
    return name.replace("|", "\\|")
