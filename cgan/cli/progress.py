"""The progress bar of commands. Library functions take it as a callback, and print nothing themselves."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class Pace(ProgressColumn):
    """Displays the pace, such as 120 pictures/s."""

    def render(self, task: Task) -> Text:
        """Returns the pace of a task, in its units per second."""
        return Text(f"{task.speed or 0:.0f} {task.fields['unit']}/s")


class Bar:
    """A progress bar: a call bar(done, total) sets it, `advance` adds to it; it is visible until all is done."""

    def __init__(self, bars: Progress, title: str, unit: str, total: int | None) -> None:
        self.bars, self.task = bars, bars.add_task(title, total=total, unit=unit)

    def __call__(self, done: int, total: int) -> None:
        self.bars.update(self.task, completed=done, total=total)
        self.show(done < total)

    def advance(self, number: int) -> None:
        """Adds to what is done."""
        self.bars.advance(self.task, number)
        self.show(not self.bars.finished)

    def show(self, unfinished: bool) -> None:
        """Starts or stops the bar."""
        if unfinished:
            self.bars.start()
        else:
            self.bars.stop()


@contextmanager
def progress_bar(title: str, unit: str, total: int | None = None) -> Iterator[Bar]:
    """Yields a Bar on standard error, which displays done of total, units per second and the time left.

    Where standard error is no terminal, nothing is written.
    """
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Pace(), TimeRemainingColumn()
    bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    try:
        yield Bar(bars, title, unit, total)
    finally:
        bars.stop()
