"""What callbacks need of any LightningModule: sample(captions, noise), and images_seen where it has that."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from cgan.models.generators.base import Generator
from cgan.training.schedule import progress_of


def sample(module: pl.LightningModule, captions: list[str], noise: Tensor) -> Tensor:
    """Returns module.sample(captions, noise): images (B, 3, H, W) in [-1, 1] of B captions and noise (B, Z)."""
    method = getattr(module, "sample", None)
    if method is None:
        raise TypeError(f"{type(module).__name__} has no method sample(captions, noise) -> images (B, 3, H, W)")
    return method(captions, noise.to(module.device))


def fixed_noise(count: int, noise_dim: int) -> Tensor:
    """Returns the same standard normal noise (count, noise_dim) at every call, on the CPU."""
    return torch.randn(count, noise_dim, generator=torch.Generator().manual_seed(0))


def progress_in(trainer: pl.Trainer, module: pl.LightningModule) -> float:
    """Returns how much of a training is over, in [0, 1], as the module or the trainer knows it."""
    own = getattr(module, "progress", None)
    return progress_of(trainer) if own is None else float(own)


@contextmanager
def in_eval_mode(module: nn.Module) -> Iterator[None]:
    """Puts a module into evaluation mode and leaves each of its parts in the mode that it had before."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


class ImageCount:
    """Counts the images that a training has seen, where its module has no images_seen of its own."""

    def __init__(self) -> None:
        self.counted = 0

    def add(self, trainer: pl.Trainer, batch: object) -> None:
        """Adds the images of a batch of this process, and as many for each of the others."""
        self.counted += images_in(batch) * trainer.world_size

    def of(self, module: pl.LightningModule) -> int:
        """Returns the number of images seen by a module."""
        own = getattr(module, "images_seen", None)
        return self.counted if own is None else int(own)


def images_in(batch: object) -> int:
    """Returns the length of the first tensor in a batch of any form; 0 where there is none."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim > 0 else 0
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        return next((found for part in batch if (found := images_in(part)) > 0), 0)
    return 0


class AsGenerator(nn.Module):
    """A module's sample(captions, noise) as cgan.evaluation takes it: a generator whose text is a list of captions."""

    def __init__(self, module: pl.LightningModule, noise_dim: int, resolution: int) -> None:
        super().__init__()
        self.module, self.resolution = module, resolution
        self.config = SimpleNamespace(noise_dim=noise_dim)

    def forward(self, noise: Tensor, text: list[str]) -> Tensor:
        """Returns images (B, 3, H, W) in [-1, 1] of noise (B, Z) and captions."""
        return sample(self.module, text, noise)


def as_generator(module: pl.LightningModule, noise_dim: int, captions: list[str]) -> Generator:
    """Returns a module as a generator for cgan.evaluation, with the resolution that its samples have."""
    with torch.no_grad():
        resolution = sample(module, captions[:1], fixed_noise(1, noise_dim)).shape[-1]
    return cast(Generator, AsGenerator(module, noise_dim, resolution))


def captions_alone(captions: list[str]) -> list[str]:
    """Returns captions unchanged: the text encoder of AsGenerator, whose module encodes them itself."""
    return captions
