"""Line plots by matplotlib, as PNG or SVG: a panel a quantity, a line for each run or variant with a band around it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter

from cgan.errors import UserError
from cgan.files import replacing

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")  # Okabe and Ito
MARKERS, DASHES = "osD^vPX*", ("-", "--", ":")  # beside the colours, for print in grey; dashes from the ninth line on
SUFFIXES = (".png", ".svg")
WIDTH, HEIGHT, DPI = 5.6, 3.5, 150  # of a panel, in inches
LEGEND_ROW, HANDLE_WIDTH, LETTER_WIDTH = 0.25, 0.6, 0.075  # inches, in the legend
FEW_POINTS = 20  # that are marked one by one
MANY_DECADES = 1.3  # between the least and the greatest value, from which on a logarithmic axis shows more
STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.labelcolor": "#333333",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "grid.color": "#e6e6e6",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "cgan",  # the same file for the same curves
    "text.parse_math": False,  # a name may hold a $
    "text.usetex": False,
    "xtick.color": "#666666",
    "ytick.color": "#666666",
    "xtick.labelcolor": "#333333",
    "ytick.labelcolor": "#333333",
}
Scale = Literal["auto", "linear", "log"]


class Line(NamedTuple):
    """A curve y over x with a band from low to high; all have the same length."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


class Plot(NamedTuple):
    """Lines over common axes."""

    title: str
    x_label: str
    lines: list[Line]


def figure_of(
    plots: list[Plot], title: str | None = None, x_scale: Scale = "linear", y_scale: Scale = "auto", columns: int = 2
) -> Figure:
    """Returns a figure with a panel for each plot; scale auto is logarithmic where positive values span decades.

    One legend below serves all panels where one of them has every name, or else each panel has its own.
    """
    columns = min(columns, len(plots))
    names = list(dict.fromkeys(line.name for plot in plots for line in plot.lines))
    shared = any(len(plot.lines) == len(names) for plot in plots)
    beside = names_in_a_row(names, columns * WIDTH)
    rows, legend_rows = -(-len(plots) // columns), -(-len(names) // beside) if shared and len(names) > 1 else 0
    with matplotlib.rc_context(STYLE):
        figure = Figure((columns * WIDTH, rows * HEIGHT + legend_rows * LEGEND_ROW), DPI)
        figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
        for number, plot in enumerate(plots, start=1):
            panel = figure.add_subplot(rows, columns, number)
            own = names if shared else [line.name for line in plot.lines]
            draw(panel, plot, own)
            set_scales(panel, plot.lines, x_scale, y_scale)
            if not shared and len(own) > 1:
                panel.legend(lines_named(own, [panel]), own)
        if legend_rows:
            lines = lines_named(names, figure.axes)
            figure.legend(lines, names, loc="outside lower center", ncols=beside)
        if title is not None:
            figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=12)
    return figure


def draw(panel: Axes, plot: Plot, names: list[str]) -> None:
    """Draws the lines of a plot; colour, dashes and marker of each depend on the position of its name in `names`."""
    for line in plot.lines:
        number = names.index(line.name)
        colour, style = COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]
        marker = MARKERS[number % len(MARKERS)] if len(line.x) <= FEW_POINTS else ""
        if list(line.low) != list(line.high):
            panel.fill_between(line.x, line.low, line.high, color=colour, alpha=0.18, linewidth=0)
        panel.plot(line.x, line.y, style, color=colour, marker=marker, markeredgewidth=0, gid=line.name)
    panel.set_title(plot.title)
    panel.set_xlabel(plot.x_label)


def lines_named(names: list[str], panels: list[Axes]) -> list[Line2D]:
    """Returns a drawn line of each name, whose look a legend shows."""
    by_name = {line.get_gid(): line for panel in reversed(panels) for line in panel.lines}
    return [by_name[name] for name in names]


def names_in_a_row(names: list[str], width: float) -> int:
    """Returns how many names fit side by side in a legend of `width` inches: all, or as many as of the longest name."""
    widths = [HANDLE_WIDTH + LETTER_WIDTH * len(name) for name in names]
    return len(names) if sum(widths) <= width else max(1, math.floor(width / max(widths)))


def set_scales(panel: Axes, lines: list[Line], x_scale: Scale, y_scale: Scale) -> None:
    """Sets linear or logarithmic scales of both axes, with short tick labels such as 20 k."""
    ends = [x for line in lines for x in line.x], [y for line in lines for y in (*line.y, *line.low)]
    for name, scale, values in zip("xy", (x_scale, y_scale), ends, strict=True):
        axis = getattr(panel, f"{name}axis")
        if is_logarithmic(scale, values):
            panel.set(**{f"{name}scale": "log"})
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_minor_formatter(NullFormatter())
        large = max(map(abs, values)) >= 10_000
        axis.set_major_formatter(EngFormatter(sep=" ") if large else FuncFormatter(lambda value, _: f"{value:g}"))


def is_logarithmic(scale: Scale, values: list[float]) -> bool:
    """Returns whether an axis is logarithmic; never if a value is not positive, as it could not be shown."""
    if scale == "linear" or min(values) <= 0:
        return False
    return scale == "log" or math.log10(max(values) / min(values)) >= MANY_DECADES


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG or an SVG, by the ending of path; raises UserError for another ending, or a place not to write in."""
    check_suffix(path)
    kind = path.suffix.lower().removeprefix(".")
    with matplotlib.rc_context(STYLE), replacing(path) as unfinished:
        figure.savefig(unfinished, format=kind, metadata={"Date": None} if kind == "svg" else None)


def check_suffix(path: Path) -> None:
    """Raise UserError for a name of another kind of file."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: plots are PNG or SVG; give a name that ends in {' or '.join(SUFFIXES)}")
