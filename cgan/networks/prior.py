"""The prior of latents given a caption: a normalising flow (RealNVP, Dinh et al. 2017) in a mapping network's place.

Over all pictures of a caption a posterior is never quite normal. A flow learns what it is (Chen et al. 2017), so that
samples get latents like those that redraw real pictures.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Coupling(nn.Module):
    """Half of the noise, with the caption, scales and shifts the other half; invertible."""

    def __init__(self, noise_dim: int, text_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.kept = noise_dim // 2
        self.network = nn.Sequential(
            nn.Linear(self.kept + text_dim, hidden_dim),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden_dim, hidden_dim),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden_dim, 2 * (noise_dim - self.kept)),
        )
        nn.init.zeros_(self.network[-1].weight)
        nn.init.zeros_(self.network[-1].bias)

    def scale_and_shift(self, kept: Tensor, sentence: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = self.network(torch.cat([kept, sentence], dim=1)).chunk(2, dim=1)
        return 1.5 * torch.tanh(log_scale / 1.5), shift

    def forward(self, noise: Tensor, sentence: Tensor) -> Tensor:
        kept, changed = noise[:, : self.kept], noise[:, self.kept :]
        log_scale, shift = self.scale_and_shift(kept, sentence)
        return torch.cat([changed * log_scale.exp() + shift, kept], dim=1)  # halves change places

    def inverse(self, noise: Tensor, sentence: Tensor) -> tuple[Tensor, Tensor]:
        """What forward made noise from, and the log determinant of that, (B,)."""
        changed, kept = noise[:, : -self.kept], noise[:, -self.kept :]
        log_scale, shift = self.scale_and_shift(kept, sentence)
        return torch.cat([kept, (changed - shift) * (-log_scale).exp()], dim=1), -log_scale.sum(dim=1)


class Prior(nn.Module):
    """prior(noise (B, Z), sentence (B, D)) -> latent (B, Z): normal noise to what the posterior finds there.

    It computes in float32 whatever the precision around it.
    """

    def __init__(self, noise_dim: int, text_dim: int, num_layers: int, hidden_dim: int) -> None:
        super().__init__()
        layers = [Coupling(noise_dim, text_dim, hidden_dim) for _ in range(num_layers)]
        self.layers = nn.ModuleList(layers)

    def forward(self, noise: Tensor, sentence: Tensor) -> Tensor:
        with torch.autocast(noise.device.type, enabled=False):
            latent, sentence = noise.float(), normalised(sentence)
            for layer in self.layers:
                latent = layer(latent, sentence)
        return latent

    def log_density(self, latent: Tensor, sentence: Tensor) -> Tensor:
        """log p(latent | sentence), (B,)."""
        with torch.autocast(latent.device.type, enabled=False):
            noise, sentence = latent.float(), normalised(sentence)
            log_determinant = torch.zeros(len(noise), device=noise.device)
            for layer in reversed(self.layers):
                noise, added = layer.inverse(noise, sentence)
                log_determinant = log_determinant + added
            return log_determinant - 0.5 * (noise.square() + math.log(2 * math.pi)).sum(dim=1)


def normalised(sentence: Tensor) -> Tensor:
    return F.normalize(sentence.float(), dim=1) * sentence.shape[1] ** 0.5
