"""Self-contained HTML pages: one file, no network, no scripts; for the screen and for paper.

A page is a Jinja template in `tfr/templates` that extends `page.html`. Every value is escaped unless it is Markup.
"""

import base64
import functools
import io
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup
from PIL import Image

COLORS = ("#2b6cb0", "#dd7a1f", "#3f8f5b", "#a3486f", "#6b5fb5", "#7a7a7a")  # told apart with any colour vision
_INK, _SOFT = "#1d2733", "#66707c"  # as in page.html
_THUMBNAIL_SIDE = 132  # pixels


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tfr"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value: f"{value:,.0f}".replace(",", "\u202f")
    environment.filters["percent"] = lambda value: f"{value:.1%}"
    environment.globals["colors"] = COLORS
    return environment


def render(template: str, **values: Any) -> str:
    """The page that a template makes of values."""
    return _environment().get_template(template).render(**values)


def thumbnail_uri(data: bytes) -> str:
    """A small JPEG of an encoded image as a data URI; '' where it cannot be decoded."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.draft("RGB", (2 * _THUMBNAIL_SIDE, 2 * _THUMBNAIL_SIDE))
            small = image.convert("RGB")
    except Exception:  # whatever Pillow raises on broken images; a page without it is better than none
        return ""
    small.thumbnail((2 * _THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return data_uri(buffer.getvalue(), "image/jpeg")


def data_uri(data: bytes, media_type: str) -> str:
    """Bytes as a URI that needs no file."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def bar_chart(labels: Sequence[str], series: Mapping[str, Sequence[float]], *, axis: str, height: int = 170) -> Markup:
    """An SVG of grouped bars, one colour a series; values are shares from 0 to 1.

    Args:
      labels: what stands below each group.
      series: name to a value for each label.
      axis: what the labels are, e.g. 'width in pixels'.
      height: of the bars' area, in pixels.
    """
    width, left, top, below = 460, 38, 6, 46
    most = max((value for values in series.values() for value in values), default=0.0) or 1.0
    group = (width - left) / max(len(labels), 1)
    parts = [_grid_line(left, width, top + height * (1 - part), most * part) for part in (0, 0.5, 1)]
    for color, (name, values) in zip(COLORS * len(series), series.items(), strict=False):
        number = list(series).index(name)
        bar = group * 0.84 / len(series)
        for i, value in enumerate(values):
            size = height * value / most
            x, y = left + group * (i + 0.08) + bar * number, top + height - size
            title = Markup("<title>{}: {}, {}</title>").format(name, labels[i], f"{value:.1%}")
            parts.append(
                Markup('<rect x="{}" y="{}" width="{}" height="{}" fill="{}">{}</rect>').format(
                    _short(x), _short(y), _short(max(bar - 0.6, 0.4)), _short(size), color, title
                )
            )
    every = -(
        -len(labels) * max(map(len, labels), default=1) * 6 // (width - left)
    )  # labels that would touch are left out
    for i in range(0, len(labels), max(every, 1)):
        parts.append(_text(left + group * (i + 0.5), top + height + 14, labels[i], "middle"))
    parts.append(_text((left + width) / 2, top + height + 34, axis, "middle", fill=_INK, size=12))
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, top + height + below, axis, Markup("").join(parts)
    )


def _grid_line(left: float, width: float, y: float, value: float) -> Markup:
    line = Markup('<line x1="{}" x2="{}" y1="{}" y2="{}" stroke="#dfe3e8"/>').format(left, width, _short(y), _short(y))
    return line + _text(left - 5, y + 4, f"{value:.0%}", "end")


def _text(x: float, y: float, text: str, anchor: str, *, fill: str = _SOFT, size: int = 11, turn: int = 0) -> Markup:
    """A text; its looks are attributes, since not every program that prints pages applies styles inside an SVG."""
    place = Markup('x="{}" y="{}"').format(_short(x), _short(y))
    if turn:
        place = Markup('transform="translate({},{}) rotate({})"').format(_short(x), _short(y), turn)
    return Markup('<text {} text-anchor="{}" font-size="{}" fill="{}">{}</text>').format(
        place, anchor, size, fill, text
    )


def _short(number: float) -> str:
    return f"{number:.1f}"


def heat_map(names: Sequence[str], shares: Sequence[Sequence[float | None]]) -> Markup:
    """An SVG of a square table of shares from 0 to 1, in percent, the darker the larger; None is left grey.

    Args:
      names: what the rows and the columns are.
      shares: a row for each name, with a value for each.
    """
    cell, margin = 27, 10 + 7 * min(max(map(len, names), default=0), 22)
    parts = []
    for i, name in enumerate(names):
        short = name if len(name) <= 22 else name[:21] + "…"
        at = margin + cell * (i + 0.5) + 4
        parts += [
            _text(margin - 6, at, short, "end", fill=_INK),
            _text(at, margin - 6, short, "start", fill=_INK, turn=-60),
        ]
        for k, share in enumerate(shares[i]):
            x, y = margin + cell * k, margin + cell * i
            fill, opacity = ("#eceff2", 1.0) if share is None else (COLORS[0], share)
            title = "" if share is None else f"{name}, also {names[k]}: {share:.1%}"
            parts.append(
                Markup(
                    '<rect x="{}" y="{}" width="{}" height="{}" fill="{}" fill-opacity="{}"><title>{}</title></rect>'
                ).format(x, y, cell - 1, cell - 1, fill, f"{opacity:.2f}", title)
            )
            if share is not None and share >= 0.005:
                ink = "#ffffff" if share > 0.55 else _INK
                parts.append(_text(x + cell / 2, y + cell / 2 + 4, f"{100 * share:.0f}", "middle", fill=ink, size=10))
    width = margin + cell * len(names) + 80  # the last column's name leans over the edge
    return Markup('<svg viewBox="0 0 {} {}" width="{}" class="heat" role="img">{}</svg>').format(
        width, margin + cell * len(names), width, Markup("").join(parts)
    )
