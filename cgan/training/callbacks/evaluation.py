"""Callback that evaluates the averaged generator during training: logged, reported, and followed by best.ckpt."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import WandbLogger

from cgan.evaluation.plan import Evaluator
from cgan.interfaces import Batch, Report, silent
from cgan.metrics.names import HIGHER, LOWER, PREFERRED, is_better
from cgan.pixels import as_bytes
from cgan.training.callbacks.interrupts import EvaluationInterrupted, interruptible
from cgan.training.checkpoint_files import save_checkpoint
from cgan.training.distributed import all_gather_values
from cgan.training.gan import TextToImageGAN
from cgan.training.processes import end_all
from cgan.training.schedule import minutes_of, pause_training_clock

MOST_COLUMNS = 24  # of the table of samples; then every second goes


class Evaluation(pl.Callback):
    """Evaluates every `every_images` images and at the end; best.ckpt has the best value of the followed metric.

    evaluator computes the metrics. folder is the run directory. every_images is the interval, 0 for the end alone.
    followed is the metric of best.ckpt. captions: W&B gets a table with a sample of each, a column an evaluation.
    progress(done, total) is called during an evaluation, report with a line after it. `latest` holds the last metrics,
    `best` the value of best.ckpt, None before there is one.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        folder: Path,
        every_images: int,
        followed: str,
        captions: list[str],
        progress: Callable[[int, int], None],
        report: Report = silent,
    ) -> None:
        self.evaluator, self.folder, self.every_images = evaluator, folder, every_images
        self.followed, self.captions, self.progress, self.report = followed, captions, progress, report
        self.seen = 0  # images, until now
        self.evaluated_at: int | None = None  # images seen at the last evaluation, or at the start
        self.latest: dict[str, float] = {}
        self.best: float | None = None
        self.columns: list[tuple[int, np.ndarray]] = []  # images seen, and samples (N, H, W, 3) uint8

    @property
    def state_key(self) -> str:
        """The key of this callback's state in a checkpoint: the former name of the class."""
        return "Measures"

    def on_train_start(self, trainer: pl.Trainer, module: TextToImageGAN) -> None:
        """Checks that all processes have the same metrics, and evaluates if a signal has interrupted it before."""
        self.check_agreement(trainer)
        self.seen = module.images_seen
        if self.evaluated_at is None:
            self.evaluated_at = self.seen
        self.evaluate_if_due(trainer, module)  # a signal may have interrupted it

    def check_agreement(self, trainer: pl.Trainer) -> None:
        """End the training where its processes have different metrics: they would wait for each other for ever."""
        if trainer.world_size == 1:
            return
        found = all_gather_values(self.evaluator.names)
        if any(names != found[0] for names in found):
            end_all("trainer.metrics: the weights that they need are on some of the machines only; copy them to all")

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: TextToImageGAN, outputs: object, batch: Batch, *_
    ) -> None:
        """Counts the images of the step, and evaluates if it is due."""
        self.seen += len(batch.images) * trainer.world_size
        self.evaluate_if_due(trainer, module)

    def evaluate_if_due(self, trainer: pl.Trainer, module: TextToImageGAN) -> None:
        """Evaluate where a multiple of every_images has been passed; a signal interrupts it."""
        before = self.seen if self.evaluated_at is None else self.evaluated_at
        if self.every_images > 0 and self.seen // self.every_images > before // self.every_images:
            with suppress(EvaluationInterrupted):
                self.evaluate(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, module: TextToImageGAN) -> None:
        """Evaluates at the end, unless the last step has been evaluated."""
        if self.evaluated_at is not None and self.evaluated_at < self.seen:
            self.evaluate(trainer, module)

    def state_dict(self) -> dict:
        """Returns the last metrics, the best value and the images seen at the last evaluation."""
        state = {"followed": self.followed, "best": self.best}
        return state | {"latest": self.latest, "measured_at": self.evaluated_at}

    def load_state_dict(self, state: dict) -> None:
        """Restores a state_dict(); the best value only if the followed metric is the same."""
        self.latest, self.evaluated_at = state["latest"], state["measured_at"]
        if state["followed"] == self.followed:
            self.best = state["best"]

    def evaluate(self, trainer: pl.Trainer, module: TextToImageGAN) -> None:
        """Compute, log and report the metrics; write best.ckpt where they are the best so far.

        The time that this takes does not count as time of training.
        """
        start, minutes = time.monotonic(), minutes_of(trainer)
        with torch.autocast(module.device.type, enabled=False), interruptible():
            self.latest = self.evaluator.evaluate(module.generator_ema, module.text_encoder, self.progress)
        seconds, self.evaluated_at = time.monotonic() - start, self.seen
        pause_training_clock(trainer, seconds)
        log(trainer, {**self.latest, "evaluation_seconds": seconds, "training_minutes": minutes}, self.seen)
        value = self.latest.get(self.followed, float("nan"))
        better = trainer.strategy.broadcast(is_better(self.followed, value, self.best))
        if trainer.is_global_zero:
            self.report(self.line(seconds, better))
        if better:
            self.best = value
            save_checkpoint(trainer, self.folder / "best.ckpt")
        if trainer.is_global_zero:
            self.log_samples(trainer, module)

    def line(self, seconds: float, better: bool) -> str:
        """Returns the metrics that count most, the followed one first, in one line."""
        others = [name for name in PREFERRED + HIGHER + LOWER if name in self.latest and name != self.followed]
        first, *rest = [self.followed, *dict.fromkeys(others)][:5]
        best = " (best so far)" if better else ""
        values = [f"{first} {self.latest.get(first, float('nan')):.3g}{best}"]
        values += [f"{name} {self.latest[name]:.3g}" for name in rest]
        return f"evaluated {self.evaluator.num_captions} captions in {seconds:.0f} s: {', '.join(values)}"

    @torch.no_grad()
    def log_samples(self, trainer: pl.Trainer, module: TextToImageGAN) -> None:
        """Log a sample of each caption as a new column of W&B's table, always from the same noise."""
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
    """Log the same row with all loggers, and write it to the disk at once."""
    for logger in trainer.loggers:
        logger.log_metrics({**values, "images_seen": float(seen)}, trainer.global_step)
        logger.save()


def thinned(columns: list) -> list:
    """Returns the columns, without every second of the older ones where there are more than MOST_COLUMNS."""
    return columns if len(columns) <= MOST_COLUMNS else [*columns[:-1:2], columns[-1]]
