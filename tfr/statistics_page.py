"""Statistics of a dataset as a self-contained HTML page."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from tfr import charts, dataset_dir, html_page, record_layout, shards
from tfr.drift import Drift
from tfr.findings import Finding
from tfr.statistics import Sample, Statistics, mean, quantiles

_MAX_HEAT_LABELS = 28  # what fits on a page
_MAX_SAMPLED_LABELS = 60
_NUM_BINS = 18


def render(statistics: Statistics, drifts: Sequence[Drift], findings: Sequence[Finding]) -> str:
    """The page; sample images are read from the shards.

    Raises:
      DatasetError: a sample image cannot be read.
    """
    total = statistics.total
    by_count = sorted(range(len(statistics.label_names)), key=lambda i: (-total.label_counts[i], i))
    sampled = [i for i in by_count if total.samples.get(i)]
    rows = [_label_row(statistics, i) for i in by_count]
    return html_page.render(
        "statistics.html",
        title=f"{statistics.name} {statistics.version}",
        statistics=statistics,
        findings=findings,
        drifts=drifts,
        labels=rows,
        most_share=max((share for row in rows for share in row["shares"]), default=0) or 1,
        has_unknown=bool(total.unknown_counts),
        charts=_charts(statistics),
        formats=", ".join(f"{name} {count}" for name, count in total.formats.most_common()),
        heat=_heat(statistics, by_count[:_MAX_HEAT_LABELS]),
        samples=_samples(statistics, sampled[:_MAX_SAMPLED_LABELS]),
        samples_left_out=len(sampled[_MAX_SAMPLED_LABELS:]),
        mean=mean,
    )


def _label_row(statistics: Statistics, label: int) -> dict[str, Any]:
    splits = statistics.splits.values()
    return {
        "name": statistics.label_names[label],
        "counts": [split.label_counts[label] for split in splits],
        "shares": [split.share(label) for split in splits],
        "total": statistics.total.label_counts[label],
        "unknown": statistics.total.unknown_counts[label],
    }


def _charts(statistics: Statistics) -> list[Markup]:
    charts = [
        _histogram(statistics, "widths", "width in pixels", 1),
        _histogram(statistics, "heights", "height in pixels", 1),
        _histogram(statistics, "aspect_ratios", "width / height", 1),
        _histogram(statistics, "image_bytes", "size of the encoded image in KB", 1000),
    ]
    if statistics.is_multi_label:
        charts.insert(0, _histogram(statistics, "labels_per_image", "labels an image", 1))
    return charts


def _histogram(statistics: Statistics, field: str, axis: str, unit: float) -> Markup:
    """A chart of one counter of each split, over the same bins; the few values at either end share one."""
    counters = {name: getattr(split, field) for name, split in statistics.splits.items()}
    values = sorted({value for counter in counters.values() for value in counter})
    if not values:
        return charts.bar_chart([], {}, axis=axis)
    if len(values) <= _NUM_BINS:
        edges, labels = np.append(values, np.inf), [_label(value / unit) for value in values]
    else:
        low, high = quantiles(getattr(statistics.total, field), [0.005, 0.995])
        edges = np.linspace(low, max(high, low + unit / 100), _NUM_BINS + 1)
        labels = [_label(edge / unit) for edge in edges[:-1]]
        edges[0], edges[-1] = -np.inf, np.inf
    return charts.bar_chart(labels, {name: _shares(counter, edges) for name, counter in counters.items()}, axis=axis)


def _shares(counter: Mapping[Any, int], edges: np.ndarray) -> list[float]:
    counts = np.histogram(list(counter), edges, weights=list(counter.values()))[0]
    return [float(count) for count in counts / max(counts.sum(), 1)]


def _label(value: float) -> str:
    return f"{value:.0f}" if value >= 20 or value == int(value) else f"{value:.3g}"


def _heat(statistics: Statistics, chosen: Sequence[int]) -> dict[str, Any] | None:
    """Of the images with a label (row), the share with another (column)."""
    if not statistics.has_pairs or len(chosen) < 2:
        return None
    total = statistics.total
    shares = [
        [
            None if one == other else total.pairs[min(one, other), max(one, other)] / (total.label_counts[one] or 1)
            for other in chosen
        ]
        for one in chosen
    ]
    names = [statistics.label_names[i] for i in chosen]
    return {"map": charts.heat_map(names, shares), "num_labels": len(names)}


def _samples(statistics: Statistics, labels: Sequence[int]) -> list[dict[str, Any]]:
    layout = record_layout.layout_of(dataset_dir.open_builder(statistics.dataset_dir))
    thumbnails: dict[Sample, str] = {}
    for sample in (sample for label in labels for sample in statistics.total.samples[label]):
        if sample not in thumbnails:
            record = shards.read_at(sample.path, sample.offset, sample.length)
            thumbnails[sample] = html_page.thumbnail_uri(layout.parse(record).image)
    return [
        {
            "name": statistics.label_names[label],
            "uris": [uri for sample in statistics.total.samples[label] if (uri := thumbnails[sample])],
        }
        for label in labels
    ]
