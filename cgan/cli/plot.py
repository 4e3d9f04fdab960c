"""cgan plot: curves of one or several runs as a PNG."""

import argparse
import difflib
from collections import Counter
from pathlib import Path

from cgan.cli.parsing import Parser
from cgan.errors import UserError
from cgan.files import check_writable_file, replacing
from cgan.metrics.names import HIGHER, LOWER
from cgan.training.run_records import RUNS, Row, minutes_of, rows_of, runs_in

QUALITY = {  # by the title of a plot, what stands in it together when a single run is shown
    "scene_accuracy": ("scene_accuracy", "scene_accuracy_heldout"),
    "fid": ("fid",),
    "r_precision": ("r_precision", "clip/r_precision", "joint/r_precision"),
    "clip_score": ("clip_score",),
    "frechet_distance": ("frechet_distance", "judge/frechet_distance", "joint/frechet_distance"),
}
LOSSES = {
    "losses of the players": ("loss/generator", "loss/discriminator"),
    "losses of the joint encoder": ("loss/contrastive", "loss/picture", "loss/caption"),
    "other losses of the generator": ("loss/reconstruction", "loss/matching"),
}
UNITS = {"images_per_second": "images/s", "evaluation_seconds": "s", "data_wait": "share of the time"}
AXES = {"images": "images seen", "minutes": "minutes of training"}
MOST_OF_EACH = 2  # plots of quality, and of losses, that nobody asked for by name
MOST_RUNS = 8  # colours
NOISY = ("loss/", "gradient_norm/", "images_per_second", "data_wait")  # of single steps: neighbours are averaged,
MOST_POINTS, NEIGHBOURS = 40, 5  # at least so many, into at most so many points


class Curves:
    """The rows of a run: curves.points(metric) -> where it was measured, and its values."""

    def __init__(self, folder: Path, against: str) -> None:
        self.folder, self.rows = folder, rows_of(folder / "metrics.csv")
        if not self.rows:
            raise UserError(f"{folder}: no metrics.csv with rows; give a run directory, such as `cgan runs` lists")
        self.places = minutes_of(self.rows) if against == "minutes" else [place_of(row) for row in self.rows]

    def numbers(self) -> Counter:
        """How many values there are of each metric."""
        return Counter(name for row, x in zip(self.rows, self.places, strict=True) if x is not None
                       for name, value in row.items() if is_finite(value))  # fmt: skip

    def points(self, metric: str) -> tuple[list[float], list[float]]:
        pairs = zip(self.places, self.rows, strict=True)
        found = [(x, row[metric]) for x, row in pairs if x is not None and is_finite(row.get(metric))]
        return [x for x, _ in found], [y for _, y in found]


def place_of(row: Row) -> float | None:
    return row.get("images_seen")


def is_finite(value: float | None) -> bool:
    return value is not None and abs(value) < float("inf")  # so NaN is not


def main(arguments: list[str]) -> None:
    """Draw curves and say where they are; raises UserError."""
    options = parser().parse_intermixed_args(arguments)
    folders = [folder_of(run) for run in options.runs] or [newest_run()]
    if len(folders) > MOST_RUNS:
        raise UserError(f"{len(folders)} runs: {MOST_RUNS} at most can be told apart in a plot")
    out = options.out or (folders[0] if len(folders) == 1 else Path()) / "curves.png"
    check_out(out)
    runs = named([Curves(folder, options.against) for folder in folders])
    numbers = sum((curves.numbers() for curves in runs.values()), Counter())
    metrics = [name for name, number in numbers.items() if number > 1]  # one in each of two runs can be compared
    plots = asked(options.metric, metrics) if options.metric else chosen(metrics, together=len(runs) == 1)
    draw(runs, plots, AXES[options.against], out)
    print(out)


def parser() -> argparse.ArgumentParser:
    result = Parser(prog="cgan plot", description="Draw the curves of runs into a PNG.")
    result.add_argument("runs", nargs="*", metavar="RUN", help="run directories; default: the newest in runs/")
    result.add_argument("--metric", nargs="+", metavar="NAME", help="columns of metrics.csv; default: what there is")
    result.add_argument("--against", choices=tuple(AXES), default="images", help="what stands on the horizontal axis")
    result.add_argument("--out", type=Path, metavar="FILE.png", help="default: curves.png, in the directory of a run")
    return result


