"""Measures of the averaged generator during training: logged, told in a line, and followed by best.ckpt."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import WandbLogger
from torch import distributed

from cgan.metrics.names import HIGHER, LOWER, PREFERRED, is_better
from cgan.pixels import as_bytes
from cgan.training.checkpoints import Hurried, breakable, end_all, save_checkpoint
from cgan.training.schedule import minutes_of, pause_training_clock

MOST_COLUMNS = 24  # of the table of pictures; then every second goes


class Examination(NamedTuple):
    """evaluate(generator, text_encoder, tell) -> values by name, alike in all processes."""

    evaluate: Callable[..., dict[str, float]]
    names: list[str]  # of the values that can be followed
    num_captions: int


class Measures(pl.Callback):
    """Measures every so many images and at the end; best.ckpt follows one of the metrics.

    captions: W&B gets a table of a picture of each, with a column for every evaluation. tell hears of the progress.
    """

    def __init__(
        self,
        examination: Examination,
        folder: Path,
        every_images: int,
        followed: str,
        captions: list[str],
        tell: Callable[[int, int], None],
    ) -> None:
        self.examination, self.folder, self.every_images = examination, folder, every_images
        self.followed, self.captions, self.tell = followed, captions, tell
        self.best, self.latest, self.measured_at, self.columns = None, {}, None, []

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.check_agreement(trainer)
        self.seen = module.images_seen
        if self.measured_at is None:
            self.measured_at = self.seen
        self.measure_if_due(trainer, module)  # what a signal may have broken off

    def check_agreement(self, trainer: pl.Trainer) -> None:
        """Processes that measure something else would wait for each other for ever."""
        if trainer.world_size == 1:
            return
        found = [None] * trainer.world_size
        distributed.all_gather_object(found, self.examination.names)
        if any(names != found[0] for names in found):
            end_all("trainer.metrics: the weights that they need are on some of the machines only; copy them to all")

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs, batch, *_) -> None:
        self.seen += len(batch.images) * trainer.world_size
        self.measure_if_due(trainer, module)

    def measure_if_due(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.every_images > 0 and self.seen // self.every_images > self.measured_at // self.every_images:
            with suppress(Hurried):
                self.measure(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.measured_at < self.seen:
            self.measure(trainer, module)

    def state_dict(self) -> dict:
        state = {"followed": self.followed, "best": self.best}
        return state | {"latest": self.latest, "measured_at": self.measured_at}

    def load_state_dict(self, state: dict) -> None:
        self.latest, self.measured_at = state["latest"], state["measured_at"]
        if state["followed"] == self.followed:
            self.best = state["best"]

    def measure(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        start, minutes = time.monotonic(), minutes_of(trainer)
        with torch.autocast(module.device.type, enabled=False), breakable():
            self.latest = self.examination.evaluate(module.generator_ema, module.text_encoder, self.tell)
        seconds, self.measured_at = time.monotonic() - start, self.seen
        pause_training_clock(trainer, seconds)
        log(trainer, {**self.latest, "evaluation_seconds": seconds, "training_minutes": minutes}, self.seen)
        value = self.latest.get(self.followed, float("nan"))
        better = trainer.strategy.broadcast(is_better(self.followed, value, self.best))
        if trainer.is_global_zero:
            print(self.line(seconds, better), flush=True)
        if better:
            self.best = value
            save_checkpoint(trainer, self.folder / "best.ckpt")
        if trainer.is_global_zero:
            self.draw(trainer, module)

    def line(self, seconds: float, better: bool) -> str:
        others = [name for name in PREFERRED + HIGHER + LOWER if name in self.latest and name != self.followed]
        first = [self.followed, *dict.fromkeys(others)][:5]
        values = ", ".join(f"{name} {self.latest.get(name, float('nan')):.3g}" for name in first)
        best = "; the best so far" if better else ""
        return f"measured {self.examination.num_captions} captions in {seconds:.0f} s: {values}{best}"

    @torch.no_grad()
    def draw(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """A picture of each caption as a new column of W&B's table, always from the same noise."""
        if not any(isinstance(logger, WandbLogger) for logger in trainer.loggers):
            return
        import wandb

        noise = torch.randn(
            len(self.captions), module.config.generator.noise_dim, generator=torch.Generator().manual_seed(0)
        )
        images = module.generator_ema(noise.to(module.device), module.text_encoder(self.captions))
        pictures = as_bytes(images).permute(0, 2, 3, 1).cpu().numpy()
        self.columns = thinned([*self.columns, (self.seen, pictures)])
        names = ["caption", *(f"{seen} images" for seen, _ in self.columns)]
        rows = [
            [caption, *(wandb.Image(np.ascontiguousarray(pictures[i])) for _, pictures in self.columns)]
            for i, caption in enumerate(self.captions)
        ]
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_table("captions", names, rows)


def log(trainer: pl.Trainer, values: dict[str, float], seen: int) -> None:
    """The same row to all loggers, on the disk at once."""
    for logger in trainer.loggers:
        logger.log_metrics({**values, "images_seen": float(seen)}, trainer.global_step)
        logger.save()


def thinned(columns: list) -> list:
    """Every second of the older ones, when there are too many."""
    return columns if len(columns) <= MOST_COLUMNS else [*columns[:-1:2], columns[-1]]
