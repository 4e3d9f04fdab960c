"""A strip: pictures side by side, each with a heading above and a few lines of text below, and a title over all."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from cgan.figures.fonts import label

SIDE, GAP, TITLE, HEADING, LINE = 128, 12, 34, 18, 15  # pixels: a picture, between cells, heights of lines
INK, FAINT, FRAME = "#222222", "#777777", "#d8d8d8"
LETTERS, MOST_LINES = 22, 4  # of the text below a picture


class Cell(NamedTuple):
    """A picture of a strip."""

    picture: np.ndarray  # uint8 (H, W, 3), square
    heading: str
    text: str


def strip(cells: Sequence[Cell], title: str) -> np.ndarray:
    """Returns a strip of at least one cell, uint8 (H, W, 3); texts are cut after MOST_LINES lines."""
    texts = [lines_of(cell.text) for cell in cells]
    height = TITLE + HEADING + SIDE + LINE * max(map(len, texts)) + 2 * GAP
    page = Image.new("RGB", (GAP + (SIDE + GAP) * len(cells), height), "white")
    draw = ImageDraw.Draw(page)
    text, font = label(textwrap.shorten(title, 14 * len(cells), placeholder=" ..."), 16)
    draw.text((GAP, TITLE // 2), text, INK, font, anchor="lm")
    for number, (cell, lines) in enumerate(zip(cells, texts, strict=True)):
        draw_cell(page, draw, (GAP + (SIDE + GAP) * number, TITLE), cell, lines)
    return np.asarray(page)


def lines_of(text: str) -> list[str]:
    """Returns the lines of a text that fit below a picture."""
    lines = [line for part in text.splitlines() for line in textwrap.wrap(part, LETTERS)]
    return lines if len(lines) <= MOST_LINES else [*lines[: MOST_LINES - 1], "..."]


def draw_cell(
    page: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], cell: Cell, lines: list[str]
) -> None:
    """Draws a cell with its upper left corner at `corner`; a thin frame shows a white picture on white."""
    left, top = corner
    heading, font = label(cell.heading, 11)
    draw.text((left, top), heading, FAINT, font)
    top += HEADING
    picture = Image.fromarray(cell.picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    page.paste(picture, (left, top))
    draw.rectangle((left - 1, top - 1, left + SIDE, top + SIDE), outline=FRAME)
    for number, line in enumerate(lines):
        text, font = label(line, 11)
        draw.text((left, top + SIDE + 6 + LINE * number), text, INK, font)
