"""Callback that displays progress: images seen, time left, pace, losses and the last metrics."""

import time
from collections.abc import Callable

import pytorch_lightning as pl
import torch
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from cgan.interfaces import Report, silent
from cgan.metrics.names import HIGHER, LOWER, PREFERRED
from cgan.training.gan import TextToImageGAN
from cgan.training.joint import JointTraining
from cgan.training.processes import is_first_process

SECONDS_BETWEEN = 60  # of lines where there is no bar
SECONDS_OF_LOSSES = 2  # for which a bar shows the same ones: to read them, the CPU waits for the device
SHOWN = "discriminator", "generator", "reconstruction", "contrastive", "picture", "caption"  # losses, by their names


class ProgressLine(pl.Callback):
    """Displays a bar of images seen on a terminal; elsewhere it reports one line a minute.

    title names what is trained. batch_size counts the images of a step of all processes. latest gives the last metrics,
    of which the most important ones are displayed below the bar. evaluating(done, total) moves a second bar.
    """

    def __init__(
        self,
        title: str,
        batch_size: int,
        report: Report = silent,
        console: Console | None = None,
        latest: Callable[[], dict[str, float]] = dict,
    ) -> None:
        self.title, self.batch_size, self.report, self.latest = title, batch_size, report, latest
        self.shows_bar = is_first_process() and console is not None and console.is_terminal
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        self.bars = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("left"))
        self.news, self.losses, self.read_at = Text(), "", 0.0
        self.live = Live(Group(self.bars, self.news), console=console)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Starts the clock, and the bars on a terminal."""
        self.start = self.reported_at = self.updated_at = time.monotonic()
        self.first_step = trainer.global_step
        if self.shows_bar:
            self.live.start()
        self.task = self.bars.add_task(self.title, total=self.planned(trainer, 0.0), completed=self.seen(trainer))
        self.second = self.bars.add_task("evaluating", total=1, visible=False)

    def seen(self, trainer: pl.Trainer) -> int:
        """Returns the number of images seen until now."""
        return trainer.global_step * self.batch_size

    def planned(self, trainer: pl.Trainer, progress: float) -> int:
        """Returns the images of the whole training; if its time is limited, as many as the present pace allows."""
        return round(self.seen(trainer) / progress) if progress > 0 else trainer.max_steps * self.batch_size

    def on_train_batch_end(self, trainer: pl.Trainer, module: TextToImageGAN | JointTraining, *_) -> None:
        """Updates the bar at most twice a second, or reports a line at most once a minute."""
        now = time.monotonic()
        since, between = (self.updated_at, 0.5) if self.shows_bar else (self.reported_at, SECONDS_BETWEEN)
        if now - since <= between and (trainer.global_step < trainer.max_steps or not self.shows_bar):
            return
        self.updated_at, passed = now, now - self.start
        if now - self.read_at >= SECONDS_OF_LOSSES or trainer.global_step == trainer.max_steps:
            self.losses, self.read_at = losses_of(trainer), now
        rate = (trainer.global_step - self.first_step) * self.batch_size / passed
        news = f"{rate:.0f} images/s{self.losses}"
        seen, total = self.seen(trainer), self.planned(trainer, module.progress)
        self.bars.update(self.task, completed=seen, total=total)
        self.news.plain = "\n".join([news, *self.last_metrics()])
        self.report_sometimes(f"{self.title}: {seen} of {total}, {news}, {(total - seen) / rate:.0f} s left")

    def report_sometimes(self, line: str) -> None:
        """Report a line where there is no bar, and none was reported within the last minute."""
        now = time.monotonic()
        if not self.shows_bar and now - self.reported_at > SECONDS_BETWEEN:
            self.reported_at = now
            self.report(line)

    def last_metrics(self) -> list[str]:
        """Returns a line of the last metrics that count most, once there are some."""
        values = self.latest()
        names = [name for name in dict.fromkeys(PREFERRED + HIGHER + LOWER) if name in values][:3]
        return [f"last metrics: {', '.join(f'{name} {values[name]:.3g}' for name in names)}"] if names else []

    def evaluating(self, done: int, total: int) -> None:
        """Move the second bar, which is visible during an evaluation."""
        self.bars.update(self.second, completed=done, total=total, visible=done < total)
        self.report_sometimes(f"evaluating: {done} of {total} pictures")

    def on_train_end(self, *_) -> None:
        """Removes the live display from the terminal."""
        self.live.stop()

    def on_exception(self, *_) -> None:
        """Removes the live display before an error is printed."""
        self.live.stop()


def losses_of(trainer: pl.Trainer) -> str:
    """Returns the losses that are SHOWN, as text behind a comma each; the CPU waits for the device once.

    Where none of them is computed any more, the latent prior is trained alone, and its loss is returned.
    """
    metrics = trainer.callback_metrics
    found = {name: metrics[f"loss/{name}"] for name in (*SHOWN, "prior") if f"loss/{name}" in metrics}
    values = {name: value for name, value in found.items() if name in SHOWN} or found
    numbers = torch.stack(list(values.values())).tolist() if values else []
    return "".join(f", {name} {number:.3f}" for name, number in zip(values, numbers, strict=True))
