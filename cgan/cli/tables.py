"""Tables of benchmarks on the terminal, or in a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cgan.benchmarks.race_report import TextTable


def print_table(table: TextTable) -> None:
    """Print a table of a race, with differences below their means."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(show_lines=True)
    for name in table.header:
        shown.add_column(Text(name.replace("/", "/\n")))
    for row in table.rows:
        shown.add_row(*(Text(cell.replace(" (", "\n(") if i else cell) for i, cell in enumerate(row)))
    console = Console()
    if not console.is_terminal:  # in a file lines may be as long as they need to be
        console = Console(width=max(console.width, Console(width=1000).measure(shown).maximum))
    console.print(shown)
    console.print(Text(table.note))


def print_parts(parts: list) -> None:
    """Print lines and tables: with frames on a terminal, as wide Markdown in a file."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    for part in parts:
        if isinstance(part, Table) and console.is_terminal:
            part.box = box.ROUNDED
        console.print(part)
