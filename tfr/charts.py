"""Charts as SVG for self-contained pages: bars, lines, and tables of shares as heat maps.

Colours stand twice: as attributes, since not every program that prints pages applies a page's style inside an SVG, and
as classes, by which `page.html` gives them others in dark mode.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

COLORS = ("#2b6cb0", "#dd7a1f", "#3f8f5b", "#a3486f", "#6b5fb5", "#7a7a7a")  # told apart with any colour vision
_INK, _SOFT, _LINE = "#1d2733", "#66707c", "#dfe3e8"  # as in page.html
_WIDTH, _TOP, _BELOW, _RIGHT = 460, 8, 46, 18  # _RIGHT: half of the last label below the axis
_ROW = 13  # a line of text above the area
_MAX_NAME = 22  # characters of a name beside a heat map


class Line(NamedTuple):
    """A curve, or points.

    Attributes:
      name: for people.
      x, y: its points; where y is NaN there is a gap.
      bounds: (low, high) at each point, drawn as upright strokes.
      dots: whether to mark the points.
      dashed: whether it is a thing to compare with rather than something measured.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    bounds: Sequence[tuple[float, float]] = ()
    dots: bool = False
    dashed: bool = False


class _Plane(NamedTuple):
    """From values to places in a drawing; `left`, `right` and `top` bound the curves' area."""

    left: float
    right: float
    top: float
    height: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return self.left + (self.right - self.left) * (value - low) / (high - low or 1)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.top + self.height * (high - value) / (high - low or 1)


def line_chart(
    lines: Sequence[Line],
    *,
    x_axis: str,
    y_axis: str = "",
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    percent: bool = False,
    marks: Sequence[tuple[float, str]] = (),
    width: int = _WIDTH,
    height: int = 190,
) -> Markup:
    """An SVG of curves over one x axis, one colour each.

    Args:
      lines: the curves.
      x_axis, y_axis: what the axes are.
      x_range, y_range: least and largest value shown; None: as the curves need.
      percent: whether y (and x, where its range is 0 to 1) are shares, shown in percent.
      marks: upright dotted lines: where, and what is written at the top of each.
      width: of the drawing; the smaller, the larger its letters where it is drawn to a fixed width.
      height: of the curves' area, in pixels.
    """
    x_range = x_range or _range([line.x for line in lines])
    y_range = y_range or _range([line.y for line in lines])
    y_labels = [f"{value:.0%}" if percent else f"{value:.4g}" for value in _ticks(*y_range)]
    left = 12 + 6.5 * max(map(len, y_labels), default=1) + (16 if y_axis else 0)
    plane = _Plane(left, width - _RIGHT, _TOP + _ROW * len(marks), height, x_range, y_range)
    parts = [_grid_line(left, plane.right, plane.y(value), text)
             for value, text in zip(_ticks(*y_range), y_labels, strict=True)]  # fmt: skip
    parts += _x_ticks(plane, percent and x_range == (0, 1))
    for number, (value, text) in enumerate(marks):
        parts += _mark(plane, value, text, number)
    for number, line in enumerate(lines):
        parts += _curve(plane, line, number)
    parts.append(_text((left + plane.right) / 2, plane.top + height + 34, x_axis, "middle", fill=_INK, size=12))
    if y_axis:
        parts.append(_text(11, plane.top + height / 2, y_axis, "middle", fill=_INK, size=12, turn=-90))
    return _svg(width, plane.top + height + _BELOW, f"{y_axis or 'value'} by {x_axis}", parts)


def _range(columns: Sequence[Sequence[float]]) -> tuple[float, float]:
    values = [value for column in columns for value in column if math.isfinite(value)]
    return (min(values), max(values)) if values else (0.0, 1.0)


def _ticks(low: float, high: float) -> list[float]:
    from matplotlib.ticker import MaxNLocator  # not needed for pages without curves

    margin = (high - low) * 1e-6
    found = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(value) for value in found if low - margin <= value <= high + margin]


def _x_ticks(plane: _Plane, percent: bool) -> Iterator[Markup]:
    for value in _ticks(*plane.x_range):
        text = f"{value:.0%}" if percent else f"{value:.4g}"
        yield _text(plane.x(value), plane.top + plane.height + 15, text, "middle")


def _mark(plane: _Plane, value: float, text: str, number: int) -> Iterator[Markup]:
    x, y, is_left = plane.x(value), _TOP + _ROW * number, plane.x(value) < (plane.left + plane.right) / 2
    yield Markup('<path class="ls" d="M{} {}V{}" stroke="{}" stroke-dasharray="2 3" fill="none"/>').format(
        _short(x), y, plane.top + plane.height, _SOFT
    )
    yield _text(x + (4 if is_left else -4), y + 8, text, "start" if is_left else "end")


def _curve(plane: _Plane, line: Line, number: int) -> Iterator[Markup]:
    color, kind = COLORS[number % len(COLORS)], f"l{number % len(COLORS)}"
    path, pen = [], "M"
    for x, y in zip(line.x, line.y, strict=True):
        if math.isfinite(y):
            path.append(f"{pen}{_short(plane.x(x))} {_short(plane.y(y))}")
        pen = "L" if math.isfinite(y) else "M"
    dash = Markup(' stroke-dasharray="5 4"') if line.dashed else ""
    yield Markup(
        '<path class="{}" d="{}" stroke="{}" fill="none" stroke-width="1.8"{}><title>{}</title></path>'
    ).format(kind, "".join(path), color, dash, line.name)
    for x, (low, high) in zip(line.x, line.bounds, strict=False):
        yield Markup('<path class="{}" d="M{} {}V{}" stroke="{}" fill="none" stroke-width="1.3"/>').format(
            kind, _short(plane.x(x)), _short(plane.y(high)), _short(plane.y(low)), color
        )
    for x, y in zip(line.x, line.y, strict=True) if line.dots else ():
        yield Markup('<circle class="c{}" cx="{}" cy="{}" r="3" fill="{}"><title>{}: {}, {}</title></circle>').format(
            number % len(COLORS), _short(plane.x(x)), _short(plane.y(y)), color, line.name, f"{x:.3g}", f"{y:.3g}"
        )


