"""Line plots, and the curves of runs."""

import os
import subprocess
import sys

import matplotlib.colors
import numpy as np
import pytest
from PIL import Image

from cgan.errors import UserError
from cgan.figures.plots import COLOURS, DPI, HEIGHT, WIDTH, Line, Plot, figure_of, is_logarithmic, save_figure
from helpers import ROOT


def line(name: str, *y: float, spread: float = 0.0) -> Line:
    return Line(name, list(range(len(y))), list(y), [v - spread for v in y], [v + spread for v in y])


def plot(*lines: Line) -> Plot:
    return Plot("title", "images seen", list(lines))


def legends(figure) -> list[list[str]]:
    """The names in the legend of the figure and in those of its panels."""
    found = [*figure.legends, *(legend for panel in figure.axes if (legend := panel.get_legend()))]
    return [[text.get_text() for text in legend.get_texts()] for legend in found]


def is_drawn(picture: Image.Image, colour: str) -> bool:
    expected = 255 * np.array(matplotlib.colors.to_rgb(colour))
    return bool((abs(np.asarray(picture.convert("RGB")) - expected).max(axis=2) < 2).any())


def test_a_png_shows_each_line_in_its_colour_and_has_the_size_of_its_panels(tmp_path):
    save_figure(figure_of([plot(line("a", 0, 1), line("b", 1, 2))]), tmp_path / "one.png")
    picture = Image.open(tmp_path / "one.png")
    assert [is_drawn(picture, colour) for colour in COLOURS[:3]] == [True, True, False]
    assert picture.width == WIDTH * DPI and picture.height >= HEIGHT * DPI
    save_figure(figure_of([plot(line("a", 0, 1))] * 3), tmp_path / "three.png")
    assert Image.open(tmp_path / "three.png").size == (2 * WIDTH * DPI, 2 * HEIGHT * DPI)


def test_an_svg_holds_its_names_as_text_and_is_the_same_every_time(tmp_path):
    for name in ("one.svg", "two.svg"):
        save_figure(figure_of([plot(line("$x_1^2$ & _y", 0, 1), line("b", 1, 2))], "run"), tmp_path / name)
    text = (tmp_path / "one.svg").read_text()
    assert ">$x_1^2$ &amp; _y</text>" in text and ">images seen</text>" in text and ">run</text>" in text
    assert text == (tmp_path / "two.svg").read_text()


def test_a_name_has_one_look_in_all_panels_and_one_place_in_the_legend():
    figure = figure_of([plot(line("b", 0, 1)), plot(line("a", 0, 1), line("b", 1, 2))])
    assert legends(figure) == [["b", "a"]]
    assert [panel.lines[-1].get_color() for panel in figure.axes] == [COLOURS[0]] * 2


def test_panels_of_different_names_have_their_own_legends_and_a_single_line_needs_none():
    assert legends(figure_of([plot(line("a", 0, 1)), plot(line("b", 0, 1), line("c", 1, 2))])) == [["b", "c"]]
    assert legends(figure_of([plot(line("a", 0, 1))])) == []


def test_more_lines_than_colours_still_differ():
    (panel,) = figure_of([plot(*(line(str(i), i, i + 1) for i in range(20)))]).axes
    assert len({(drawn.get_color(), drawn.get_linestyle()) for drawn in panel.lines}) == 20


def test_a_band_stands_only_where_there_is_a_spread():
    (panel,) = figure_of([plot(line("a", 1, 2, spread=0.5), line("b", 1, 2))]).axes
    (band,) = panel.collections
    assert (band.get_datalim(panel.transData).y0, band.get_datalim(panel.transData).y1) == (0.5, 2.5)


@pytest.mark.parametrize(
    ("scale", "values", "expected"),
    [
        ("auto", [300.0, 8.0], True),
        ("auto", [0.2, 0.9], False),
        ("auto", [300.0, 0.0], False),
        ("linear", [300.0, 8.0], False),
        ("log", [0.2, 0.9], True),
        ("log", [-1.0, 10.0], False),
    ],
)
def test_an_axis_is_logarithmic_where_positive_values_span_decades(scale, values, expected):
    assert is_logarithmic(scale, values) == expected
    (panel,) = figure_of([plot(line("a", *values))], y_scale=scale).axes
    assert (panel.get_yscale() == "log") == expected and panel.get_xscale() == "linear"


def test_ticks_are_plain_numbers_and_thousands_short():
    (panel,) = figure_of([Plot("t", "x", [Line("a", [0, 120_000], [300.0, 8.0], [300.0, 8.0], [300.0, 8.0])])]).axes
    axes = panel.xaxis, panel.yaxis
    across, up = ({axis.get_major_formatter()(tick) for tick in axis.get_majorticklocs()} for axis in axes)
    assert "100 k" in across and {"10", "20", "50", "100", "200"} <= up


def test_another_ending_and_a_place_that_cannot_be_written_are_one_line(tmp_path):
    figure = figure_of([plot(line("a", 0, 1))])
    with pytest.raises(UserError, match=r"ends in \.png or \.svg"):
        save_figure(figure, tmp_path / "x.pdf")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="can't be written"):
        save_figure(figure, tmp_path / "file" / "x.png")
    assert os.listdir(tmp_path) == ["file"]


def test_the_settings_of_matplotlib_are_left_alone(tmp_path):
    before = dict(matplotlib.rcParams)
    save_figure(figure_of([plot(line("a", 0, 1))]), tmp_path / "x.svg")
    assert dict(matplotlib.rcParams) == before


def test_matplotlib_is_imported_by_plots_alone():
    code = "import sys, cgan, cgan.cli.plot, cgan.__main__; print('matplotlib' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.stdout == "False\n", ended.stderr
