"""Runs a race: trains the runs that have no result yet, and writes the report."""

from pathlib import Path
from typing import NamedTuple

from cgan.benchmarks.race import (
    Race,
    Run,
    RunResult,
    WandbMode,
    finished,
    nearest,
    prepare_data,
    runs_of,
    train_all,
    with_precision,
)
from cgan.benchmarks.race_report import TextTable, write_report
from cgan.config import RunConfig
from cgan.files import check_writable
from cgan.interfaces import Report, UserError, silent


class RaceResult(NamedTuple):
    """The result of a race."""

    out: Path  # the folder with results.json, table.md, and curves.png where there are curves
    results: list[RunResult]  # of each run that went well
    failed: list[Run]
    table: TextTable | None  # None where no run went well


def run_race(
    race: Race, out: Path, jobs: int = 1, report: Report = silent, wandb: WandbMode = "disabled"
) -> RaceResult:
    """Trains the variants of a race, `jobs` at a time, and writes a report into `out`; an interrupted race is resumed.

    report is called with a line about each run. wandb is trainer.wandb of the runs: W&B gets them as a group with the
    name of `out`, each with its variant and seed as tags. Raises UserError for mistakes in the race; a run that fails
    does not raise, see check_result.
    """
    if jobs < 1:
        raise UserError(f"jobs={jobs}: must be at least 1")
    runs = runs_of(race, out, wandb)
    check_writable(out, "give another --out")
    runs = runs_of(with_precision(race, runs), out, wandb)
    if None in [finished(run) for run in runs]:
        prepare_data(runs, report)
    failed = train_all(runs, jobs, report)
    results = [result for run in runs if run not in failed and (result := finished(run)) is not None]
    return RaceResult(out, results, failed, write_report(race, results, jobs, out) if results else None)


def check_result(race: Race, result: RaceResult) -> None:
    """Raise UserError where a run failed, or where no run reports a measure that the race asks for."""
    if result.failed:
        names = ", ".join(run.folder.name for run in result.failed)
        total = len(result.failed) + len(result.results)
        raise UserError(f"{len(result.failed)} of {total} runs failed: {names}; see the .log files in {result.out}")
    known = sorted({name for each in result.results for name in each["measures"]})
    for measure in race.measures or []:
        if measure not in known:
            raise UserError(f"measures: no run reports '{measure}'. {nearest(measure, known)}")


def minutes_of(config: RunConfig) -> float | None:
    """Returns the most minutes that a training takes; None when no limit is set."""
    joint = 0.0 if config.task == "gan" and config.joint.checkpoint is not None else config.trainer.joint_minutes
    gan = config.trainer.minutes if config.task == "gan" else 0.0
    return None if joint is None or gan is None else joint + gan
