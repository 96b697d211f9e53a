import numpy as np
import pytest
from PIL import Image, ImageFont

from tfr import contact_sheet


@pytest.mark.parametrize(
    ("num_images", "columns", "grid"),
    [(1, None, (2, 1)), (4, None, (3, 2)), (16, None, (5, 4)), (5, 5, (5, 1)), (3, 1, (1, 3))],
)
def test_the_grid_holds_all_images(num_images, columns, grid):
    sheet = contact_sheet.draw([(Image.new("RGB", (50, 40), "red"), "label")] * num_images, columns)
    assert (sheet.width // 208, sheet.height // 254) == grid
    red = (np.asarray(sheet) == (255, 0, 0)).all(axis=-1).sum()
    assert red == num_images * 50 * 40


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "I;16"])
def test_any_mode_and_size_fits(mode):
    sheet = contact_sheet.draw([(Image.new(mode, (3000, 10)), "wide"), (Image.new(mode, (1, 900)), "high")])
    assert sheet.mode == "RGB"


@pytest.mark.parametrize(
    "caption",
    ["", "cat", "many " * 60, "x" * 500, "one " + "x" * 500 + " two", "Ünïcode 猫 🐈", ", ".join(map(str, range(100)))],
)
def test_captions_fit_their_cell(caption):
    font = ImageFont.load_default(13)
    lines = contact_sheet._wrap(caption, font, 200).split("\n")
    assert len(lines) <= 3
    assert max(map(font.getlength, lines)) <= 200
    if font.getlength(caption) <= 200:
        assert lines == [caption]
    elif caption.startswith("many"):
        assert lines[-1].endswith(("...", "…"))
    contact_sheet.draw([(Image.new("RGB", (9, 9)), caption)])
