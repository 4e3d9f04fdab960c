"""Line plots drawn with Pillow: for each name a line with a band around it."""

import math
from collections.abc import Sequence
from itertools import cycle
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")  # Okabe and Ito
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 380, 64, 180, 40, 50  # pixels; the legend stands on the right
SCALE = 2  # drawn so much larger first, then shrunk: smooth lines
INK, FAINT = "#222222", "#e4e4e4"
FONT, LARGE = (ImageFont.load_default(size=size * SCALE) for size in (13, 16))
FEW_POINTS = 20  # that are marked one by one


class Line(NamedTuple):
    """A curve y over x, between low and high; all of one length."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


class Frame(NamedTuple):
    """Where the axes stand on the page, by their ticks."""

    x: list[float]
    y: list[float]

    def place(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x[0]) / (self.x[-1] - self.x[0]) * (WIDTH - LEFT - RIGHT)
        up = (y - self.y[0]) / (self.y[-1] - self.y[0]) * (HEIGHT - TOP - BOTTOM)
        return (LEFT + across) * SCALE, (HEIGHT - BOTTOM - up) * SCALE


def line_plot(lines: list[Line], title: str, x_label: str) -> Image.Image:
    """Lines over common axes, with ticks at round numbers and a legend; RGB, WIDTH x HEIGHT."""
    page = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), "white")
    heights = [y for line in lines for y in (*line.low, *line.high)]
    frame, draw = Frame(ticks([x for line in lines for x in line.x]), ticks(heights)), ImageDraw.Draw(page)
    draw_axes(draw, frame)
    draw.text((LEFT * SCALE, TOP / 2 * SCALE), title, INK, LARGE, anchor="lm")
    draw.text(((LEFT + WIDTH - RIGHT) / 2 * SCALE, (HEIGHT - 8) * SCALE), x_label, INK, FONT, anchor="md")
    for line, colour in zip(lines, cycle(COLOURS), strict=False):
        mask, back = Image.new("L", page.size), zip(reversed(line.x), reversed(line.high), strict=True)
        outline = [frame.place(*point) for point in (*zip(line.x, line.low, strict=True), *back)]
        ImageDraw.Draw(mask).polygon(outline, fill=45)
        page.paste(colour, (0, 0), mask)
    for number, (line, colour) in enumerate(zip(lines, cycle(COLOURS), strict=False)):
        points = [frame.place(*point) for point in zip(line.x, line.y, strict=True)]
        draw.line(points, colour, 2 * SCALE, joint="curve")
        for point in points if len(points) <= FEW_POINTS else ():
            draw.circle(point, 3 * SCALE, colour)
        x, y = (WIDTH - RIGHT + 12) * SCALE, (TOP + 8 + 20 * number) * SCALE
        draw.line((x, y, x + 18 * SCALE, y), colour, 3 * SCALE)
        draw.text((x + 24 * SCALE, y), cut(line.name, (RIGHT - 40) * SCALE), INK, FONT, anchor="lm")
    return page.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def cut(name: str, width: int) -> str:
    """A name of so many pixels, with dots where its middle is missing."""
    kept = len(name)
    while kept > 2 and FONT.getlength(middle_cut(name, kept)) > width:
        kept -= 1
    return middle_cut(name, kept)


def middle_cut(name: str, kept: int) -> str:
    return name if kept >= len(name) else f"{name[: kept // 2]}...{name[len(name) - (kept + 1) // 2 :]}"


def sheet(plots: list[Image.Image], columns: int = 2) -> Image.Image:
    """Plots beside and below each other."""
    columns = min(columns, len(plots))
    page = Image.new("RGB", (WIDTH * columns, HEIGHT * -(-len(plots) // columns)), "white")
    for i, plot in enumerate(plots):
        page.paste(plot, (i % columns * WIDTH, i // columns * HEIGHT))
    return page


def draw_axes(draw: ImageDraw.ImageDraw, frame: Frame) -> None:
    for tick in frame.y:
        (left, y), (right, _) = frame.place(frame.x[0], tick), frame.place(frame.x[-1], tick)
        draw.line((left, y, right, y), INK if tick == frame.y[0] else FAINT, SCALE)
        draw.text((left - 6 * SCALE, y), short(tick), INK, FONT, anchor="rm")
    for tick in frame.x:
        x, y = frame.place(tick, frame.y[0])
        draw.line((x, y, x, y + 4 * SCALE), INK, SCALE)
        draw.text((x, y + 6 * SCALE), short(tick), INK, FONT, anchor="ma")


def ticks(values: list[float], wanted: int = 5) -> list[float]:
    """Round numbers at equal distances, from below the least value to above the greatest."""
    least, greatest = min(values), max(values)
    rough = (greatest - least or abs(greatest) or 1) / wanted
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
    first, last = math.floor(least / step), math.ceil(greatest / step)
    return [i * step for i in range(first, max(last, first + 1) + 1)]


def short(value: float) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:.6g}"
