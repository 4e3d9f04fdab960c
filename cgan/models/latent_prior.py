"""The prior of latents given a caption: a flow in place of a mapping network.

Over all images of a caption the posterior is never quite normal, as a caption leaves several possibilities open. A flow
learns its distribution (Chen et al. 2017), so that samples start from latents like those that redraw real images.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cgan.interfaces import TextFeatures, UserError


class Prior(nn.Module, ABC):
    """Maps noise (B, Z) of a normal distribution and text to latents (B, Z) like those of the posterior.

    Samples are always computed in float32, regardless of autocast.
    """

    @abstractmethod
    def forward(self, noise: Tensor, text: TextFeatures) -> Tensor:
        """Returns latents (B, Z) of standard normal noise (B, Z) and text of B captions."""

    @abstractmethod
    def inverse(self, latent: Tensor, text: TextFeatures) -> Tensor:
        """Returns the noise (B, Z) that becomes latents (B, Z) with text of B captions."""

    @abstractmethod
    def loss(
        self, latent: Tensor, text: TextFeatures, noise: Tensor, time: Tensor, told: Tensor | None = None
    ) -> Tensor:
        """Returns a scalar loss: how badly the prior explains latents (B N, Z) of the posterior, N for each caption.

        Random numbers come from the caller: noise (B N, Z), standard normal, time (B N, 1), uniform in [0, 1), and told
        (B N, 2), which is 0 where a sentence, or where words, are kept from the prior, else 1; None: all are told.
        """


class NoPrior(Prior):
    """Uses the noise itself as the latent."""

    def forward(self, noise: Tensor, text: TextFeatures) -> Tensor:
        """Returns the noise (B, Z) unchanged."""
        return noise

    def inverse(self, latent: Tensor, text: TextFeatures) -> Tensor:
        """Returns the latents (B, Z) unchanged."""
        return latent

    def loss(
        self, latent: Tensor, text: TextFeatures, noise: Tensor, time: Tensor, told: Tensor | None = None
    ) -> Tensor:
        """Returns a scalar 0, as there is nothing to learn."""
        return latent.new_zeros(())


class Coupling(nn.Module):
    """An invertible layer: half of the noise, with the caption, scales and shifts the other half."""

    def __init__(self, noise_dim: int, text_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.kept = noise_dim // 2
        self.network = nn.Sequential(
            nn.Linear(self.kept + text_dim, hidden_dim),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden_dim, hidden_dim),
            nn.LeakyReLU(0.2),
            last := nn.Linear(hidden_dim, 2 * (noise_dim - self.kept)),
        )
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def scale_and_shift(self, kept: Tensor, sentence: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the log scale and the shift, each (B, Z - kept), of the half that is changed."""
        log_scale, shift = self.network(torch.cat([kept, sentence], dim=1)).chunk(2, dim=1)
        return 1.5 * torch.tanh(log_scale / 1.5), shift

    def forward(self, noise: Tensor, sentence: Tensor) -> Tensor:
        """Returns the transformed noise (B, Z), its halves swapped, of noise (B, Z) and sentences (B, D)."""
        kept, changed = noise[:, : self.kept], noise[:, self.kept :]
        log_scale, shift = self.scale_and_shift(kept, sentence)
        return torch.cat([changed * log_scale.exp() + shift, kept], dim=1)  # the halves are swapped

    def inverse(self, noise: Tensor, sentence: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the noise (B, Z) that forward maps to its output, and the log determinant of the inverse, (B,)."""
        changed, kept = noise[:, : -self.kept], noise[:, -self.kept :]
        log_scale, shift = self.scale_and_shift(kept, sentence)
        return torch.cat([kept, (changed - shift) * (-log_scale).exp()], dim=1), -log_scale.sum(dim=1)


class CouplingPrior(Prior):
    """RealNVP (Dinh et al. 2017): couplings, trained by the exact density of latents."""

    layers: Sequence[Coupling]  # a ModuleList

    def __init__(self, noise_dim: int, text_dim: int, num_layers: int, hidden_dim: int) -> None:
        super().__init__()
        if noise_dim < 2:
            hint = "gan.generator.latent_prior=couplings parts it in two; give at least 2"
            raise UserError(f"gan.generator.noise_dim={noise_dim}: {hint}")
        layers = [Coupling(noise_dim, text_dim, hidden_dim) for _ in range(num_layers)]
        self.layers = cast("Sequence[Coupling]", nn.ModuleList(layers))

    def forward(self, noise: Tensor, text: TextFeatures) -> Tensor:
        """Returns latents (B, Z), in float32, of noise (B, Z) and text, coupling by coupling."""
        with torch.autocast(noise.device.type, enabled=False):
            latent, sentence = noise.float(), normalised(text.sentence)
            for layer in self.layers:
                latent = layer(latent, sentence)
        return latent

    def inverse(self, latent: Tensor, text: TextFeatures) -> Tensor:
        """Returns the noise (B, Z), in float32, that forward maps to latents (B, Z), with the same text."""
        with torch.autocast(latent.device.type, enabled=False):
            noise, sentence = latent.float(), normalised(text.sentence)
            for layer in reversed(self.layers):
                noise, _ = layer.inverse(noise, sentence)
        return noise

    def loss(
        self, latent: Tensor, text: TextFeatures, noise: Tensor, time: Tensor, told: Tensor | None = None
    ) -> Tensor:
        """Returns the mean negative log density of latents (B N, Z), N for each caption; the rest is not used."""
        sentence = text.sentence.repeat_interleave(len(latent) // len(text.sentence), dim=0)
        return -self.log_density(latent, sentence).mean()

    def log_density(self, latent: Tensor, sentence: Tensor) -> Tensor:
        """Returns log p(latent | sentence) in nats, (B,), of latents (B, Z) and sentences (B, D)."""
        with torch.autocast(latent.device.type, enabled=False):
            noise, sentence = latent.float(), normalised(sentence)
            log_determinant = torch.zeros(len(noise), device=noise.device)
            for layer in reversed(self.layers):
                noise, added = layer.inverse(noise, sentence)
                log_determinant = log_determinant + added
            return log_determinant - 0.5 * (noise.square() + math.log(2 * math.pi)).sum(dim=1)


def normalised(features: Tensor) -> Tensor:
    """Returns sentences (B, D), or words (B, L, D), in float32, each scaled to the length sqrt(D)."""
    return F.normalize(features.float(), dim=-1) * features.shape[-1] ** 0.5


def sentence_alone(sentence: Tensor) -> TextFeatures:
    """Returns text of sentences (B, D) whose words are not known."""
    words = sentence.new_zeros(len(sentence), 0, sentence.shape[1])
    return TextFeatures(sentence, words, words.new_zeros(words.shape[:2], dtype=torch.bool))
