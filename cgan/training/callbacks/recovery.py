"""What keeps a long training alive: checkpoints in time, an end when a signal asks for it, and a look at its health."""

import math
import signal
import threading
from collections import defaultdict
from pathlib import Path
from typing import Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, distributed

from cgan.errors import CTRL_C, REQUEUE
from cgan.interfaces import Batch
from cgan.training.checkpoints import Haste, Hurried, end_all, last_word, save_checkpoint
from cgan.training.metrics_file import MetricsFile
from cgan.training.schedule import checkpoints, grids

STATUS = {signal.SIGTERM: REQUEUE, signal.SIGUSR1: REQUEUE, signal.SIGINT: CTRL_C}


class Stopped(Exception):
    """A signal has ended the training, between two steps."""


class Signals:
    """While it is entered, SIGTERM, SIGUSR1 and Ctrl-C leave their exit status here and let the step end."""

    def __init__(self) -> None:
        self.status, self.before = 0, {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            heeded = [number for number in STATUS if signal.getsignal(number) != signal.SIG_IGN]
            self.before = {number: signal.signal(number, self.hear) for number in heeded}
        return self

    def __exit__(self, *_) -> None:
        Haste.waits = False
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def hear(self, number: int, _) -> None:
        if self.status == CTRL_C and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice
        self.status, Haste.waits = STATUS[number], True
        if Haste.breakable:
            raise Hurried


class StopOnSignal(pl.Callback):
    """Ends the training of all processes after a step in which any of them has heard a signal.

    With checkpoints in a folder, one is written first.
    """

    def __init__(self, signals: Signals, folder: Path | None = None, num_kept: int = 1) -> None:
        self.signals, self.folder, self.num_kept = signals, folder, num_kept

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, *_) -> None:
        status = self.signals.status
        if trainer.world_size > 1:
            heard = torch.tensor(status, device=trainer.strategy.root_device)
            status = self.signals.status = int(trainer.strategy.reduce(heard, reduce_op="max"))
        if not status:
            return
        self.save(trainer)
        raise Stopped

    def save(self, trainer: pl.Trainer) -> None:
        if self.folder is not None:
            save_if_healthy(trainer, self.folder / "last.ckpt", self.num_kept)


class Checkpoints(pl.Callback):
    """Keeps last.ckpt and the ones before it, written every so many images; fit's caller writes the one of the end.

    It writes before the next step, when all of the step before is logged, with the number of rows in metrics.csv. With
    every_images None, cgan.training.schedule.checkpoints chooses; with 0 only a signal brings one on the way.
    """

    def __init__(self, folder: Path, every_images: int | None, num_kept: int) -> None:
        self.folder, self.cadence, self.num_kept, self.written = folder, checkpoints(every_images), num_kept, None
        self.draws, self.batch_size, self.first_step = 0, None, 0

    def count_draws(self, behind: int, batch_size: int) -> None:
        """Pictures that were drawn from the data set before, and in each step from now on."""
        self.draws, self.batch_size = behind, batch_size

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.written, self.first_step = None, trainer.global_step
        if trainer.world_size > 1:
            found = [None] * trainer.world_size
            distributed.all_gather_object(found, trainer.global_step)
            if len(set(found)) > 1:
                end_all(f"the processes go on from different steps, {found}: {self.folder} must be on a shared disk")

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, *_) -> None:
        # Lightning counts one too many when it goes on from a checkpoint that was written here
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
        # and in the first step it forgets what was logged before another hook logs: the discriminator's losses
        trainer._logger_connector._first_loop_iter = False
        before, self.written = self.written, self.cadence.count(module.images_seen, module.progress)
        if before is not None and self.written > before:
            save_if_healthy(trainer, self.folder / "last.ckpt", self.num_kept)

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict) -> None:
        checkpoint["rows"] = rows_written(trainer)
        if self.batch_size is not None:
            checkpoint["draws"] = self.draws + (trainer.global_step - self.first_step) * self.batch_size


def save_if_healthy(trainer: pl.Trainer, path: Path, num_kept: int) -> None:
    """A checkpoint, unless a loss was not finite since the last look."""
    for callback in trainer.callbacks:
        if isinstance(callback, FiniteLosses):
            callback.check(trainer)
    save_checkpoint(trainer, path, num_kept)


def rows_written(trainer: pl.Trainer) -> int:
    """How many rows metrics.csv has, once all are in it."""
    for logger in trainer.loggers:
        if isinstance(logger, MetricsFile) and trainer.is_global_zero:
            logger.save()
            return logger.num_rows
    return 0


class SteppingRules(pl.Callback):
    """What becomes of a gradient before its optimizer steps: clipped in norm, or left out where it is not finite.

    To leave out, the processor has to wait for the GPU in each step; so it is done only where it is asked for.
    """

    def __init__(self, on_nan: Literal["stop", "skip"], clip: float | None, most_in_a_row: int = 50) -> None:
        self.skip, self.clip, self.most_in_a_row = on_nan == "skip", clip, most_in_a_row
        self.num_skipped, self.in_a_row = 0, defaultdict(int)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if not self.skip and self.clip is None:
            return
        weights = [weight for group in optimizer.param_groups for weight in group["params"] if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm([weight.grad for weight in weights])
        if self.skip and not bool(norm.isfinite()):
            self.leave_out(trainer, optimizer)
            return
        self.in_a_row[id(optimizer)] = 0
        if self.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(weights, self.clip, norm)

    def leave_out(self, trainer: pl.Trainer, optimizer: torch.optim.Optimizer) -> None:
        """Weights without a gradient stay as they are; the step counts, so data and schedules keep their places."""
        optimizer.zero_grad(set_to_none=True)
        self.num_skipped += 1
        self.in_a_row[id(optimizer)] += 1
        if self.in_a_row[id(optimizer)] > self.most_in_a_row:
            number = trainer.optimizers.index(optimizer)
            player = ("generator", "discriminator")[number] if len(trainer.optimizers) == 2 else "network"
            end_all(f"no finite gradient of the {player} in {self.most_in_a_row} steps, up to {trainer.global_step}")

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_) -> None:
        if self.skip:
            module.log("skipped_steps", float(self.num_skipped))

    def state_dict(self) -> dict:
        return {"num_skipped": self.num_skipped}

    def load_state_dict(self, state: dict) -> None:
        self.num_skipped = state["num_skipped"]


