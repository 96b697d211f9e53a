"""Statistics of a dataset as text and as JSON values."""

from collections.abc import Mapping, Sequence
from typing import Any

from tfr.drift import Drift
from tfr.findings import Finding
from tfr.statistics import SplitStatistics, Statistics, mean, quantiles

_QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)


def to_json(statistics: Statistics, drifts: Sequence[Drift], findings: Sequence[Finding]) -> dict[str, Any]:
    """Everything that was counted, labels by name."""
    return {
        "name": statistics.name,
        "version": statistics.version,
        "dataset_dir": statistics.dataset_dir,
        "labels": list(statistics.label_names),
        "label_mode": "multi" if statistics.is_multi_label else "single",
        "splits": {name: _split_json(statistics, split) for name, split in statistics.splits.items()},
        "rows_read": statistics.rows_read,
        "rejects_by_reason": statistics.rejects_by_reason,
        "drift": [{**drift._asdict(), "is_notable": drift.is_notable} for drift in drifts],
        "findings": [finding._asdict() for finding in findings],
    }


def _split_json(statistics: Statistics, split: SplitStatistics) -> dict[str, Any]:
    names = statistics.label_names
    return {
        "images": split.num_images,
        "image_bytes": split.total_bytes,
        "formats": dict(sorted(split.formats.items())),
        "labels_per_image": dict(sorted(split.labels_per_image.items())),
        "label_counts": {name: split.label_counts[i] for i, name in enumerate(names)},
        "label_unknown_counts": {name: split.unknown_counts[i] for i, name in enumerate(names)},
        "label_shares": {name: split.share(i) for i, name in enumerate(names)},
        "label_pairs": [[names[one], names[other], count] for (one, other), count in sorted(split.pairs.items())]
        if statistics.has_pairs
        else None,
        "widths": dict(sorted(split.widths.items())),
        "heights": dict(sorted(split.heights.items())),
        "aspect_ratios": dict(sorted(split.aspect_ratios.items())),
        "encoded_sizes": dict(sorted(split.image_bytes.items())),
    }


def to_text(statistics: Statistics, drifts: Sequence[Drift], findings: Sequence[Finding]) -> str:
    """The statistics in tables, and what is worth knowing in words."""
    parts = [
        [f"{statistics.name} {statistics.version}: {statistics.dataset_dir}"],
        _splits_table(statistics),
        _sizes_table(statistics.total),
        _labels_table(statistics),
        _pairs_table(statistics),
        _drift_table(drifts),
        [f"rejected rows: {rejects_line(statistics)}"] if statistics.rejects_by_reason else [],
        ["worth knowing:", *(f"  - {finding}" for finding in findings)]
        if findings
        else ["nothing to worry about found"],
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def rejects_line(statistics: Statistics) -> str:
    """Reasons with their numbers, e.g. 'no_image 100, truncated 2, of 3100 rows'."""
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(statistics.rejects_by_reason.items()))
    return f"{reasons}, of {statistics.rows_read} rows"


def _splits_table(statistics: Statistics) -> list[str]:
    lines = [f"{'split':<14}{'images':>10}{'MiB':>10}{'labels an image':>18}{'without labels':>16}"]
    for name, split in [*statistics.splits.items(), ("total", statistics.total)]:
        labels = f"{mean(split.labels_per_image):.2f}" if statistics.label_names else "-"
        without = str(split.labels_per_image[0]) if statistics.label_names else "-"
        mib = split.total_bytes / (1 << 20)
        lines.append(f"{name:<14}{split.num_images:>10}{mib:>10.1f}{labels:>18}{without:>16}")
    return lines


def _sizes_table(total: SplitStatistics) -> list[str]:
    formats = ", ".join(f"{name} {count}" for name, count in total.formats.most_common())
    lines = [f"{'images (' + formats + ')':<40}{'least':>9}{'5 %':>9}{'median':>9}{'95 %':>9}{'most':>9}"]
    rows: list[tuple[str, Mapping[Any, int], str]] = [
        ("width", total.widths, ".0f"),
        ("height", total.heights, ".0f"),
        ("width / height", total.aspect_ratios, ".2f"),
        ("bytes", total.image_bytes, ".0f"),
    ]
    for name, counter, format_ in rows:
        lines.append(f"  {name:<38}" + "".join(f"{value:>9{format_}}" for value in quantiles(counter, _QUANTILES)))
    return lines


def _labels_table(statistics: Statistics) -> list[str]:
    if not statistics.label_names:
        return []
    total, names = statistics.total, statistics.label_names
    width = max(12, *(len(name) for name in names)) + 2
    unknown = "unknown" if total.unknown_counts else ""
    columns = [*statistics.splits, "total"]
    lines = ["label".ljust(width) + "".join(f"{column:>18}" for column in columns) + f"{unknown:>10}"]
    for i in sorted(range(len(names)), key=lambda i: (-total.label_counts[i], i)):
        cells = [f"{s.label_counts[i]} ({s.share(i):.1%})" for s in (*statistics.splits.values(), total)]
        known = f"{total.unknown_counts[i]:>10}" if unknown else ""
        lines.append(names[i].ljust(width) + "".join(f"{cell:>18}" for cell in cells) + known)
    return [line.rstrip() for line in lines]


def _pairs_table(statistics: Statistics) -> list[str]:
    if not statistics.has_pairs:
        return []
    names, total = statistics.label_names, statistics.total
    lines = ["labels most often together:"]
    for (one, other), count in sorted(total.pairs.items(), key=lambda item: (-item[1], item[0]))[:10]:
        of = count / total.label_counts[one], count / total.label_counts[other]
        lines.append(f"  {count:>8}  {names[one]} and {names[other]}: {of[0]:.0%} and {of[1]:.0%} of theirs")
    return lines if len(lines) > 1 else []


def _drift_table(drifts: Sequence[Drift]) -> list[str]:
    if not drifts:
        return []
    lines = [
        f"{'difference to ' + repr(drifts[0].reference):<36}{'L-infinity':>12}{'Jensen-Shannon':>16}{'by chance':>11}"
    ]
    for drift in drifts:
        farthest = "-" if drift.l_infinity is None else f"{drift.l_infinity:.3f}"
        mark = "  *" if drift.is_notable else ""
        name = f"{drift.split}: {drift.what}"
        lines.append(f"  {name:<34}{farthest:>12}{drift.divergence:>16.3f}{drift.by_chance:>11.3f}{mark}")
    return lines
