"""Callback that evaluates a module's samples during training: logged, reported, and followed by best.ckpt."""

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import WandbLogger

from cgan.evaluation.plan import Evaluator
from cgan.interfaces import ImageTextDataset, Report, UserError, silent
from cgan.metrics.features import FeatureNetwork, MatchingNetwork
from cgan.metrics.names import HIGHER, LOWER, PREFERRED, is_better, is_known
from cgan.pixels import as_bytes
from cgan.training.callbacks.any_module import (
    ImageCount,
    as_generator,
    captions_alone,
    fixed_noise,
    in_eval_mode,
    sample,
)
from cgan.training.callbacks.checkpointing import rows_written
from cgan.training.callbacks.dataset_evaluator import dataset_evaluator
from cgan.training.callbacks.interrupts import EvaluationInterrupted, interruptible
from cgan.training.checkpoint_files import save_checkpoint
from cgan.training.distributed import all_gather_values
from cgan.training.processes import end_all
from cgan.training.schedule import minutes_of, pause_training_clock, timers_of
from cgan.workers import Progress

MOST_COLUMNS = 24  # of the table of samples; then every second goes
NUM_CAPTIONS = 8  # of that table, where none are given


class EvaluationCallback(pl.Callback):
    """Evaluates a module's samples at intervals and at the end; best.ckpt has the best value of the followed metric.

    The module is any that has a method sample(captions, noise) -> images (B, 3, H, W) in [-1, 1].

    dataset: real images with captions. metrics: names, some of fid, kid, prdc, clip_score and r_precision. features:
        the network of the first three; Inception with the weights on this machine when absent. clip: the network of the
        others. num_images: how many pictures, and one caption of each.
    evaluator: what computes the values, in place of these five.
    noise_dim: Z of the noise (B, Z), which is always the same.
    every_images, every_n_steps: the intervals, in images seen and in optimizer steps; without any, the end alone.
    followed: the metric of best.ckpt; the most telling one when absent. folder: where best.ckpt goes; None writes none.
    captions: W&B gets a table with a sample of each, a column an evaluation; eight of the data set's when absent.
    progress(done, total) is called during an evaluation, report with a line after it.

    `latest` holds the last metrics, `best` the value of best.ckpt and `best_metrics` all that was measured with it.
    Raises UserError for an unknown metric and a missing network, and at the first evaluation where it does not give the
    metric to follow.
    """

    def __init__(
        self,
        dataset: ImageTextDataset | None = None,
        metrics: Sequence[str] = (),
        *,
        noise_dim: int,
        features: FeatureNetwork | None = None,
        clip: MatchingNetwork | None = None,
        num_images: int = 2000,
        evaluator: Evaluator | None = None,
        every_images: int | None = None,
        every_n_steps: int | None = None,
        followed: str | None = None,
        folder: Path | str | None = None,
        captions: Sequence[str] | None = None,
        progress: Progress = silent,
        report: Report = silent,
    ) -> None:
        if (dataset is None) == (evaluator is None):
            raise UserError("EvaluationCallback: give a data set with metrics, or an evaluator")
        self.key = "Measures"
        if dataset is not None:
            self.key = f"EvaluationCallback({', '.join(metrics)}; {every_images}, {every_n_steps})"
            evaluator = dataset_evaluator(dataset, metrics, features, clip, num_images)
            chosen = range(min(NUM_CAPTIONS, len(dataset)))
            captions = [dataset.captions_of(i)[0] for i in chosen] if captions is None else captions
        assert evaluator is not None  # one of the two was given
        if followed is not None and not is_known(followed):
            raise UserError(f"followed={followed}: no such metric; {', '.join(PREFERRED)} and others are")
        self.evaluator, self.followed = evaluator, followed
        self.noise_dim, self.every_images, self.every_n_steps = noise_dim, every_images, every_n_steps
        self.folder, self.captions = None if folder is None else Path(folder), list(captions or ())
        self.progress, self.report = progress, report
        self.images = ImageCount()
        self.evaluated_at: int | None = None  # images seen at the last evaluation, or at the start
        self.evaluated_step = 0  # optimizer steps until then
        self.latest: dict[str, float] = {}
        self.best: float | None = None
        self.best_metrics: dict[str, float] = {}
        self.columns: list[tuple[int, np.ndarray]] = []  # images seen, and samples (N, H, W, 3) uint8

    @property
    def state_key(self) -> str:
        """The key of this callback's state in a checkpoint; that of cgan's own trainings is a former name."""
        return self.key

    # ------------------------------------------------------------------------------------------ when

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Checks that all processes have the same metrics, and evaluates if a signal has interrupted it before."""
        self.check_agreement(trainer)
        if self.evaluated_at is None:
            self.evaluated_at, self.evaluated_step = self.images.of(module), trainer.global_step
        self.evaluate_if_due(trainer, module)  # a signal may have interrupted it

    def check_agreement(self, trainer: pl.Trainer) -> None:
        """End the training where its processes have different metrics: they would wait for each other for ever."""
        if trainer.world_size == 1:
            return
        found = all_gather_values(self.evaluator.names)
        if any(names != found[0] for names in found):
            end_all("trainer.metrics: the weights that they need are on some of the machines only; copy them to all")

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: object, batch: object, *_
    ) -> None:
        """Counts the images of the step, and evaluates if it is due."""
        self.images.add(trainer, batch)
        self.evaluate_if_due(trainer, module)

    def evaluate_if_due(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Evaluate where a multiple of an interval has been passed; a signal interrupts it."""
        images = passed(self.every_images, self.evaluated_at or 0, self.images.of(module))
        if images or passed(self.every_n_steps, self.evaluated_step, trainer.global_step):
            with suppress(EvaluationInterrupted):
                self.evaluate(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Evaluates at the end, unless the last step has been evaluated."""
        if self.evaluated_at is not None and self.evaluated_at < self.images.of(module):
            self.evaluate(trainer, module)

    def state_dict(self) -> dict:
        """Returns the last and the best metrics, and the images and steps until the last evaluation."""
        state = {"followed": self.followed, "best": self.best, "best_metrics": self.best_metrics}
        when = {"measured_at": self.evaluated_at, "step": self.evaluated_step, "counted": self.images.counted}
        return state | {"latest": self.latest} | when

    def load_state_dict(self, state: dict) -> None:
        """Restores a state_dict(); the best value only if the followed metric is the same."""
        self.latest, self.evaluated_at = state["latest"], state["measured_at"]
        self.evaluated_step, self.images.counted = state.get("step", 0), state.get("counted", 0)  # of earlier versions
        if self.followed in (None, state["followed"]):
            self.followed = state["followed"]
            self.best, self.best_metrics = state["best"], state.get("best_metrics", {})

    # ------------------------------------------------------------------------------------------ what

    def evaluate(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Compute, log and report the metrics; write best.ckpt where they are the best so far.

        The time that this takes does not count as time of training.
        """
        start, seen = time.monotonic(), self.images.of(module)
        minutes = {"training_minutes": minutes_of(trainer)} if timers_of(trainer) else {}
        with torch.autocast(module.device.type, enabled=False), interruptible(), in_eval_mode(module):
            generator = as_generator(module, self.noise_dim, self.captions or ["a picture"])
            self.latest = self.evaluator.evaluate(generator, captions_alone, self.progress)
        seconds = time.monotonic() - start
        self.evaluated_at, self.evaluated_step = seen, trainer.global_step
        pause_training_clock(trainer, seconds)
        log(trainer, {**self.latest, "evaluation_seconds": seconds, **minutes}, seen)
        self.compare(trainer, seen, seconds)
        if trainer.is_global_zero:
            self.log_samples(trainer, module, seen)

    def compare(self, trainer: pl.Trainer, seen: int, seconds: float) -> None:
        """Report an evaluation, and write best.ckpt where it is the best so far."""
        self.followed = followed = chosen_metric(list(self.latest), self.followed)
        value = self.latest[followed]
        better = trainer.strategy.broadcast(is_better(followed, value, self.best))
        if trainer.is_global_zero:
            self.report(self.line(followed, seconds, better))
        if better:
            self.best, self.best_metrics = value, {**self.latest, "images_seen": float(seen)}
            if self.folder is not None:
                save_checkpoint(trainer, self.folder / "best.ckpt")

    def line(self, followed: str, seconds: float, better: bool) -> str:
        """Returns the metrics that count most, the followed one first, in one line."""
        others = [name for name in PREFERRED + HIGHER + LOWER if name in self.latest and name != followed]
        first, *rest = [followed, *dict.fromkeys(others)][:5]
        best = " (best so far)" if better else ""
        values = [f"{first} {self.latest[first]:.3g}{best}"]
        values += [f"{name} {self.latest[name]:.3g}" for name in rest]
        return f"evaluated {self.evaluator.num_captions} captions in {seconds:.0f} s: {', '.join(values)}"

    @torch.no_grad()
    def log_samples(self, trainer: pl.Trainer, module: pl.LightningModule, seen: int) -> None:
        """Log a sample of each caption as a new column of W&B's table, always from the same noise."""
        if not self.captions or not any(isinstance(logger, WandbLogger) for logger in trainer.loggers):
            return
        import wandb

        with in_eval_mode(module):
            images = sample(module, self.captions, fixed_noise(len(self.captions), self.noise_dim))
        pictures = as_bytes(images).permute(0, 2, 3, 1).cpu().numpy()
        self.columns = thinned([*self.columns, (seen, pictures)])
        names = ["caption", *(f"{seen} images" for seen, _ in self.columns)]
        rows = [
            [caption, *(wandb.Image(np.ascontiguousarray(pictures[i])) for _, pictures in self.columns)]
            for i, caption in enumerate(self.captions)
        ]
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_table("samples/captions", names, rows)


def chosen_metric(names: Sequence[str], asked: str | None) -> str:
    """Returns the metric of best.ckpt: the one that is asked for, or the most telling one; raises UserError."""
    if asked is not None and asked not in names:
        raise UserError(f"followed={asked}: not evaluated; choose one of {', '.join(names)}")
    return asked or next((name for name in PREFERRED if name in names), names[0])


def passed(interval: int | None, before: int, now: int) -> bool:
    """Returns whether a multiple of an interval lies after `before`, up to `now`; never without an interval."""
    return interval is not None and interval > 0 and now // interval > before // interval


def log(trainer: pl.Trainer, values: dict[str, float], seen: int) -> None:
    """Log the same row with all loggers, and write it to the disk at once."""
    for logger in trainer.loggers:
        logger.log_metrics({**values, "images_seen": float(seen)}, trainer.global_step)
    rows_written(trainer)


def thinned(columns: list) -> list:
    """Returns the columns, without every second of the older ones where there are more than MOST_COLUMNS."""
    return columns if len(columns) <= MOST_COLUMNS else [*columns[:-1:2], columns[-1]]
