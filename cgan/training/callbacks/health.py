"""Callbacks that watch over losses, gradients and samples, and warn or end a training that has gone wrong."""

import math
from collections import defaultdict
from pathlib import Path
from typing import Literal

import pytorch_lightning as pl
import torch
from torch import Tensor

from cgan.interfaces import Batch, Report, silent
from cgan.training.checkpoint_files import resume_hint
from cgan.training.connected import is_logging_step, record
from cgan.training.distributed import all_gather_values
from cgan.training.gan import TextToImageGAN
from cgan.training.processes import end_all
from cgan.training.schedule import grids


class SteppingRules(pl.Callback):
    """Clips the norm of gradients before an optimizer steps, and skips steps whose gradients are not finite.

    Skipping (on_nan="skip") makes the CPU wait for the GPU in each step, so it is done only on request. More than
    most_in_a_row skipped steps of one optimizer end the training with a UserError.
    """

    def __init__(self, on_nan: Literal["stop", "skip"], clip: float | None, most_in_a_row: int = 50) -> None:
        self.skip, self.clip, self.most_in_a_row = on_nan == "skip", clip, most_in_a_row
        self.num_skipped = 0
        self.in_a_row: defaultdict[int, int] = defaultdict(int)  # by the id of an optimizer

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Clips the gradients of an optimizer, or skips its step if they are not finite."""
        if not self.skip and self.clip is None:
            return
        weights = [weight for group in optimizer.param_groups for weight in group["params"] if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm([weight.grad for weight in weights])
        if self.skip and not bool(norm.isfinite()):
            self.skip_step(trainer, optimizer)
            return
        self.in_a_row[id(optimizer)] = 0
        if self.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(weights, self.clip, norm)

    def skip_step(self, trainer: pl.Trainer, optimizer: torch.optim.Optimizer) -> None:
        """Remove the gradients, so that weights stay as they are; the step counts for data and schedules."""
        optimizer.zero_grad(set_to_none=True)
        self.num_skipped += 1
        self.in_a_row[id(optimizer)] += 1
        if self.in_a_row[id(optimizer)] > self.most_in_a_row:
            number = trainer.optimizers.index(optimizer)
            network = ("generator", "discriminator")[number] if len(trainer.optimizers) == 2 else "network"
            end_all(f"no finite gradient of the {network} in {self.most_in_a_row} steps, up to {trainer.global_step}")

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_) -> None:
        """Logs the number of skipped steps."""
        if self.skip:
            record(trainer, {"skipped_steps": float(self.num_skipped)})

    def state_dict(self) -> dict:
        """Returns the number of skipped steps."""
        return {"num_skipped": self.num_skipped}

    def load_state_dict(self, state: dict) -> None:
        """Restores the number of skipped steps."""
        self.num_skipped = state["num_skipped"]


class FiniteLosses(pl.Callback):
    """Ends the training of all processes with a UserError when a loss is not finite; it names the step and the loss.

    A step copies its losses into one tensor on their device; the CPU reads those of every_steps steps at once.
    """

    def __init__(self, folder: Path, every_steps: int = 20) -> None:
        self.folder, self.every_steps = folder, every_steps
        self.seen: list[tuple[int, list[str], Tensor]] = []  # steps, names of losses, and the losses

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_) -> None:
        """Keeps the losses of the step, and checks all that are kept every `every_steps` steps."""
        losses = {name: value for name, value in trainer.callback_metrics.items() if name.startswith("loss/")}
        if losses:
            self.seen.append((trainer.global_step, list(losses), torch.stack(list(losses.values()))))
        if trainer.global_step % self.every_steps == 0:
            self.check(trainer)

    def check(self, trainer: pl.Trainer) -> None:
        """Read the losses since the last check; the earliest one that is not finite in any process counts."""
        wrong, self.seen = first_wrong(self.seen), []
        if trainer.world_size > 1:
            wrong = min((one for one in all_gather_values(wrong) if one is not None), default=None)
        if wrong is not None:
            step, term = wrong
            end_all(f"{term} is not finite in step {step}; {resume_hint(self.folder)}")


def first_wrong(seen: list[tuple[int, list[str], Tensor]]) -> tuple[int, str] | None:
    """Returns the first step with a loss that is not finite, and the name of that loss; None if all are finite."""
    if not seen:
        return None
    finite = torch.cat([losses for _, _, losses in seen]).isfinite().tolist()  # the one time that the CPU waits
    terms = ((step, name) for step, names, _ in seen for name in names)
    return next((term for term, fine in zip(terms, finite, strict=True) if not fine), None)


class CollapseSigns(pl.Callback):
    """Warns once of a discriminator that has won and of samples that are all alike; logs health/diversity.

    health/diversity is the distance of two samples of one caption, divided by that of two real pictures. every_images
    None lets cgan.training.schedule.grids choose how often it is computed. report gets the warnings.
    """

    CHANCE = {"hinge": 2.0, "nonsaturating": 2 * math.log(2), "relativistic": math.log(2)}  # losses of a random guess

    def __init__(
        self,
        kind: str,
        every_images: int | None,
        report: Report = silent,
        least_diversity: float = 0.01,
        least_loss: float = 0.02,
    ) -> None:
        self.report = report
        self.chance, self.cadence = self.CHANCE[kind], grids(every_images)
        self.least_diversity, self.least_loss = least_diversity, least_loss
        self.recent: list[float] = []  # losses of the discriminator, relative to those of a random guess
        self.warned: list[str] = []  # the signs that were reported

    def on_train_batch_start(self, trainer: pl.Trainer, module: TextToImageGAN, *_) -> None:
        """Notes how often the diversity was due before the step."""
        self.before = self.cadence.count(module.images_seen, module.progress)

    def on_train_batch_end(self, trainer: pl.Trainer, module: TextToImageGAN, outputs: None, batch: Batch, *_) -> None:
        """Checks the discriminator's loss in logged steps, and the diversity of samples when it is due."""
        if is_logging_step(trainer, trainer.global_step) and "loss/discriminator" in trainer.callback_metrics:
            self.check_discriminator(trainer, float(trainer.callback_metrics["loss/discriminator"]))
        due = self.cadence.count(module.images_seen, module.progress) > self.before
        if due and trainer.is_global_zero:
            self.check_diversity(trainer, module, batch)

    def check_discriminator(self, trainer: pl.Trainer, loss: float) -> None:
        """Warn of a discriminator loss near 0 in 20 logged steps in a row: the generator can't learn from it."""
        self.recent = [*self.recent[-19:], loss / self.chance]
        if len(self.recent) == 20 and max(self.recent) < self.least_loss:
            rates = "gan.discriminator_learning_rate and gan.discriminator_matrix_learning_rate"
            advice = f"lower {rates}, gan.penalty_weight=1 or gan.augmentation may help"
            self.warn(trainer, "saturated", f"the discriminator's loss is near 0, 20 times in a row: {advice}")

    def check_diversity(self, trainer: pl.Trainer, module: TextToImageGAN, batch: Batch) -> None:
        """Log the diversity of samples, and warn where it is too low after a fifth of the training."""
        value = diversity(module, batch)
        for logger in trainer.loggers:
            metrics = {"health/diversity": value, "images_seen": float(module.images_seen)}
            logger.log_metrics(metrics, trainer.global_step)
        if value < self.least_diversity and module.progress > 0.2:
            self.warn(
                trainer, "alike", f"samples of one caption differ by {100 * value:.1f} % of what real pictures do"
            )

    def warn(self, trainer: pl.Trainer, sign: str, text: str) -> None:
        """Report a warning, unless there was one of the same sign."""
        if sign not in self.warned and trainer.is_global_zero:
            self.report(f"warning: step {trainer.global_step}: {text}")
        self.warned = [*self.warned, sign]

    def state_dict(self) -> dict:
        """Returns the recent losses and the signs that were warned of."""
        return {"recent": self.recent, "warned": self.warned}

    def load_state_dict(self, state: dict) -> None:
        """Restores a state_dict()."""
        self.recent, self.warned = state["recent"], state["warned"]


@torch.no_grad()
def diversity(module: TextToImageGAN, batch: Batch, num: int = 8) -> float:
    """Returns the mean distance of two pictures of the same caption, relative to that of neighbouring real pictures."""
    real, captions = batch.images[:num], batch.captions[:num]
    noise = torch.randn(2, len(captions), module.config.generator.noise_dim, generator=torch.Generator().manual_seed(0))
    text = module.text_encoder(captions)
    one, two = (module.generator_ema(z, text) for z in noise.to(module.device))
    between_real = (real - real.roll(1, dims=0)).abs().mean().clamp(min=1e-3)
    return float((one - two).float().abs().mean() / between_real)
