"""Callback that logs the pace of a training, its wait for data, gradient norms and learning rates."""

import time
from contextlib import AbstractContextManager, nullcontext

import pytorch_lightning as pl
import torch
from pytorch_lightning.profilers import Profiler

from cgan.interfaces import Batch
from cgan.training.connected import is_logging_step, record

GAN_PARTS = {
    "generator": ("generator", "prior", "matrices"),
    "discriminator": ("discriminator", "discriminator_matrices"),
}
JOINT_PARTS = {"joint": ("joint", "joint_matrices")}
FETCHING = "[_TrainingEpochLoop].train_dataloader_next"
UNTIMED = nullcontext()


class Stopwatch(Profiler):
    """Adds up the seconds in which a training waits for its batches, from Lightning's profiler hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.waited, self.since = 0.0, 0.0

    def profile(self, action_name: str) -> AbstractContextManager:
        """Returns a context that times an action; it does nothing for the many that are not the wait for a batch."""
        return super().profile(action_name) if action_name == FETCHING else UNTIMED

    def start(self, action_name: str) -> None:
        """Starts the watch if the action is the wait for a batch."""
        if action_name == FETCHING:
            self.since = time.monotonic()

    def stop(self, action_name: str) -> None:
        """Stops the watch if the action is the wait for a batch."""
        if action_name == FETCHING:
            self.waited += time.monotonic() - self.since


class Throughput(pl.Callback):
    """Logs images_seen, images_per_second, data_wait, gradient_norm/... and learning_rate/..., when losses are logged.

    The steps between are not measured one by one. data_wait is the share of the time that a step waits for its
    pictures. The time that other callbacks take at the end of a step does not count, so this callback comes first.
    parts: the optimizers' names, in their order, and the names of each one's groups of parameters.
    """

    def __init__(self, parts: dict[str, tuple[str, ...]], watch: Stopwatch) -> None:
        self.parts, self.watch = parts, watch

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Starts to count images and seconds."""
        self.seen = getattr(module, "images_seen", 0)
        self.images, self.busy, self.due = 0, 0.0, False
        self.waited: float | None = None  # the stopwatch's seconds when rates were logged before

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, *_) -> None:
        """Notes the start of a step, and whether its metrics are logged."""
        if self.waited is None:  # the first batch is not waited for: workers start
            self.waited = self.watch.waited
        self.due = is_logging_step(trainer, trainer.global_step + 1)
        self.began = time.monotonic()

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Logs the norm of a network's gradient, in logged steps."""
        if not self.due:
            return
        network = list(self.parts)[trainer.optimizers.index(optimizer)]
        weights = (weight for group in optimizer.param_groups for weight in group["params"])
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        record(trainer, {f"gradient_norm/{network}": torch.nn.utils.get_total_norm(gradients)})

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: None, batch: Batch, *_
    ) -> None:
        """Counts the images and seconds of a step, and logs the rates in logged steps."""
        self.due = self.due or trainer.should_stop  # Lightning logs the step at which the time is up as well
        if self.due and module.device.type == "cuda":
            torch.cuda.synchronize()  # it may lag behind; work counts when it is done
        self.busy += time.monotonic() - self.began
        self.images += len(batch.images) * trainer.world_size
        self.seen += len(batch.images) * trainer.world_size
        if self.due:
            record(trainer, self.pace() | self.learning_rates(trainer))
            self.images, self.busy, self.waited = 0, 0.0, self.watch.waited

    def pace(self) -> dict[str, float]:
        """Returns images_seen, and since the last call images_per_second and data_wait in [0, 1]."""
        assert self.waited is not None  # set when the first batch came
        waited = self.watch.waited - self.waited
        seconds = self.busy + waited
        rates = {"images_per_second": self.images / seconds, "data_wait": waited / seconds}
        return {"images_seen": float(self.seen), **rates}

    def learning_rates(self, trainer: pl.Trainer) -> dict[str, float]:
        """Returns the learning rate of each group of parameters that is not empty."""
        return {
            f"learning_rate/{name}": group["lr"]
            for names, optimizer in zip(self.parts.values(), trainer.optimizers, strict=True)
            for name, group in zip(names, optimizer.param_groups, strict=False)  # the last group may be left out
            if group["params"]
        }