class FiniteLosses(pl.Callback):
    """Ends the training of all processes when a loss is not finite, and names the step and the term.

    Losses are looked at where they are; the processor waits for what was seen every so many steps only.
    """

    def __init__(self, folder: Path, every_steps: int = 20) -> None:
        self.folder, self.every_steps, self.seen = folder, every_steps, []

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_) -> None:
        losses = {name: value for name, value in trainer.callback_metrics.items() if name.startswith("loss/")}
        if losses:
            self.seen.append((trainer.global_step, list(losses), torch.stack(list(losses.values())).isfinite()))
        if trainer.global_step % self.every_steps == 0:
            self.check(trainer)

    def check(self, trainer: pl.Trainer) -> None:
        """The earliest in any process counts."""
        wrong, self.seen = first_wrong(self.seen), []
        if trainer.world_size > 1:
            found = [None] * trainer.world_size
            distributed.all_gather_object(found, wrong)
            wrong = min((one for one in found if one is not None), default=None)
        if wrong is not None:
            step, term = wrong
            end_all(f"{term} is not finite in step {step}; {last_word(self.folder)}")


def first_wrong(seen: list[tuple[int, list[str], Tensor]]) -> tuple[int, str] | None:
    """The first step with a loss that is not finite, and that loss."""
    for step, names, finite in seen:
        if not bool(finite.all()):
            return step, names[finite.tolist().index(False)]
    return None


class CollapseSigns(pl.Callback):
    """Logs and warns, once, of a discriminator that has won and of pictures that are all alike.

    diversity is the distance of two pictures of one caption, over that of two real pictures of different captions.
    """

    CHANCE = {"hinge": 2.0, "nonsaturating": 2 * math.log(2), "relativistic": math.log(2)}  # losses of a mere guess

    def __init__(
        self, kind: str, every_images: int | None, least_diversity: float = 0.01, least_loss: float = 0.02
    ) -> None:
        self.chance, self.cadence = self.CHANCE[kind], grids(every_images)
        self.least_diversity, self.least_loss = least_diversity, least_loss
        self.recent, self.warned = [], []

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, *_) -> None:
        self.before = self.cadence.count(module.images_seen, module.progress)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: None, batch: Batch, *_
    ) -> None:
        if trainer.global_step % trainer.log_every_n_steps == 0 and "loss/discriminator" in trainer.callback_metrics:
            self.weigh(trainer, float(trainer.callback_metrics["loss/discriminator"]))
        due = self.cadence.count(module.images_seen, module.progress) > self.before
        if due and trainer.is_global_zero:
            self.compare(trainer, module, batch)

    def weigh(self, trainer: pl.Trainer, loss: float) -> None:
        """A loss of the discriminator near 0 in 20 looks in a row leaves the generator nothing to learn from."""
        self.recent = [*self.recent[-19:], loss / self.chance]
        if len(self.recent) == 20 and max(self.recent) < self.least_loss:
            advice = "a lower gan.discriminator_learning_rate, gan.penalty_weight=1 or gan.augmentation may help"
            self.warn(trainer, "saturated", f"the discriminator has told all apart for 20 looks: {advice}")

    def compare(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Batch) -> None:
        value = diversity(module, batch)
        for logger in trainer.loggers:
            metrics = {"health/diversity": value, "images_seen": float(module.images_seen)}
            logger.log_metrics(metrics, trainer.global_step)
        if value < self.least_diversity and module.progress > 0.2:
            self.warn(trainer, "alike", f"pictures of a caption differ by {100 * value:.1f} % of what real ones do")

    def warn(self, trainer: pl.Trainer, sign: str, text: str) -> None:
        if sign not in self.warned and trainer.is_global_zero:
            print(f"warning: step {trainer.global_step}: {text}", flush=True)
        self.warned = [*self.warned, sign]

    def state_dict(self) -> dict:
        return {"recent": self.recent, "warned": self.warned}

    def load_state_dict(self, state: dict) -> None:
        self.recent, self.warned = state["recent"], state["warned"]


@torch.no_grad()
def diversity(module: pl.LightningModule, batch: Batch, num: int = 8) -> float:
    """Mean distance of two pictures of the same caption, relative to that of neighbouring real pictures."""
    real, captions = batch.images[:num], batch.captions[:num]
    noise = torch.randn(2, len(captions), module.config.generator.noise_dim, generator=torch.Generator().manual_seed(0))
    text = module.text_encoder(captions)
    one, two = (module.generator_ema(z, text) for z in noise.to(module.device))
    between_real = (real - real.roll(1, dims=0)).abs().mean().clamp(min=1e-3)
    return float((one - two).float().abs().mean() / between_real)
