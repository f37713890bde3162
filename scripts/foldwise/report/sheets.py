"""Sheets of many small images with words, made without a plotting library, whose axes would take many seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from foldwise.artifacts import atomic
from foldwise.report.tables import printable
from foldwise.report.thumbnails import SIDE

GAP, LINE, MARGIN = 16, 19, 24  # pixels
LETTERS, TITLE = 14, 18
BELOW = 2  # lines of a label
BLACK, GREY = (20, 20, 20), (100, 100, 100)
NARROWEST = 520
FONT = "DejaVuSans.ttf"


class Cell(NamedTuple):
    """An image with words above and below."""

    image: Image.Image
    above: str
    below: str


class Sheet(NamedTuple):
    """Cells below a title, or words where there are none; as wide as high if the number of columns is not given."""

    title: str
    cells: Sequence[Cell]
    empty: str
    columns: int | None = None


def draw_sheet(path: Path, sheet: Sheet) -> None:
    """Write a sheet as PNG, the same bytes at any time of day."""
    count = max(1, len(sheet.cells))
    columns = min(sheet.columns or math.ceil(math.sqrt(1.3 * count)), count)
    rows = math.ceil(count / columns)
    wide, high = SIDE + GAP, SIDE + LINE * (1 + BELOW) + GAP
    width = max(NARROWEST, 2 * MARGIN + columns * wide - GAP)
    height = 2 * MARGIN + 2 * LINE + max(rows * high - GAP, 2 * LINE)
    canvas = Image.new("RGB", (width, height), "white")
    draw, heading = ImageDraw.Draw(canvas), load_font(TITLE)
    title = shorten_to(printable(sheet.title), heading, width - 2 * MARGIN)
    draw.text((width / 2, MARGIN), title, BLACK, heading, "mt")
    top, left = MARGIN + 2 * LINE, (width - columns * wide + GAP) // 2
    if not sheet.cells:
        draw.text((width / 2, top + LINE), printable(sheet.empty), GREY, load_font(LETTERS), "mm")
    for number, cell in enumerate(sheet.cells):
        row, column = divmod(number, columns)
        draw_cell(canvas, draw, cell, left + column * wide, top + row * high)
    with atomic(path) as temporary:
        canvas.save(temporary, format="PNG", compress_level=2)


def draw_cell(canvas: Image.Image, draw: ImageDraw.ImageDraw, cell: Cell, left: int, top: int) -> None:
    """Draw an image in the middle of its cell, a frame around it, and the words."""
    font, middle = load_font(LETTERS), left + SIDE // 2
    draw.text((middle, top), shorten_to(printable(cell.above), font, SIDE + GAP - 4), BLACK, font, "mt")
    place = left + (SIDE - cell.image.width) // 2, top + LINE + (SIDE - cell.image.height) // 2
    canvas.paste(cell.image, place)
    right, bottom = place[0] + cell.image.width, place[1] + cell.image.height
    draw.rectangle((place[0] - 1, place[1] - 1, right, bottom), outline=(200, 200, 200))
    for number, line in enumerate(wrap(printable(cell.below), font, SIDE + GAP - 4)):
        draw.text((middle, top + SIDE + LINE * (number + 1) + 5), line, GREY, font, "mt")


def wrap(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Break a text into lines that are not too wide; the last one is cut."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and font.getlength(longer) > width and len(lines) < BELOW:
            lines.append(word)
        else:
            lines[-1] = longer
    return [shorten_to(line, font, width) for line in lines]


def shorten_to(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Leave out the middle of a text that is too wide."""
    kept = len(text)
    cut = text
    while kept > 1 and font.getlength(cut) > width:
        kept -= 1
        cut = f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"
    return cut


def load_font(size: int) -> ImageFont.FreeTypeFont:
    """Load the font of all pictures."""
    from matplotlib import get_data_path

    return ImageFont.truetype(Path(get_data_path(), "fonts", "ttf", FONT), size)