def folder_of(run: str) -> Path:
    """A folder, or the name of one in runs/."""
    return next((path for path in (Path(run), RUNS / run) if path.is_dir()), Path(run))


def newest_run() -> Path:
    paths = runs_in(RUNS)[0] if RUNS.is_dir() else []
    begun = [path for path in paths if (path / "metrics.csv").is_file()]
    if not begun:
        raise UserError("no run under runs/ has a metrics.csv; name a run directory")
    return max(begun, key=lambda path: (path / "metrics.csv").stat().st_mtime)


def named(runs: list[Curves]) -> dict[str, Curves]:
    """By the names of their folders, or by their paths where two have the same name."""
    names = [curves.folder.resolve().name for curves in runs]
    if len(set(names)) < len(names):
        names = [str(curves.folder) for curves in runs]
    return dict(zip(names, runs, strict=True))


# ---------------------------------------------------------------------------------------------- which plots


def asked(wanted: list[str], metrics: list[str]) -> dict[str, tuple[str, ...]]:
    """A plot for each metric; raises UserError for one that is not there."""
    for name in wanted:
        if name not in metrics:
            near = difflib.get_close_matches(name, metrics, n=1, cutoff=0.3)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UserError(f"--metric {name}: no curve of that name; {hint}there is: {', '.join(sorted(metrics))}")
    return {name: (name,) for name in wanted}


def chosen(metrics: list[str], together: bool) -> dict[str, tuple[str, ...]]:
    """What the data has: quality first, then losses; together: what belongs together, in one plot."""
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


# ---------------------------------------------------------------------------------------------- the picture


def check_out(out: Path) -> None:
    """Raise UserError where the plot can't be written."""
    if out.suffix.lower() != ".png":
        raise UserError(f"--out {out}: curves are a PNG; give a name that ends in .png")
    check_writable_file(out, "give another place by --out FILE.png")


def draw(runs: dict[str, Curves], plots: dict[str, tuple[str, ...]], x_label: str, out: Path) -> None:
    """The file is there whole or not at all."""
    from cgan.figures.plots import line_plot, sheet

    pages = [line_plot(lines_of(runs, title, names), titled(title), x_label) for title, names in plots.items()]
    with replacing(out) as unfinished:
        sheet(pages).save(unfinished, format="PNG")


def lines_of(runs: dict[str, Curves], title: str, metrics: tuple[str, ...]) -> list:
    """A line for each run and metric that it has, named for what differs."""
    found = []
    for run, curves in runs.items():
        for metric in metrics:
            x, y = curves.points(metric)
            name = run if len(runs) > 1 else metric.removeprefix("loss/").removeprefix(f"{title}_")
            if x:
                found.append(smooth(name, x, y) if metric.startswith(NOISY) else exact(name, x, y))
    return found


def exact(name: str, x: list[float], y: list[float]):
    from cgan.figures.plots import Line

    return Line(name, x, y, y, y)


def smooth(name: str, x: list[float], y: list[float]):
    """Means of neighbours, in a band that holds the middle 80 % of them; few points stay as they are."""
    import numpy as np

    from cgan.figures.plots import Line

    num_points = min(MOST_POINTS, len(x) // NEIGHBOURS)
    if num_points < 4:
        return exact(name, x, y)
    places, values = (np.array_split(np.array(numbers), num_points) for numbers in (x, y))
    low, high = ([float(np.quantile(part, share)) for part in values] for share in (0.1, 0.9))
    return Line(name, *([float(part.mean()) for part in parts] for parts in (places, values)), low, high)


def titled(title: str) -> str:
    """With the unit, or which way is better."""
    leaf = title.rpartition("/")[2]
    if title in UNITS:
        return f"{title} ({UNITS[title]})"
    better = "higher" if leaf in HIGHER else "lower" if leaf in LOWER else None
    return f"{title} ({better} is better)" if better else title
