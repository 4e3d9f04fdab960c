"""What happens beside training: grids of samples, and images per second."""

import time
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image

CAPTIONS = (
    "a small red dog on grass",
    "a big blue car on sand, to the right",
    "an orange cat in the snow",
    "a white bird at night",
    "a yellow fish on water",
    "a purple house in front of a brick wall",
    "a green tree on grass, on the left",
    "a black ball on sand",
)
NUM_SEEDS = 8


class SampleGrid(pl.Callback):
    """A PNG of fixed captions (rows) and seeds (columns), drawn by the averaged generator every so many images."""

    def __init__(self, folder: Path, every_images: int) -> None:
        self.folder, self.every_images, self.due = folder, every_images, 0

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_) -> None:
        if int(module.images_seen) >= self.due and trainer.is_global_zero:
            self.draw(trainer, module)
            self.due += self.every_images

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.draw(trainer, module)

    @torch.no_grad()
    def draw(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(NUM_SEEDS, module.config.generator.noise_dim, generator=generator).to(module.device)
        rows = []
        for caption in CAPTIONS:
            images = module.generator_ema(noise, module.text_encoder([caption] * NUM_SEEDS))
            rows.append(torch.cat(list(images), dim=2))  # (3, H, 8 W)
        grid = ((torch.cat(rows, dim=1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
        save_png(grid, self.folder / f"images_{int(module.images_seen):09d}.png")
        for logger in trainer.loggers:
            if isinstance(logger, pl.loggers.WandbLogger):
                logger.log_image("samples", [grid], caption=[" | ".join(CAPTIONS)])


class Throughput(pl.Callback):
    """Logs images_per_second and images_seen."""

    def on_train_batch_start(self, *_) -> None:
        self.start = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs, batch, *_) -> None:
        rate = len(batch.images) * trainer.world_size / (time.monotonic() - self.start)
        module.log("images_per_second", rate, prog_bar=True)
        module.log("images_seen", module.images_seen.float())


class Checkpoints(pl.Callback):
    """Keeps last.ckpt, written every so many images and at the end, under a temporary name first."""

    def __init__(self, folder: Path, every_images: int) -> None:
        self.folder, self.every_images, self.due = folder, every_images, every_images

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_) -> None:
        if int(module.images_seen) >= self.due:
            save_checkpoint(trainer, self.folder / "last.ckpt")
            self.due += self.every_images


def save_checkpoint(trainer: pl.Trainer, path: Path) -> None:
    """Every process calls it; the one before stays whole until the new one is."""
    unfinished = path.with_suffix(".tmp")
    trainer.save_checkpoint(unfinished)
    if trainer.is_global_zero:
        unfinished.replace(path)


def save_png(picture: np.ndarray, path: Path) -> None:
    """Write a picture, uint8 (H, W, 3), under a temporary name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    Image.fromarray(picture).save(unfinished, format="PNG")
    unfinished.replace(path)
