"""cgan plot: draws the curves of one or several runs as a PNG or an SVG."""

import argparse
from pathlib import Path

from cgan.cli.parsing import Parser
from cgan.errors import UserError
from cgan.files import check_writable_file
from cgan.training.run_records import RUNS, runs_in


def main(arguments: list[str]) -> None:
    """Draw curves and print the file's name; raises UserError."""
    options = parser().parse_intermixed_args(arguments)
    folders = [folder_of(run) for run in options.runs] or [newest_run()]
    out = options.out or (folders[0] if len(folders) == 1 else Path()) / "curves.png"
    from cgan.figures.plots import check_suffix, save_figure
    from cgan.training.curves import curves_of

    check_suffix(out)
    check_writable_file(out, "give another place by --out FILE.png")
    save_figure(curves_of(folders, options.metric, options.against, options.x_scale, options.y_scale), out)
    print(out)


def parser() -> argparse.ArgumentParser:
    """Returns the parser of `cgan plot`."""
    result = Parser(prog="cgan plot", description="Plot the curves of runs as a PNG or an SVG.")
    add = result.add_argument
    add("runs", nargs="*", metavar="RUN", help="run directories; default: the newest in runs/")
    add("--metric", nargs="+", metavar="NAME", help="columns of metrics.csv; default: what there is")
    add("--against", choices=("images", "minutes"), default="images", help="the horizontal axis")
    add("--x-scale", choices=("linear", "log"), default="linear", help="log shows the beginning of a long run")
    auto = "auto: logarithmic where positive values span decades"
    add("--y-scale", choices=("auto", "linear", "log"), default="auto", help=auto)
    add("--out", type=Path, metavar="FILE", help="in .png or .svg; default: curves.png, in the directory of a run")
    return result


def folder_of(run: str) -> Path:
    """Returns the run directory of a path, or of a name in runs/."""
    return next((path for path in (Path(run), RUNS / run) if path.is_dir()), Path(run))


def newest_run() -> Path:
    """Returns the run whose metrics are the newest; raises UserError without any."""
    paths = runs_in(RUNS)[0] if RUNS.is_dir() else []
    begun = [path for path in paths if (path / "metrics.csv").is_file()]
    if not begun:
        raise UserError("no run under runs/ has a metrics.csv; name a run directory")
    return max(begun, key=lambda path: (path / "metrics.csv").stat().st_mtime)