def bar_chart(labels: Sequence[str], series: Mapping[str, Sequence[float]], *, axis: str, height: int = 170) -> Markup:
    """An SVG of grouped bars, one colour a series; values are shares from 0 to 1.

    Args:
      labels: what stands below each group.
      series: name to a value for each label.
      axis: what the labels are, e.g. 'width in pixels'.
      height: of the bars' area, in pixels.
    """
    left = 38
    most = max((value for values in series.values() for value in values), default=0.0) or 1.0
    group = (_WIDTH - left) / max(len(labels), 1)
    parts = [
        _grid_line(left, _WIDTH, _TOP + height * (1 - part), f"{most * part:.{most < 0.1:d}%}") for part in (0, 0.5, 1)
    ]
    for number, (name, values) in enumerate(series.items()):
        bar = group * 0.84 / len(series)
        for i, value in enumerate(values):
            size = height * value / most
            x, y = left + group * (i + 0.08) + bar * number, _TOP + height - size
            title = Markup("<title>{}: {}, {}</title>").format(name, labels[i], f"{value:.1%}")
            kind, color = number % len(COLORS), COLORS[number % len(COLORS)]
            parts.append(
                Markup('<rect class="c{}" x="{}" y="{}" width="{}" height="{}" fill="{}">{}</rect>').format(
                    kind, _short(x), _short(y), _short(max(bar - 0.6, 0.4)), _short(size), color, title
                )
            )
    letters = len(labels) * max(map(len, labels), default=1)
    every = -(-letters * 6 // (_WIDTH - left))  # labels that would touch are left out
    for i in range(0, len(labels), max(every, 1)):
        parts.append(_text(left + group * (i + 0.5), _TOP + height + 14, labels[i], "middle"))
    parts.append(_text((left + _WIDTH) / 2, _TOP + height + 34, axis, "middle", fill=_INK, size=12))
    return _svg(_WIDTH, _TOP + height + _BELOW, axis, parts)


def heat_map(
    names: Sequence[str], shares: Sequence[Sequence[float | None]], titles: Sequence[Sequence[str]] | None = None
) -> Markup:
    """An SVG of a square table of shares from 0 to 1, in percent, the darker the larger; None is left grey.

    Args:
      names: what the rows and the columns are.
      shares: a row for each name, with a value for each.
      titles: what a cell says when it is pointed at; default: both names and the share.
    """
    cell, margin = 27, 10 + 7 * min(max(map(len, names), default=0), _MAX_NAME)
    side = cell * len(names) - 1
    parts = [
        Markup('<rect class="faint" x="{}" y="{}" width="{}" height="{}" fill="{}"/>').format(
            margin, margin, side, side, "#f5f7f9"
        )
    ]
    for i, name in enumerate(names):
        short = name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…"
        at = margin + cell * (i + 0.5) + 4
        parts += [
            _text(margin - 6, at, short, "end", fill=_INK),
            _text(at, margin - 6, short, "start", fill=_INK, turn=-60),
        ]
        for k, share in enumerate(shares[i]):
            default = "" if share is None else f"{name}, also {names[k]}: {share:.1%}"
            title = titles[i][k] if titles else default
            parts += _cell(margin + cell * k, margin + cell * i, cell, share, title)
    width = margin + cell * len(names) + 80  # the last column's name leans over the edge
    return Markup('<svg viewBox="0 0 {} {}" width="{}" class="heat" role="img">{}</svg>').format(
        width, margin + cell * len(names), width, Markup("").join(parts)
    )


def _cell(x: float, y: float, side: float, share: float | None, title: str) -> Iterator[Markup]:
    fill, opacity, kind = (_LINE, 1.0, "none") if share is None else (COLORS[0], share, "c0")
    yield Markup(
        '<rect class="{}" x="{}" y="{}" width="{}" height="{}" fill="{}" fill-opacity="{}"><title>{}</title></rect>'
    ).format(kind, x, y, side - 1, side - 1, fill, f"{opacity:.2f}", title)
    if share is not None and share >= 0.005:
        ink = "#ffffff" if share > 0.55 else _INK
        yield _text(x + side / 2, y + side / 2 + 4, f"{100 * share:.0f}", "middle", fill=ink, size=10)


def _svg(width: float, height: float, label: str, parts: Sequence[Markup]) -> Markup:
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, height, label, Markup("").join(parts)
    )


def _grid_line(left: float, right: float, y: float, text: str) -> Markup:
    line = Markup('<path class="lg" d="M{} {}H{}" stroke="{}" fill="none"/>').format(left, _short(y), right, _LINE)
    return line + _text(left - 5, y + 4, text, "end")


def _text(x: float, y: float, text: str, anchor: str, *, fill: str = _SOFT, size: int = 11, turn: int = 0) -> Markup:
    place = Markup('x="{}" y="{}"').format(_short(x), _short(y))
    if turn:
        place = Markup('transform="translate({},{}) rotate({})"').format(_short(x), _short(y), turn)
    kind = {_SOFT: "ts", _INK: "ti"}.get(fill, "")
    return Markup('<text class="{}" {} text-anchor="{}" font-size="{}" fill="{}">{}</text>').format(
        kind, place, anchor, size, fill, text
    )


def _short(number: float) -> str:
    return f"{number:.1f}"
