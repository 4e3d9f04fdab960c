"""What happens beside training: grids of samples, and the line that shows progress."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from cgan.evaluation.joint import reconstruction_sheet
from cgan.figures.sheets import save_png, titled
from cgan.interfaces import Sample
from cgan.metrics.names import HIGHER, LOWER, PREFERRED
from cgan.pixels import as_bytes
from cgan.training.schedule import grids

NUM_SEEDS = 8


class SeededSteps(pl.Callback):
    """The random numbers of a step depend on the seed and its number alone, and are alike in all processes.

    So a training that goes on draws what it would have drawn.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: pl.Trainer, *_) -> None:
        torch.manual_seed(self.seed * 1_000_003 + trainer.global_step)


class SampleGrid(pl.Callback):
    """A PNG of fixed captions (rows) and seeds (columns), drawn by the averaged generator every so many images.

    With every_images None, cgan.training.schedule.grids chooses; 0 is never, also not at the beginning and at the end.
    """

    def __init__(self, folder: Path, every_images: int | None, captions: list[str]) -> None:
        self.folder, self.cadence, self.captions = folder, grids(every_images), captions

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, *_) -> None:
        self.before = self.cadence.count(module.images_seen, module.progress)

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_) -> None:
        due = trainer.global_step == 1 or self.cadence.count(module.images_seen, module.progress) > self.before
        if due and not self.cadence.never and trainer.is_global_zero:
            self.draw(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if not self.cadence.never and trainer.is_global_zero:
            self.draw(trainer, module)

    @torch.no_grad()
    def draw(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(NUM_SEEDS, module.config.generator.noise_dim, generator=generator).to(module.device)
        rows = []
        for caption in self.captions:
            images = module.generator_ema(noise, module.text_encoder([caption] * NUM_SEEDS))
            row = torch.cat(list(images), dim=2).permute(1, 2, 0)  # (H, 8 W, 3)
            rows.append(titled(as_bytes(row).cpu().numpy(), caption))
        grid = np.concatenate(rows)
        save_png(grid, self.folder / f"images_{module.images_seen:09d}.png")
        for logger in trainer.loggers:
            if isinstance(logger, pl.loggers.WandbLogger):
                logger.log_image("samples", [grid], caption=[" | ".join(self.captions)])


class ReconstructionSheet(pl.Callback):
    """A PNG of pictures and captions that the joint encoder decodes from either's latent, every so many images.

    With every_images None, cgan.training.schedule.grids chooses; 0 is never, also not at the beginning and at the end.
    """

    def __init__(self, folder: Path, every_images: int | None, samples: list[Sample]) -> None:
        self.folder, self.cadence, self.samples, self.seen, self.drawn = folder, grids(every_images), samples, 0, 0

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs, batch, *_) -> None:
        self.seen += len(batch.images) * trainer.world_size
        before, self.drawn = self.drawn, self.cadence.count(self.seen, module.progress)
        due = trainer.global_step == 1 or self.drawn > before
        if due and not self.cadence.never and trainer.is_global_zero:
            self.draw(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if not self.cadence.never and trainer.is_global_zero:
            self.draw(trainer, module)

    def draw(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        sheet = reconstruction_sheet(module.joint, self.samples)
        module.train()
        save_png(sheet, self.folder / f"reconstructions_{self.seen:09d}.png")
        for logger in trainer.loggers:
            if isinstance(logger, pl.loggers.WandbLogger):
                logger.log_image("reconstructions", [sheet])


class ProgressLine(pl.Callback):
    """Images seen of all and time left; below, pace, losses and the last metrics. A line a minute without a terminal.

    latest gives those metrics.
    """

    def __init__(self, title: str, batch_size: int, latest: Callable[[], dict[str, float]] = dict) -> None:
        self.title, self.batch_size, self.latest, self.console = title, batch_size, latest, Console()
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        self.bars = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("left"))
        self.news = Text()
        self.live = Live(Group(self.bars, self.news), console=self.console)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.start = self.told = self.asked = time.monotonic()
        self.done = trainer.global_step
        if trainer.is_global_zero and self.console.is_terminal:
            self.live.start()
        self.task = self.bars.add_task(self.title, total=self.planned(trainer, 0.0), completed=self.seen(trainer))
        self.second = self.bars.add_task("measuring", total=1, visible=False)
        self.speaks = trainer.is_global_zero and not self.console.is_terminal

    def seen(self, trainer: pl.Trainer) -> int:
        return trainer.global_step * self.batch_size

    def planned(self, trainer: pl.Trainer, progress: float) -> int:
        """Images of the whole training; where time is limited, as many as this pace allows."""
        return round(self.seen(trainer) / progress) if progress > 0 else trainer.max_steps * self.batch_size

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_) -> None:
        now = time.monotonic()
        if now - self.asked < 0.5 and trainer.global_step < trainer.max_steps:
            return
        self.asked, passed = now, now - self.start
        rate = (trainer.global_step - self.done) * self.batch_size / passed
        losses = [(name.split("/")[-1], float(value)) for name, value in trainer.progress_bar_metrics.items()]
        news = ", ".join([f"{rate:.0f} images/s", *(f"{name} {value:.3f}" for name, value in losses)])
        seen, total = self.seen(trainer), self.planned(trainer, module.progress)
        self.bars.update(self.task, completed=seen, total=total)
        self.news.plain = "\n".join([news, *self.measured()])
        if self.speaks and now - self.told > 60:
            self.told, left = now, (total - seen) / rate
            print(f"{self.title}: {seen} of {total}, {news}, {left:.0f} s left", flush=True)

    def measured(self) -> list[str]:
        """A line of the last metrics that count most, once there are some."""
        values = self.latest()
        names = [name for name in dict.fromkeys(PREFERRED + HIGHER + LOWER) if name in values][:3]
        return [f"measured last: {', '.join(f'{name} {values[name]:.3g}' for name in names)}"] if names else []

    def measuring(self, done: int, total: int) -> None:
        """A second bar while pictures are measured."""
        self.bars.update(self.second, completed=done, total=total, visible=done < total)
        if self.speaks and time.monotonic() - self.told > 60:
            self.told = time.monotonic()
            print(f"measuring: {done} of {total} pictures", flush=True)

    def on_train_end(self, *_) -> None:
        self.live.stop()

    def on_exception(self, *_) -> None:
        self.live.stop()
