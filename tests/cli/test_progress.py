"""The progress bar of commands."""

import io
import re

import pytest
import rich.console

from cgan.cli import progress
from cgan.cli.progress import progress_bar


@pytest.fixture
def terminal(monkeypatch) -> io.StringIO:
    """What is written to standard error, taken for a terminal of 100 columns."""
    written = io.StringIO()
    console = rich.console.Console(file=written, force_terminal=True, width=100)
    monkeypatch.setattr(progress, "Console", lambda stderr: console)
    return written


def text(written: io.StringIO) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.getvalue())


def test_a_bar_shows_title_count_and_unit_and_is_gone_at_the_end(terminal):
    with progress_bar("checking", "shards", 4) as bar:
        assert not terminal.getvalue()  # nothing is under way yet
        bar.advance(3)
        bar.bars.refresh()
        assert re.search(r"checking .* 3/4 .*shards/s", text(terminal))
        bar.advance(1)
        assert not bar.bars.live.is_started
    assert terminal.getvalue().endswith("\x1b[2K")  # the line is erased


def test_a_bar_hears_of_done_and_total_and_can_begin_again(terminal):
    with progress_bar("encoding", "pictures") as bar:
        for total in (2, 5):
            for done in range(total + 1):
                bar(done, total)
                bar.bars.refresh()
                assert bar.bars.live.is_started == (done < total)
            assert f"{total - 1}/{total}" in text(terminal)


def test_an_error_leaves_no_bar_behind(terminal):
    with pytest.raises(KeyboardInterrupt), progress_bar("preparing", "pictures", 9) as bar:
        bar.advance(1)
        raise KeyboardInterrupt
    assert not bar.bars.live.is_started


def test_where_there_is_no_terminal_nothing_is_written(capfd):
    with progress_bar("encoding", "pictures", 9) as bar:
        bar.advance(4)
        bar(5, 9)
    assert capfd.readouterr() == ("", "")
