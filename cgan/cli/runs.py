"""cgan runs: the trainings that a folder holds, with how far they are and what they reached."""

import argparse
import json
import sys
from pathlib import Path

from cgan.cli.parsing import Parser
from cgan.errors import UserError
from cgan.metrics.names import HIGHER, LOWER, PREFERRED, is_better
from cgan.training.run_records import RUNS, Row, Run, files_in, images_of, minutes_of, read_run, runs_in, started, state

ON_PAIRS = ("agreement", "image_to_text/recall@1", "text_to_image/recall@1")  # a joint encoder's, best first
PLAYERS = ("loss/generator", "loss/discriminator", "loss/contrastive")
COLUMNS = ("run", "started", "state", "images", "minutes", "best", "loss", "size")
RECENT = 10  # rows over which losses are averaged


def main(arguments: list[str]) -> None:
    """Print a table of runs, newest first; raises UserError where there are none."""
    options = parser().parse_args(arguments)
    if not options.folder.is_dir():
        raise UserError(f"{options.folder}: no such folder; train a run with `python train.py`, or name another folder")
    paths, others = runs_in(options.folder)
    found = [summary for path in paths if (summary := summary_or_word(path)) is not None]
    for path in others:
        say(f"passed over: {path} (no config.yaml in it)")
    found.sort(key=lambda summary: summary["started"], reverse=True)
    if options.json:
        print(json.dumps(found, indent=2))
    elif found:
        print_table(found)
    else:
        raise UserError(f"{options.folder}: no runs in it; `python train.py` makes one")


def parser() -> argparse.ArgumentParser:
    result = Parser(prog="cgan runs", description="List trainings, the newest first.")
    result.add_argument("folder", nargs="?", type=Path, default=RUNS, metavar="DIR", help="default: runs")
    result.add_argument("--json", action="store_true", help="all that is known, in place of a table")
    return result


def say(line: str) -> None:
    print(line, file=sys.stderr)


def summary_or_word(path: Path) -> dict | None:
    try:
        return summary_of(read_run(path))
    except UserError as error:
        say(f"passed over: {error}")
        return None


def summary_of(run: Run) -> dict:
    """All that the table shows, as plain numbers."""
    minutes = [*minutes_of(run.joint_rows)[-1:], *minutes_of(run.rows)[-1:]]
    best = best_row(run)
    return {
        "name": run.path.name,
        "path": str(run.path),
        "task": run.settings["task"],
        "state": state(run),
        "started": started(run).isoformat(timespec="seconds"),
        "images_seen": images_of(run.rows) or run.progress.get("joint", {}).get("images_seen", 0),
        "minutes": round(sum(minutes), 2),
        "best": {name: best[name] for name in ordered(best, run)},
        "best_at_images": round(best.get("images_seen", 0)) or None,
        "loss": {name.removeprefix("loss/"): value for name, value in recent_losses(run.rows).items()},
        "bytes": sum(facts.st_size for facts in files_in(run.path)),
    }


def best_row(run: Run) -> Row:
    """The measurement that best.ckpt is of, or a joint encoder's last one; empty where nothing was measured."""
    followed, best = followed_metric(run), {}
    for row in run.rows:
        if followed in row and (followed in ON_PAIRS or is_better(followed, row[followed], best.get(followed))):
            best = row
    return best


def followed_metric(run: Run) -> str | None:
    asked = run.settings["trainer"].get("best_metric")
    names = ([asked] if asked else []) + [*PREFERRED, *LOWER, *HIGHER, *ON_PAIRS]
    measured = {name for row in run.rows for name in row}
    stand_ins = [name for name in sorted(measured) if name.endswith("/frechet_distance")]
    return next((name for name in [*names, *stand_ins] if name in measured), None)


def ordered(row: Row, run: Run) -> list[str]:
    """The names of a measurement, the followed one first."""
    names = [followed_metric(run), *PREFERRED, *HIGHER, *LOWER, *ON_PAIRS]
    return [name for name in dict.fromkeys(names) if name in row]


def recent_losses(rows: list[Row]) -> Row:
    """The players' losses, averaged over the last rows that have them."""
    losses = {}
    for name in PLAYERS:
        values = [row[name] for row in rows if name in row][-RECENT:]
        if values:
            losses[name] = sum(values) / len(values)
    return losses


# ---------------------------------------------------------------------------------------------- table


def print_table(found: list[dict]) -> None:
    """In a narrow terminal some columns are left out, rather than all of them torn."""
    from rich.console import Console

    columns, console = list(COLUMNS), Console()
    for dropped in (None, "loss", "size", "started"):
        columns = [name for name in columns if name != dropped]
        table = table_of(found, columns)
        width = Console(width=1000).measure(table).maximum
        if width <= console.width or not console.is_terminal:  # in a file lines may be as long as they need to be
            break
    console.print(table) if console.is_terminal else Console(width=max(console.width, width)).print(table)


def table_of(found: list[dict], columns: list[str]):
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


def cells_of(summary: dict) -> dict[str, str]:
    """By column."""
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
    """In the largest unit that leaves a number before the point."""
    for unit in ("B", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} GB"
