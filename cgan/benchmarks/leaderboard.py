"""The leaderboard in time: minutes of training until a run draws scenes right, with commit, machine and command."""

import re
from pathlib import Path
from typing import NamedTuple

from cgan.benchmarks.race_report import TextTable
from cgan.errors import UserError
from cgan.files import make_folder, write_text
from cgan.training.run_records import Row, Run, minutes_of, read_run, recorded_sessions, state

METRIC = "scene_accuracy"
THRESHOLDS = (0.5, 0.8, 0.9, 0.95)
NOT_REACHED, NOT_KNOWN = "not reached", "not known"
HEADER = ["run", *map(str, THRESHOLDS), "best", "joint encoder", "commit", "machine", "command", "date"]
KEY = (HEADER.index("run"), HEADER.index("date"))  # the columns by which a row is known again
INTRODUCTION = f"""# Leaderboard in time

Minutes of training, the joint encoder's included, at the first evaluation whose `{METRIC}` is at least that of the
column. Evaluations do not count.

"""
NOTE = (
    "Written by `cgan benchmark leaderboard`. A + behind a commit: with changes. Joint encoder: its minutes, or given, "
    "where it was trained before. Times of different machines can't be compared."
)


class Entry(NamedTuple):
    """A run of the leaderboard."""

    run: str
    minutes: dict[float, float | None]  # of training until each threshold was reached; None where it was not
    best: float  # the best value of METRIC
    joint: float | None  # minutes of the joint encoder; None where it was given, 0 without one
    commit: str
    machine: str
    command: str
    date: str

    def cells(self) -> list[str]:
        """Returns the cells of the entry's row, in the order of HEADER."""
        reached = [NOT_REACHED if minutes is None else f"{minutes:.1f}" for minutes in self.minutes.values()]
        joint = "given" if self.joint is None else f"{self.joint:.1f}"
        origin = [f"`{self.commit}`", self.machine, f"`{self.command}`", self.date]
        return [self.run, *reached, f"{self.best:.3f}", joint, *origin]


def entry_of(run_dir: Path) -> Entry:
    """Returns the entry of a run; raises UserError where it is no run, is under way, or was not evaluated on scenes."""
    run = read_run(run_dir)
    if state(run) == "under way":
        raise UserError(f"{run_dir}: is being trained; wait for its end")
    rows = [row for row in run.rows if METRIC in row and "training_minutes" in row]
    if not rows:
        raise UserError(f"{run_dir}: its metrics.csv has no {METRIC} with minutes; train on scenes with evaluations")
    joint = joint_minutes(run)
    minutes = {threshold: first_minutes(rows, threshold, joint or 0.0) for threshold in THRESHOLDS}
    sessions = recorded_sessions(run_dir)
    commits, machines, commands, dates = (
        list(dict.fromkeys(values)) or [NOT_KNOWN]
        for values in (
            [str(session.get("commit") or session["cgan"]) for session in sessions],
            [machine_of(session) for session in sessions],
            [str(session["command"]) for session in sessions],
            [str(session["started"])[:16].replace("T", " ") for session in sessions],
        )
    )
    best = max(row[METRIC] for row in rows)
    origin = ", ".join(commits), " and ".join(machines), commands[0], dates[0]
    return Entry(run.path.resolve().name, minutes, best, joint, *origin)


def first_minutes(rows: list[Row], threshold: float, before: float) -> float | None:
    """Returns the minutes of training, and those before, at the first evaluation that reached a threshold, or None."""
    return next((before + row["training_minutes"] for row in rows if row[METRIC] >= threshold), None)


def joint_minutes(run: Run) -> float | None:
    """Returns the minutes that a run trained its joint encoder, 0 without one; None where it was given."""
    if run.settings.get("joint", {}).get("checkpoint") is not None:
        return None
    noted = run.progress.get("joint", {}).get("minutes")
    if noted is not None:
        return float(noted)
    return minutes_of(run.joint_rows)[-1] if run.joint_rows else 0.0  # of a run of before they were noted


def machine_of(session: dict) -> str:
    """Returns the name of the machine of a session: its GPU, or its cores and processor."""
    return str(session.get("gpu") or f"{session['cores']} cores of {session['processor']}")


# ---------------------------------------------------------------------------------------------- the table


def leaderboard(run_dirs: list[Path], earlier: str = "") -> TextTable:
    """Returns the table of runs, those first that reached the most, and these the soonest.

    earlier: the content of a page, whose rows stay unless a run has the same name and date. Raises UserError.
    """
    rows = {key_of(row): row for row in rows_in(earlier)}
    for run_dir in run_dirs:
        cells = entry_of(run_dir).cells()
        rows[key_of(cells)] = [cell.replace("|", "/") for cell in cells]
    return TextTable(HEADER, sorted(rows.values(), key=order_of), NOTE)


def key_of(row: list[str]) -> tuple[str, ...]:
    """Returns the cells by which a row is known again."""
    return tuple(row[place] for place in KEY)


def order_of(row: list[str]) -> list[float]:
    """Returns the minutes of a row, the highest threshold first; infinite where it was not reached."""
    cells = reversed(row[1 : 1 + len(THRESHOLDS)])
    return [float(cell) if re.fullmatch(r"\d+(\.\d+)?", cell) else float("inf") for cell in cells]


def rows_in(page: str) -> list[list[str]]:
    """Returns the rows of the leaderboard's table on a page; lines of other tables are skipped."""
    lines = [line for line in page.splitlines() if line.startswith("| ") and line.endswith(" |")]
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
    return [row for row in rows if len(row) == len(HEADER) and row != HEADER and set(row) != {"---"}]


def update_page(page: Path, run_dirs: list[Path]) -> TextTable:
    """Writes runs into the table of a Markdown page, which is made where it is missing; returns the table.

    What stands above and below the table stays. Raises UserError for a run that can't be taken, and where the page
    can't be written.
    """
    content = page.read_text(encoding="utf-8") if page.is_file() else ""
    table = leaderboard(run_dirs, content)
    first = "| " + " | ".join(HEADER) + " |\n"
    above, found, rest = content.partition(first)
    below = re.sub(r"\A(\|.*\n)*\n?", "", rest).removeprefix(f"{NOTE}\n") if found else ""
    make_folder(page.absolute().parent)
    write_text(page, (above if found else content or INTRODUCTION) + table.markdown() + below)
    return table
