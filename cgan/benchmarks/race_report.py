"""The results of a race: a table of means and paired differences, results.json, and curves."""

from dataclasses import asdict
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from cgan.benchmarks.race import Race, RunResult, environment
from cgan.benchmarks.significance import Difference, Spread, paired_difference, spread
from cgan.figures.plots import Line, Plot, figure_of, save_figure
from cgan.files import write_json, write_text
from cgan.machine import processor
from cgan.training.curves import titled
from cgan.workers import num_cores


class Cell(NamedTuple):
    """One measure of one variant; no difference for the baseline itself, or where no seed is common with it."""

    spread: Spread
    difference: Difference | None

    def __str__(self) -> str:
        mean, deviation = self.spread
        text = number(mean) if deviation is None else f"{number(mean)} ± {number(deviation)}"
        if self.difference is None:
            return text
        sign = "+" if self.difference.mean >= 0 else "-"
        return f"{text} ({sign}{number(abs(self.difference.mean))}{'*' if self.difference.beyond_noise else ''})"


AXES = {"images_seen": "images seen", "minutes": "minutes of training"}  # of curves, with their labels
Summary = dict[str, dict[str, Cell]]  # by variant and measure


def number(value: float) -> str:
    """Formats a number with three decimals below 10 and one above."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def measures_of(race: Race, results: list[RunResult]) -> list[str]:
    """Returns the columns: those that the race names and a run reports, or else all that every run reports."""
    if race.measures is not None:
        return [name for name in race.measures if any(name in result["measures"] for result in results)]
    everywhere = set.intersection(*(set(result["measures"]) for result in results))
    return [name for name in results[0]["measures"] if name in everywhere and not name.startswith("ceiling/")]


def summary(race: Race, results: list[RunResult], measures: list[str]) -> Summary:
    """Returns means over the seeds, and differences over the seeds that a variant and the baseline share."""
    cells = {}
    for variant in race.variants:
        cells[variant] = {}
        for measure in measures:
            mine, base = (by_seed(results, name, measure) for name in (variant, race.baseline))
            common = [seed for seed in mine if seed in base]
            compared = variant != race.baseline and common
            difference = paired_difference([mine[s] for s in common], [base[s] for s in common]) if compared else None
            if mine:
                cells[variant][measure] = Cell(spread(list(mine.values())), difference)
    return cells


def by_seed(results: list[RunResult], variant: str | None, measure: str) -> dict[int, float]:
    """Returns the values of a measure that the runs of a variant reached, by their seeds."""
    mine = [result for result in results if result["variant"] == variant and measure in result["measures"]]
    return {result["seed"]: result["measures"][measure] for result in mine}


# ---------------------------------------------------------------------------------------------- table


def rows_of(cells: Summary, results: list[RunResult], measures: list[str]) -> list[list[str]]:
    """Returns a row for each variant: its name, its metrics and its mean images seen; '' for a missing value."""
    rows = []
    for variant, row in cells.items():
        seen = [r["images_seen"] for r in results if r["variant"] == variant and "images_seen" in r]
        row = [str(row.get(measure, "")) for measure in measures]
        rows.append([variant, *row, f"{round(sum(seen) / len(seen)):,}" if seen else ""])
    return rows


def footnote(race: Race, results: list[RunResult], cells: Summary) -> str:
    """Returns a note that explains the numbers of the table."""
    seeds = ", ".join(str(seed) for seed in race.seeds if any(result["seed"] == seed for result in results))
    if "," not in seeds:
        return f"Of seed {seeds} alone: nothing is known about noise. In brackets: difference to {race.baseline}."
    compared = sum(cell.difference is not None for row in cells.values() for cell in row.values())
    return (
        f"Mean ± sample standard deviation over seeds {seeds}. In brackets: difference to {race.baseline} over the "
        "same seeds (same pictures, same order), * where its 95 % confidence interval (paired t) leaves out 0. Of "
        f"{compared} such differences, chance alone would mark about {compared / 20:.1f}."
    )


class TextTable(NamedTuple):
    """Cells as text, and a sentence below them."""

    header: list[str]
    rows: list[list[str]]
    note: str

    def markdown(self) -> str:
        """Returns the table as Markdown; a | in a cell becomes a /."""
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        lines = [" | ".join(cell.replace("|", "/") for cell in line) for line in lines]
        return "".join(f"| {line} |\n" for line in lines) + f"\n{self.note}\n"


# ---------------------------------------------------------------------------------------------- files


def write_report(race: Race, results: list[RunResult], jobs: int, out: Path) -> TextTable:
    """Write results.json, table.md and, where there are curves, curves.png; returns the table."""
    measures = measures_of(race, results)
    cells, header = summary(race, results, measures), ["variant", *measures, "images seen"]
    table = TextTable(header, rows_of(cells, results, measures), footnote(race, results, cells))
    write_json(out / "results.json", as_json(race, results, cells, jobs))
    write_text(out / "table.md", table.markdown())
    if any(len(result.get("curve", [])) > 0 for result in results):
        save_figure(curves(race, results, measures), out / "curves.png")
    return table


def as_json(race: Race, results: list[RunResult], cells: Summary, jobs: int) -> dict:
    """Returns the content of results.json."""
    return {
        "protocol": {"race": asdict(race), **circumstances(jobs)},
        "runs": results,
        "summary": {
            variant: {measure: cell_as_json(cell) for measure, cell in row.items()} for variant, row in cells.items()
        },
    }


def cell_as_json(cell: Cell) -> dict:
    """Returns mean, deviation and difference of a cell by their names."""
    if cell.difference is None:
        return cell.spread._asdict()
    difference = cell.difference._asdict() | {"beyond_noise": cell.difference.beyond_noise}
    return cell.spread._asdict() | {"difference": difference}


def circumstances(jobs: int) -> dict:
    """Returns versions and hardware, on which timings and metrics may depend."""
    import torch

    from cgan.version import __version__

    return {
        "cgan": __version__,
        "torch": torch.__version__,
        "processor": processor(),
        "cores": num_cores(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "jobs": jobs,
        "threads_of_a_run": int(environment(jobs)["OMP_NUM_THREADS"]),
        "date": datetime.now().isoformat(timespec="minutes"),
    }


def curves(race: Race, results: list[RunResult], measures: list[str]) -> Figure:
    """Returns plots of each metric over images seen and, if they are known, over minutes of training."""
    plots = []
    for measure, axis in product(measures, axes_of(results)):
        found = [line for variant in race.variants if (line := curve(variant, results, measure, axis)) is not None]
        plots += [Plot(titled(measure), AXES[axis], found)] if found else []
    return figure_of(plots)


def axes_of(results: list[RunResult]) -> list[str]:
    """Returns the axes over which curves can be drawn."""
    points = [point for result in results for point in result.get("curve", [])]
    return [axis for axis in AXES if all(axis in point for point in points)]


def curve(variant: str, results: list[RunResult], measure: str, axis: str = "images_seen") -> Line | None:
    """Returns the mean over seeds and its range, as far as every seed went; between measures they are interpolated."""
    seeds = []
    for result in results:
        points = [point for point in result.get("curve", []) if result["variant"] == variant and measure in point]
        if points:
            seeds.append(([point[axis] for point in points], [point[measure] for point in points]))
    if not seeds:
        return None
    first, last = max(x[0] for x, _ in seeds), min(x[-1] for x, _ in seeds)
    x = sorted({float(value) for xs, _ in seeds for value in xs if first <= value <= last} | {float(last)})
    y = np.stack([np.interp(x, *one) for one in seeds])
    return Line(variant, x, y.mean(0).tolist(), y.min(0).tolist(), y.max(0).tolist())
