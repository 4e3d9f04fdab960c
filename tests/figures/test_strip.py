"""Strips of pictures with text."""

import numpy as np
import pytest

from cgan.figures.strip import LETTERS, MOST_LINES, Cell, lines_of, strip


@pytest.mark.parametrize("num", [1, 3, 7])
def test_a_strip_shows_every_picture_and_nothing_runs_over_the_edge(num):
    colours = [(20 + 30 * i, 200 - 20 * i, 90) for i in range(num)]
    cells = [Cell(np.full((64, 64, 3), colour, dtype=np.uint8), "drawn", "a long text " * 20) for colour in colours]
    page = strip(cells, "a very long title " * 30)
    for colour in colours:
        assert (page == colour).all(axis=2).sum() > 0.95 * 128**2
    assert (page[:, :4] == 255).all() and (page[:, -4:] == 255).all() and (page[-4:] == 255).all()


def test_lines_are_cut_after_the_last_that_fits():
    assert lines_of("one\ntwo") == ["one", "two"] and lines_of("") == []
    lines = lines_of("word " * 100)
    assert len(lines) == MOST_LINES and lines[-1] == "..." and max(map(len, lines)) <= LETTERS


def test_texts_in_other_scripts_are_drawn_and_not_refused():
    picture = np.zeros((8, 8, 3), np.uint8)
    chinese = strip([Cell(picture, "生成", "一只狗 \U0001f415")], "狗")
    assert chinese.shape == strip([Cell(picture, "a", "b")], "c").shape
