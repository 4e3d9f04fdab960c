"""cgan runs: lists the trainings in a folder, with their progress and their best metrics."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cgan.cli.parsing import Parser
from cgan.errors import UserError
from cgan.training.run_records import RUNS, read_run, runs_in
from cgan.training.run_summary import RunSummary, summarize

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("run", "started", "state", "images", "minutes", "best", "loss", "size")


def main(arguments: list[str]) -> None:
    """Prints a table of runs, newest first; raises UserError where there are none."""
    options = parser().parse_args(arguments)
    if not options.folder.is_dir():
        raise UserError(f"{options.folder}: no such folder; train a run with `cgan train`, or name another folder")
    paths, others = runs_in(options.folder)
    found = [summary for path in paths if (summary := summary_or_none(path)) is not None]
    for path in others:
        report(f"passed over: {path} (no config.yaml in it)")
    found.sort(key=lambda summary: summary["started"], reverse=True)
    if options.json:
        print(json.dumps(found, indent=2))
    elif found:
        print_table(found)
    else:
        raise UserError(f"{options.folder}: no runs in it; `cgan train` makes one")


def parser() -> argparse.ArgumentParser:
    """Returns the parser of `cgan runs`."""
    result = Parser(prog="cgan runs", description="List runs, newest first.")
    result.add_argument("folder", nargs="?", type=Path, default=RUNS, metavar="DIR", help="default: runs")
    result.add_argument("--json", action="store_true", help="everything that is known, instead of a table")
    return result


def report(line: str) -> None:
    """Prints a line on standard error."""
    print(line, file=sys.stderr)


def summary_or_none(path: Path) -> RunSummary | None:
    """Returns the summary of a run; None for a damaged one, which is named on standard error."""
    try:
        return summarize(read_run(path))
    except UserError as error:
        report(f"passed over: {error}")
        return None


def print_table(found: list[RunSummary]) -> None:
    """Prints the table; in a narrow terminal some columns are left out, rather than all of them torn."""
    from rich.console import Console

    columns, console = list(COLUMNS), Console()
    for dropped in (None, "loss", "size", "started"):
        columns = [name for name in columns if name != dropped]
        table = table_of(found, columns)
        width = Console(width=1000).measure(table).maximum
        if width <= console.width or not console.is_terminal:  # in a file lines may be as long as they need to be
            break
    console.print(table) if console.is_terminal else Console(width=max(console.width, width)).print(table)


def table_of(found: list[RunSummary], columns: list[str]) -> "Table":
    """Returns a rich Table of runs with some columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for name in columns:
        right = name in ("images", "minutes", "size")
        table.add_column(name, justify="right" if right else "left", overflow="fold" if name == "run" else "ellipsis")
    for summary in found:
        cells = cells_of(summary)
        table.add_row(*(Text(cells[name]) for name in columns))
    return table


def cells_of(summary: RunSummary) -> dict[str, str]:
    """Returns the text of each column."""
    best = [f"{name} {value:.3g}" for name, value in list(summary["best"].items())[:2]]
    losses = [f"{name} {value:.3g}" for name, value in summary["loss"].items()]
    return {
        "run": summary["name"],
        "started": summary["started"][:16].replace("T", " "),
        "state": summary["state"],
        "images": f"{summary['images_seen']:,}",
        "minutes": f"{summary['minutes']:.1f}" if summary["minutes"] else "",
        "best": "\n".join(best),
        "loss": "\n".join(losses),
        "size": size(summary["bytes"]),
    }


def size(num_bytes: float) -> str:
    """Formats a number of bytes in the largest unit that leaves a number before the point."""
    for unit in ("B", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} GB"
