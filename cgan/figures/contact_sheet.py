"""A contact sheet: square pictures in a grid, with rank and score under each, and a title above."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

THUMBNAIL, MARGIN, TITLE, LABEL = 160, 20, 60, 38  # pixels; a label stands under each thumbnail
MAX_PICTURES = 100
INK, FAINT, FRAME = "#222222", "#8a8a8a", "#d8d8d8"


def contact_sheet(pictures: list[np.ndarray | None], scores: np.ndarray, title: str) -> np.ndarray:
    """Returns the sheet of N pictures, each uint8 (THUMBNAIL, THUMBNAIL, 3), with scores (N,), as uint8 (H, W, 3).

    The place of a picture that is None stays blank.
    """
    columns = min(len(pictures), max(5, math.ceil(math.sqrt(1.6 * len(pictures)))))
    cell = THUMBNAIL + MARGIN, THUMBNAIL + LABEL
    width = MARGIN + cell[0] * max(columns, 3)  # room for a title, even with one picture
    sheet = Image.new("RGB", (width, TITLE + cell[1] * math.ceil(len(pictures) / columns) + MARGIN // 2), "white")
    font = ImageFont.load_default(size=22)
    line = shortened(title, font, width - 2 * MARGIN)
    ImageDraw.Draw(sheet).text((MARGIN, TITLE // 2), line, INK, font, anchor="lm")
    for i, picture in enumerate(pictures):
        corner = MARGIN + i % columns * cell[0], TITLE + i // columns * cell[1]
        add_picture(sheet, corner, picture, i + 1, float(scores[i]))
    return np.asarray(sheet)


def add_picture(
    sheet: Image.Image, corner: tuple[int, int], picture: np.ndarray | None, rank: int, score: float
) -> None:
    """Adds a thumbnail with a thin frame, so that a white picture shows on white, and the label below it."""
    left, top = corner
    if picture is not None:
        sheet.paste(Image.fromarray(picture), corner)
    draw, font, below = ImageDraw.Draw(sheet), ImageFont.load_default(size=15), top + THUMBNAIL + 6
    draw.rectangle((left - 1, top - 1, left + THUMBNAIL, top + THUMBNAIL), outline=FRAME)
    draw.text((left, below), str(rank), INK, font)
    draw.text((left + THUMBNAIL, below), f"{score:.3f}", FAINT, font, anchor="ra")


def shortened(title: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Returns a title that fits on one line of `width` pixels; an ellipsis marks a missing end."""
    title = " ".join(title.split())
    if font.getlength(title) <= width:
        return title
    while title and font.getlength(f"{title.rstrip()}...") > width:
        title = title[:-1]
    return f"{title.rstrip()}..."
