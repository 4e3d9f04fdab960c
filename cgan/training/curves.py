"""Curves of runs: the metrics and losses that metrics.csv files hold, as plots over images seen or minutes."""

import difflib
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.figure import Figure

from cgan.errors import UserError
from cgan.figures.plots import Line, Plot, Scale, figure_of
from cgan.metrics.names import HIGHER, LOWER
from cgan.training.run_records import minutes_of, rows_of

QUALITY = {  # by the title of a plot, what stands in it together when a single run is shown
    "scene_accuracy": ("scene_accuracy", "scene_accuracy_heldout"),
    "fid": ("fid",),
    "r_precision": ("r_precision", "clip/r_precision", "joint/r_precision"),
    "clip_score": ("clip_score",),
    "frechet_distance": ("frechet_distance", "judge/frechet_distance", "joint/frechet_distance"),
}
LOSSES = {
    "losses of generator and discriminator": ("loss/generator", "loss/discriminator"),
    "losses of the joint encoder": ("loss/contrastive", "loss/picture", "loss/caption"),
    "other losses of the generator": ("loss/reconstruction", "loss/matching"),
}
UNITS = {"images_per_second": "images/s", "evaluation_seconds": "s", "data_wait": "share of the time"}
Against = Literal["images", "minutes"]
X_LABELS: dict[Against, str] = {"images": "images seen", "minutes": "minutes of training"}
MOST_OF_EACH = 2  # plots of quality, and of losses, that nobody asked for by name
MOST_RUNS = 8  # colours
NOISY = ("loss/", "gradient_norm/", "images_per_second", "data_wait")  # of single steps: neighbours are averaged,
MOST_POINTS, NEIGHBOURS = 40, 5  # a smoothed curve has at most 40 points, each a mean of at least 5


class Curves:
    """The rows of a run's metrics.csv; `points` returns the values of a metric and where they were measured."""

    def __init__(self, folder: Path, against: Against) -> None:
        self.folder, self.rows = folder, rows_of(folder / "metrics.csv")
        if not self.rows:
            raise UserError(f"{folder}: no metrics.csv with rows; give a run directory, such as `cgan runs` lists")
        self.x = minutes_of(self.rows) if against == "minutes" else [row.get("images_seen") for row in self.rows]

    def numbers(self) -> Counter:
        """Returns how many values there are of each metric."""
        return Counter(name for row, x in zip(self.rows, self.x, strict=True) if x is not None
                       for name, value in row.items() if is_finite(value))  # fmt: skip

    def points(self, metric: str) -> tuple[list[float], list[float]]:
        """Returns the images or minutes at which a metric was evaluated, and its values there."""
        pairs = zip(self.x, self.rows, strict=True)
        found = [(x, row[metric]) for x, row in pairs if x is not None and is_finite(row.get(metric))]
        return [x for x, _ in found], [y for _, y in found]


def is_finite(value: float | None) -> bool:
    """Returns whether there is a value, neither infinite nor NaN."""
    return value is not None and abs(value) < float("inf")  # so NaN is not


def curves_of(
    folders: list[Path],
    metrics: list[str] | None = None,
    against: Against = "images",
    x_scale: Scale = "linear",
    y_scale: Scale = "auto",
) -> Figure:
    """Returns a figure of the curves of runs, a panel a metric; without metrics, quality and losses that were measured.

    Raises UserError for a folder that is no run, and for a metric that was not measured at least twice.
    """
    if len(folders) > MOST_RUNS:
        raise UserError(f"{len(folders)} runs: a plot shows {MOST_RUNS} at most; choose fewer")
    runs = named([Curves(folder, against) for folder in folders])
    numbers = sum((curves.numbers() for curves in runs.values()), Counter())
    known = [name for name, number in numbers.items() if number > 1]  # one in each of two runs can be compared
    panels = asked(metrics, known) if metrics else chosen(known, together=len(runs) == 1)
    plots = [Plot(titled(title), X_LABELS[against], lines_of(runs, title, some)) for title, some in panels.items()]
    return figure_of(plots, next(iter(runs)) if len(runs) == 1 else None, x_scale, y_scale)


def named(runs: list[Curves]) -> dict[str, Curves]:
    """Returns runs by the names of their folders, or by their paths where two have the same name."""
    names = [curves.folder.resolve().name for curves in runs]
    if len(set(names)) < len(names):
        names = [str(curves.folder) for curves in runs]
    return dict(zip(names, runs, strict=True))


# ---------------------------------------------------------------------------------------------- which plots


def asked(wanted: list[str], metrics: list[str]) -> dict[str, tuple[str, ...]]:
    """Returns a plot for each metric; raises UserError for one that is not there."""
    for name in wanted:
        if name not in metrics:
            near = difflib.get_close_matches(name, metrics, n=1, cutoff=0.3)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UserError(f"{name}: no curve of that name; {hint}there is: {', '.join(sorted(metrics))}")
    return {name: (name,) for name in wanted}


def chosen(metrics: list[str], together: bool) -> dict[str, tuple[str, ...]]:
    """Returns plots of the known metrics: quality first, then losses; together puts related ones in one plot."""
    plots = {}
    for groups in (QUALITY, LOSSES):
        present = {title: tuple(n for n in names if n in metrics) for title, names in groups.items()}
        present = [(title, names) for title, names in present.items() if names][:MOST_OF_EACH]
        if together:
            plots |= dict(present)
        else:
            several = [name for _, names in present for name in (names if groups is LOSSES else names[:1])]
            plots |= {name: (name,) for name in several[:MOST_OF_EACH]}
    if not plots:
        raise UserError("nothing has been measured twice yet, so there is no curve to draw")
    return plots


def titled(title: str) -> str:
    """Returns the title of a plot with its unit, or with the direction that is better."""
    leaf = title.rpartition("/")[2]
    if title in UNITS:
        return f"{title} ({UNITS[title]})"
    better = "higher" if leaf in HIGHER else "lower" if leaf in LOWER else None
    return f"{title} ({better} is better)" if better else title


# ---------------------------------------------------------------------------------------------- lines


def lines_of(runs: dict[str, Curves], title: str, metrics: tuple[str, ...]) -> list[Line]:
    """Returns a line for each run and metric that it has, named for what differs."""
    found = []
    for run, curves in runs.items():
        for metric in metrics:
            x, y = curves.points(metric)
            name = run if len(runs) > 1 else metric.removeprefix("loss/").removeprefix(f"{title}_")
            if x:
                found.append(smooth(name, x, y) if metric.startswith(NOISY) else Line(name, x, y, y, y))
    return found


def smooth(name: str, x: list[float], y: list[float]) -> Line:
    """Returns a line of means of neighbouring points, in a band of their middle 80 %; few points stay as they are."""
    num_points = min(MOST_POINTS, len(x) // NEIGHBOURS)
    if num_points < 4:
        return Line(name, x, y, y, y)
    parts_of_x, parts_of_y = (np.array_split(np.array(numbers), num_points) for numbers in (x, y))
    low, high = ([float(np.quantile(part, share)) for part in parts_of_y] for share in (0.1, 0.9))
    middle_x, middle_y = ([float(part.mean()) for part in parts] for parts in (parts_of_x, parts_of_y))
    return Line(name, middle_x, middle_y, low, high)
