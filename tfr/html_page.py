"""Self-contained HTML pages: one file, no network; for the screen, light or dark, and for paper.

A page is a Jinja template in the `templates` folder of its package that extends `page.html` of `tfr/templates`. Every
value is escaped unless it is Markup.
"""

import base64
import functools
import io
from typing import Any

import jinja2
from markupsafe import Markup, escape
from PIL import Image

from tfr import charts

_THUMBNAIL_HEIGHT = 132  # pixels


@functools.cache
def _environment(package: str) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(name) for name in dict.fromkeys((package, "tfr"))]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value: f"{value:,.0f}".replace(",", "\u202f")
    environment.filters["code"] = _with_code
    environment.filters["percent"] = lambda value: f"{value:.1%}"
    environment.globals["num_colors"] = len(charts.COLORS)
    return environment


def render(template: str, *, package: str = "tfr", **values: Any) -> str:
    """The page that a template of a package makes of values."""
    return _environment(package).get_template(template).render(**values)


def _with_code(text: str) -> Markup:
    """A text in which what stands between backquotes is a command or a name."""
    parts = enumerate(text.split("`"))
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else escape(part) for i, part in parts)


def thumbnail_uri(data: bytes, height: int = _THUMBNAIL_HEIGHT) -> str:
    """A small JPEG of an encoded image as a data URI, so many pixels high; '' where it cannot be decoded."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.draft("RGB", (2 * height, 2 * height))
            small = image.convert("RGB")
    except Exception:  # whatever Pillow raises on broken images; a page without it is better than none
        return ""
    return picture_uri(small, height)


def picture_uri(picture: Image.Image, height: int) -> str:
    """An RGB picture as a data URI of a JPEG, at most so many pixels high and twice as wide."""
    small = picture.copy()
    small.thumbnail((2 * height, height))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return data_uri(buffer.getvalue(), "image/jpeg")


def data_uri(data: bytes, media_type: str) -> str:
    """Bytes as a URI that needs no file."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"
