"""Callbacks that write sample grids: of the generator, and of the joint encoder's decoders."""

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import WandbLogger

from cgan.evaluation.joint import reconstruction_sheet
from cgan.figures.sheets import save_png, titled
from cgan.interfaces import Batch, Sample
from cgan.pixels import as_bytes
from cgan.training.gan import TextToImageGAN
from cgan.training.joint import JointTraining
from cgan.training.schedule import grids

NUM_SEEDS = 8


class SampleGrid(pl.Callback):
    """Writes a PNG of the averaged generator's samples every `every_images` images: a row a caption, a column a seed.

    With every_images=None, cgan.training.schedule.grids chooses the interval. It is also written after the first step
    and at the end; 0 switches all of it off. W&B gets the same picture.
    """

    def __init__(self, folder: Path, every_images: int | None, captions: list[str]) -> None:
        self.folder, self.cadence, self.captions = folder, grids(every_images), captions

    def on_train_batch_start(self, trainer: pl.Trainer, module: TextToImageGAN, *_) -> None:
        """Notes how many grids were due before the step."""
        self.before = self.cadence.count(module.images_seen, module.progress)

    def on_train_batch_end(self, trainer: pl.Trainer, module: TextToImageGAN, *_) -> None:
        """Writes a grid after the first step, and when one is due."""
        due = trainer.global_step == 1 or self.cadence.count(module.images_seen, module.progress) > self.before
        if due and not self.cadence.never and trainer.is_global_zero:
            self.write(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, module: TextToImageGAN) -> None:
        """Writes the last grid."""
        if not self.cadence.never and trainer.is_global_zero:
            self.write(trainer, module)

    @torch.no_grad()
    def write(self, trainer: pl.Trainer, module: TextToImageGAN) -> None:
        """Write the grid, named for the images seen."""
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
            if isinstance(logger, WandbLogger):
                logger.log_image("samples", [grid], caption=[" | ".join(self.captions)])


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
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("reconstructions", [sheet])
