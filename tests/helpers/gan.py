"""A tiny GAN, a batch for it, and a few steps of its training."""

from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from cgan.config import GANConfig
from cgan.interfaces import Batch, TextFeatures
from cgan.models.discriminator import DiscriminatorConfig
from cgan.models.encoders.resnet import SmallResNet
from cgan.models.generators.base import GeneratorConfig
from cgan.models.text.lstm import LSTMConfig, LSTMTextEncoder, Vocabulary
from cgan.training.gan import TextToImageGAN

CAPTIONS = ["a red dog", "a blue cat", "a red dog", "a tree"]
LONGER = ["a red dog and a blue cat", *CAPTIONS[1:]]


def some_batch() -> Batch:
    """Four noisy pictures of CAPTIONS, 32 px high; two are of one image."""
    return Batch(torch.rand(4, 3, 32, 32) * 2 - 1, CAPTIONS, torch.tensor([0, 1, 2, 1]))


def some_text(batch: int = 2, length: int = 5, dim: int = 16) -> TextFeatures:
    """Features of sentences, which have that many words and two words in turns."""
    mask = torch.arange(length)[None] < torch.tensor([length, 2]).repeat(batch)[:batch, None]
    return TextFeatures(torch.randn(batch, dim), torch.randn(batch, length, dim), mask)


def tiny_gan(seed: int = 0, **changes) -> TextToImageGAN:
    """A GAN of 32 px that has learned nothing; changes are settings of GANConfig."""
    torch.manual_seed(seed)
    rates = {"matrix_learning_rate": 0.0, "discriminator_matrix_learning_rate": 0.0}
    changes = {"adversarial_from": 0.0, "latent_prior_alone_from": 1.0} | rates | changes
    networks = {
        "generator": GeneratorConfig(noise_dim=8, style_dim=16, width=4, max_channels=16),
        "discriminator": DiscriminatorConfig(width=4, max_channels=16, head_dim=8),
    }
    config = GANConfig(**networks | changes)
    text = LSTMTextEncoder(LSTMConfig(dim=16, embedding_dim=8), Vocabulary.of(CAPTIONS))
    return TextToImageGAN(config, text, SmallResNet(width=4, embedding_dim=16), 32)


def fit(
    module: pl.LightningModule,
    folder: str | Path,
    max_steps: int,
    ckpt_path: Path | None = None,
    batches: Sequence[Batch] | None = None,
    **settings,
) -> pl.Trainer:
    """So many steps on eight of some_batch, or on other batches; on the CPU, without a logger unless said otherwise."""
    trainer = pl.Trainer(
        max_steps=max_steps, enable_progress_bar=False, default_root_dir=folder, enable_checkpointing=False,
        enable_model_summary=False, **{"accelerator": "cpu", "logger": False} | settings,
    )  # fmt: skip
    batches = [some_batch() for _ in range(8)] if batches is None else batches
    trainer.fit(module, DataLoader(batches, batch_size=None), ckpt_path=ckpt_path)
    return trainer


def moved(before: dict, network: torch.nn.Module) -> bool:
    """Whether any weight is another one than before."""
    return any(not torch.equal(before[name], value) for name, value in network.named_parameters())


def uneven_batches(count: int = 8) -> list[Batch]:
    """Batches with captions of few words and, in every second, of more."""
    torch.manual_seed(1)
    return [some_batch()._replace(captions=[CAPTIONS, LONGER][i % 2]) for i in range(count)]


def weights_after(gan: TextToImageGAN, folder: Path, steps: int = 2, **settings) -> torch.Tensor:
    """All weights in one row after a training."""
    torch.manual_seed(2)
    fit(gan, folder, max_steps=steps, batches=uneven_batches(), **settings)
    return torch.cat([value.detach().flatten() for value in gan.parameters()])
