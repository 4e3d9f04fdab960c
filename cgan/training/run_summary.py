"""Summarizes a run in a few numbers: its state, the images it has seen, and its best evaluation."""

from typing import TypedDict

from cgan.metrics.names import HIGHER, LOWER, NEAR_ONE, PREFERRED, is_better
from cgan.training.run_records import Row, Run, files_in, images_of, minutes_of, started, state

ON_PAIRS = ("agreement", "image_to_text/recall@1", "text_to_image/recall@1")  # a joint encoder's, best first
LOSSES = ("loss/generator", "loss/discriminator", "loss/contrastive")
RECENT = 10  # rows over which losses are averaged


class RunSummary(TypedDict):
    """The properties of a run that `cgan runs` shows; each value is JSON-able."""

    name: str
    path: str
    task: str
    state: str
    started: str  # in ISO format
    images_seen: int
    minutes: float
    best: Row  # the metrics of the best evaluation, the followed one first
    best_at_images: int | None
    loss: Row  # means over the last rows, by the name without "loss/"
    bytes: int


def summarize(run: Run) -> RunSummary:
    """Returns what `cgan runs` shows of a run."""
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
        "best": {name: best[name] for name in names_in_order(best, run)},
        "best_at_images": round(best.get("images_seen", 0)) or None,
        "loss": {name.removeprefix("loss/"): value for name, value in recent_losses(run.rows).items()},
        "bytes": sum(facts.st_size for facts in files_in(run.path)),
    }


def best_row(run: Run) -> Row:
    """Returns the evaluation that best.ckpt is of, or a joint encoder's last one; empty where there was none."""
    followed, best = followed_metric(run), {}
    for row in run.rows:
        if followed in row and (followed in ON_PAIRS or is_better(followed, row[followed], best.get(followed))):
            best = row
    return best


def followed_metric(run: Run) -> str | None:
    """Returns the metric that chooses best.ckpt, or the first known one that was evaluated; None without any."""
    asked = run.settings["trainer"].get("best_metric")
    names = ([asked] if asked else []) + [*PREFERRED, *LOWER, *HIGHER, *NEAR_ONE, *ON_PAIRS]
    measured = {name for row in run.rows for name in row}
    stand_ins = [name for name in sorted(measured) if name.endswith("/frechet_distance")]
    return next((name for name in [*names, *stand_ins] if name in measured), None)


def names_in_order(row: Row, run: Run) -> list[str]:
    """Returns the names of metrics in an evaluation, the followed one first."""
    names = [followed_metric(run), *PREFERRED, *HIGHER, *LOWER, *NEAR_ONE, *ON_PAIRS]
    return [name for name in dict.fromkeys(names) if name in row]


def recent_losses(rows: list[Row]) -> Row:
    """Returns losses, averaged over the last rows that have them."""
    losses = {}
    for name in LOSSES:
        values = [row[name] for row in rows if name in row][-RECENT:]
        if values:
            losses[name] = sum(values) / len(values)
    return losses
