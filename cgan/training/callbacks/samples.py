"""Callbacks that write sample grids: of the generator, and of the joint encoder's decoders."""

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch

from cgan.evaluation.joint import reconstruction_sheet
from cgan.figures.sheets import save_png, titled
from cgan.interfaces import Batch, Sample
from cgan.pixels import as_bytes
from cgan.training.callbacks.any_module import ImageCount, fixed_noise, in_eval_mode, progress_in, sample
from cgan.training.callbacks.pictures import log_pictures
from cgan.training.joint import JointTraining
from cgan.training.schedule import grids

NUM_SEEDS = 8


class SampleGridCallback(pl.Callback):
    """Writes a PNG of a module's samples at intervals: a row a caption, a column a seed.

    The module is any that has a method sample(captions, noise) -> images (B, 3, H, W) in [-1, 1].

    folder: where the PNGs go, images_000001000.png after 1000 images seen. captions: of the rows. noise_dim: Z of the
    noise (B, Z), which is always the same. every_images: the interval; None lets cgan.training.schedule.grids choose,
    and 0 writes none at all. every_n_steps: an interval in optimizer steps, in its place. A grid is also written after
    the first step and at the end. W&B, with a slider over images seen, and TensorBoard get the same picture.
    """

    def __init__(
        self,
        folder: Path | str,
        captions: list[str],
        noise_dim: int,
        every_images: int | None = None,
        every_n_steps: int | None = None,
    ) -> None:
        self.folder, self.captions, self.noise_dim = Path(folder), captions, noise_dim
        self.cadence, self.every_n_steps = grids(every_images), every_n_steps
        self.images = ImageCount()

    @property
    def state_key(self) -> str:
        """The key of this callback's state in a checkpoint; a training may have a callback for each folder."""
        return f"SampleGridCallback({self.folder})"

    def num_due(self, trainer: pl.Trainer, module: pl.LightningModule) -> int:
        """Returns how many grids were due until now."""
        if self.every_n_steps is not None:
            return trainer.global_step // self.every_n_steps
        return self.cadence.count(self.images.of(module), progress_in(trainer, module))

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Notes whether this training starts from the beginning."""
        self.is_first = trainer.global_step == 0

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, *_) -> None:
        """Notes how many grids were due before the step."""
        self.before = self.num_due(trainer, module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: object, batch: object, *_
    ) -> None:
        """Writes a grid after the first step, and when one is due."""
        self.images.add(trainer, batch)
        first, self.is_first = self.is_first, False
        if first or self.num_due(trainer, module) > self.before:
            self.write(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Writes the last grid."""
        self.write(trainer, module)

    def state_dict(self) -> dict:
        """Returns the number of images counted."""
        return {"counted": self.images.counted}

    def load_state_dict(self, state: dict) -> None:
        """Restores a state_dict()."""
        self.images.counted = state["counted"]

    @torch.no_grad()
    def write(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write the grid, named for the images seen, in the first process."""
        if not trainer.is_global_zero or (self.cadence.never and self.every_n_steps is None):
            return
        noise, seen, rows = fixed_noise(NUM_SEEDS, self.noise_dim), self.images.of(module), []
        with in_eval_mode(module):
            for caption in self.captions:
                images = sample(module, [caption] * NUM_SEEDS, noise)
                row = torch.cat(list(images), dim=2).permute(1, 2, 0)  # (H, 8 W, 3)
                rows.append(titled(as_bytes(row).cpu().numpy(), caption))
        grid = np.concatenate(rows)
        save_png(grid, self.folder / f"images_{seen:09d}.png")
        log_pictures(trainer, "samples/grid", [grid], seen, [" | ".join(self.captions)])


class ReconstructionSheet(pl.Callback):
    """Writes a PNG of what the joint encoder's decoders make of some pictures and their captions.

    With every_images=None, cgan.training.schedule.grids chooses the interval. It is also written after the first step
    and at the end; 0 switches all of it off.
    """

    def __init__(self, folder: Path, every_images: int | None, samples: list[Sample]) -> None:
        self.folder, self.cadence, self.samples = folder, grids(every_images), samples
        self.seen, self.num_written = 0, 0

    def on_train_batch_end(self, trainer: pl.Trainer, module: JointTraining, outputs: object, batch: Batch, *_) -> None:
        """Counts the images of the step; writes a sheet after the first step, and when one is due."""
        self.seen += len(batch.images) * trainer.world_size
        before, self.num_written = self.num_written, self.cadence.count(self.seen, module.progress)
        due = trainer.global_step == 1 or self.num_written > before
        if due and not self.cadence.never and trainer.is_global_zero:
            self.write(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, module: JointTraining) -> None:
        """Writes the last sheet."""
        if not self.cadence.never and trainer.is_global_zero:
            self.write(trainer, module)

    def write(self, trainer: pl.Trainer, module: JointTraining) -> None:
        """Write the sheet, named for the images seen."""
        sheet = reconstruction_sheet(module.joint, self.samples)
        module.train()
        save_png(sheet, self.folder / f"reconstructions_{self.seen:09d}.png")
        log_pictures(trainer, "samples/reconstructions", [sheet], self.seen)
