"""Callback that writes last.ckpt during a training, and the function that every checkpoint goes through."""

from pathlib import Path

import pytorch_lightning as pl

from cgan.training.callbacks.health import FiniteLosses
from cgan.training.checkpoint_files import save_checkpoint
from cgan.training.connected import callbacks_of_kind
from cgan.training.distributed import all_gather_values
from cgan.training.gan import TextToImageGAN
from cgan.training.metrics_file import MetricsFile
from cgan.training.processes import end_all
from cgan.training.schedule import checkpoints


class Checkpoints(pl.Callback):
    """Writes last.ckpt every `every_images` images and keeps num_kept of them; the caller of fit writes the final one.

    A checkpoint is written before the next step, when all of the previous one is logged, and holds the number of rows
    in metrics.csv. With every_images=None, cgan.training.schedule.checkpoints chooses the interval; with 0 a checkpoint
    is written only at the end and on a signal. It must come last among the callbacks, so that it saves the states that
    the others have after the step.
    """

    def __init__(self, folder: Path, every_images: int | None, num_kept: int) -> None:
        self.folder, self.cadence, self.num_kept = folder, checkpoints(every_images), num_kept
        self.written: int | None = None  # how often one was due before; None at the start
        self.batch_size: int | None = None  # None until count_draws sets it
        self.draws, self.first_step = 0, 0

    def count_draws(self, start_index: int, batch_size: int) -> None:
        """Set how many pictures were drawn from the data set before, and how many each step draws from now on."""
        self.draws, self.batch_size = start_index, batch_size

    def on_train_start(self, trainer: pl.Trainer, module: TextToImageGAN) -> None:
        """Starts to count, and ends a training whose processes go on from different steps."""
        self.written, self.first_step = None, trainer.global_step
        if trainer.world_size > 1:
            found = all_gather_values(trainer.global_step)
            if len(set(found)) > 1:
                end_all(f"the processes go on from different steps, {found}: {self.folder} must be on a shared disk")

    def on_train_batch_start(self, trainer: pl.Trainer, module: TextToImageGAN, *_) -> None:
        """Writes last.ckpt before a step, if one is due since the step before."""
        # Lightning counts one too many when it goes on from a checkpoint that was written here
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
        # and in the first step it forgets what was logged before another hook logs: the discriminator's losses
        trainer._logger_connector._first_loop_iter = False
        before, self.written = self.written, self.cadence.count(module.images_seen, module.progress)
        if before is not None and self.written > before:
            save_if_healthy(trainer, self.folder / "last.ckpt", self.num_kept)

    def on_save_checkpoint(self, trainer: pl.Trainer, module: TextToImageGAN, checkpoint: dict) -> None:
        """Adds the rows of metrics.csv and the number of pictures drawn to a checkpoint."""
        checkpoint["rows"] = rows_written(trainer)
        if self.batch_size is not None:
            checkpoint["draws"] = self.draws + (trainer.global_step - self.first_step) * self.batch_size


def save_if_healthy(trainer: pl.Trainer, path: Path, num_kept: int) -> None:
    """Write a checkpoint, after the losses since the last check have been found finite.

    Raises UserError, or FirstProcessReports, otherwise.
    """
    for callback in callbacks_of_kind(trainer, FiniteLosses):
        callback.check(trainer)
    save_checkpoint(trainer, path, num_kept)


def rows_written(trainer: pl.Trainer) -> int:
    """Returns the number of rows of metrics.csv, after all waiting rows have been written."""
    for logger in trainer.loggers:
        if isinstance(logger, MetricsFile) and trainer.is_global_zero:
            logger.save()
            return logger.num_rows
    return 0
