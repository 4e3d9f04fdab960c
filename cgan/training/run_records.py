"""Reads settings, metrics and progress from a run directory, without importing torch."""

import csv
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import yaml

from cgan.errors import UserError
from cgan.metrics.names import current
from cgan.training.run_lock import is_under_way

RUNS = Path("runs")
SESSIONS = "sessions.json"  # the machines and commands that have worked on a run
WHOLE = "...\n"  # YAML's mark of a document's end, the last line of config.yaml
KEYS = {"name", "task", "seed", "data", "trainer"}  # some of those that each config.yaml has
Row = dict[str, float]  # of metrics.csv, by column, without the empty cells


class Run(NamedTuple):
    """The content of a run directory."""

    path: Path
    settings: dict  # config.yaml
    rows: list[Row]
    joint_rows: list[Row]  # of a joint encoder that was trained first
    progress: dict  # what of it is finished


def read_run(path: Path) -> Run:
    """Returns a run directory; raises UserError where it is none, or damaged."""
    rows, joint_rows = rows_of(path / "metrics.csv"), rows_of(path / "joint" / "metrics.csv")
    return Run(path, settings_in(path), rows, joint_rows, finished_stages(path))


def settings_in(run_dir: Path) -> dict:
    """Returns what config.yaml says; raises UserError where it is not there, not of a run, or not whole."""
    path = run_dir / "config.yaml"
    try:
        content = path.read_text(encoding="utf-8")
        settings = yaml.safe_load(content)
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{run_dir}: not a run directory, or damaged ({reason})") from error
    if not content.strip():
        raise UserError(f"{path}: empty; the settings of this run are lost")
    if not isinstance(settings, dict) or "task" not in settings or "trainer" not in settings:
        raise UserError(f"{run_dir}: not a run of cgan; its config.yaml has other keys")
    whole = content.endswith(WHOLE) or is_whole_unmarked(content, settings)
    if not whole or not isinstance(settings["trainer"], dict):
        raise UserError(f"{path}: not whole; the settings of this run are lost in part")
    return settings


def is_whole_unmarked(content: str, settings: dict) -> bool:
    """Returns whether a config.yaml without the mark of its end is whole: its last section has the key wandb."""
    return content.endswith("\n") and set(settings) >= KEYS and "wandb" in (settings["trainer"] or ())


def finished_stages(run_dir: Path) -> dict:
    """Returns the finished stages of a run: {"joint": {"images_seen": ...}, "gan": {"images": ..., "minutes": ...}}."""
    hint = "delete it, and the last stage of the run is done once more"
    return json_object(run_dir / "progress.json", hint) or {}


def recorded_data(run_dir: Path) -> dict | None:
    """Returns the record of a run's pictures, data.json; None if there is none."""
    return json_object(run_dir / "data.json", "delete it, and changes of the pictures are not noticed")


def recorded_sessions(run_dir: Path) -> list[dict]:
    """Returns the machine, the commit and the command of each start of a training in a run directory, oldest first."""
    found = json_object(run_dir / SESSIONS, "delete it, and where the run was trained is not known") or {}
    return [session for session in found.values() if isinstance(session, dict)]


def json_object(path: Path, hint: str) -> dict | None:
    """Returns the content of a JSON file, None where there is none; raises UserError where it is something else."""
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and all(isinstance(value, dict | str | int) for value in found.values()):
            return found
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: damaged ({error}); {hint}") from error
    raise UserError(f"{path}: damaged; {hint}")


def rows_of(file: Path) -> list[Row]:
    """Returns the rows of a metrics.csv, none if there is no such file; raises UserError if it is damaged."""
    if not file.is_file():
        return []
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            whole = (line for line in lines if line.endswith("\n"))  # the last one may be being written just now
            return [{current(k): float(v) for k, v in row.items() if k and v} for row in csv.DictReader(whole)]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise UserError(f"{file}: damaged ({error})") from error


def runs_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """Returns the run directories of a folder, those of races below it as well; and what else is a folder there."""
    if (folder / "config.yaml").is_file():
        return [folder], []
    found, others = [], []
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        inside = [file.parent for file in sorted(path.glob("*/config.yaml"))]
        own = [path] if (path / "config.yaml").is_file() else inside
        found += own
        others += [] if own else [path]
    return found, others


def started(run: Run) -> datetime:
    """Returns when a run was started, by the time in its name, or else by its oldest file."""
    named = re.search(r"-(\d{8}-\d{6})$", run.path.name)
    if named:
        try:
            return datetime.strptime(named[1], "%Y%m%d-%H%M%S")
        except ValueError:
            pass  # a number of another kind
    return datetime.fromtimestamp(min(facts.st_mtime for facts in files_in(run.path)))


def files_in(folder: Path) -> Iterator[os.stat_result]:
    """Yields the size and time of each file in a folder; files that a training renames meanwhile are skipped."""
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            facts = path.stat()
            if stat.S_ISREG(facts.st_mode):
                yield facts


def state(run: Run) -> str:
    """Returns whether a run is "under way", "finished" or "stopped"."""
    if is_under_way(run.path):
        return "under way"
    trainer = run.settings["trainer"]
    if run.settings["task"] == "joint":
        return "finished" if "joint" in run.progress else "stopped"
    budget = {"images": trainer.get("images"), "minutes": trainer.get("minutes")}
    return "finished" if run.progress.get("gan") == budget else "stopped"


def images_of(rows: list[Row]) -> int:
    """Returns the most images seen in any row; 0 where no row says."""
    return round(max((row["images_seen"] for row in rows if "images_seen" in row), default=0))


def minutes_of(rows: list[Row]) -> list[float]:
    """Returns the minutes of training at each row, the time of evaluations included and that of pauses left out.

    The first interval is taken to be as long as the second, as a run may go on from a checkpoint of another.
    """
    paced = [row for row in rows if row.get("images_per_second", 0) > 0 and "images_seen" in row]
    lengths = [b["images_seen"] - a["images_seen"] for a, b in zip(paced, paced[1:], strict=False)]
    first = min(lengths[0], paced[0]["images_seen"]) if lengths else images_of(paced)
    seconds, before, times = 0.0, None, []
    for row in rows:
        if row.get("images_per_second", 0) > 0 and "images_seen" in row:
            images = first if before is None else row["images_seen"] - before
            seconds, before = seconds + images / row["images_per_second"], row["images_seen"]
        seconds += row.get("evaluation_seconds", 0.0)
        times.append(seconds / 60)
    return times
