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

from cgan.errors import UserError

NUM_STEPS = 8  # from noise to a latent; more bring nothing
NUM_ITERATIONS = 24  # by which each of these steps is undone, to less than 1e-4 of a latent
NUM_WAVES = 4  # frequencies at which time is encoded, each by a sine and a cosine


class Prior(nn.Module, ABC):
    """Maps noise (B, Z) of a normal distribution and sentences (B, D) to latents (B, Z) like those of the posterior.

    Always computes in float32, regardless of autocast.
    """

    @abstractmethod
    def forward(self, noise: Tensor, sentence: Tensor) -> Tensor:
        """Returns latents (B, Z) of standard normal noise (B, Z) and sentences (B, D)."""

    @abstractmethod
    def inverse(self, latent: Tensor, sentence: Tensor) -> Tensor:
        """Returns the noise (B, Z) that becomes latents (B, Z) with sentences (B, D)."""

    @abstractmethod
    def loss(self, latent: Tensor, sentence: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """Returns a scalar loss: how badly the prior explains latents (B, Z) of the posterior.

        Random numbers come from the caller: noise (B, Z), standard normal, and time (B, 1), uniform in [0, 1).
        """


class NoPrior(Prior):
    """Uses the noise itself as the latent."""

    def forward(self, noise: Tensor, sentence: Tensor) -> Tensor:
        """Returns the noise (B, Z) unchanged."""
        return noise

    def inverse(self, latent: Tensor, sentence: Tensor) -> Tensor:
        """Returns the latents (B, Z) unchanged."""
        return latent

    def loss(self, latent: Tensor, sentence: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """Returns a scalar 0, as there is nothing to learn."""
        return latent.new_zeros(())


class FlowMatchingPrior(Prior):
    """A velocity that carries noise at time 0 to latents at time 1, by straight lines on average (Lipman et al. 2023).

    It finds separate modes of the latents of a caption better than couplings do (docs/results.md). A guidance above 1
    goes beyond the velocity of the caption, away from that without one (Ho and Salimans 2022); training then has to
    leave captions out now and then, which are sentences of zeros here.
    """

    def __init__(self, noise_dim: int, text_dim: int, num_layers: int, hidden_dim: int, guidance: float = 1.0) -> None:
        super().__init__()
        self.guidance = guidance
        self.start = nn.Linear(noise_dim + text_dim + 2 * NUM_WAVES, hidden_dim)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(hidden_dim),
                nn.Linear(hidden_dim, hidden_dim),
                nn.SiLU(),
                nn.Linear(hidden_dim, hidden_dim),
            )
            for _ in range(num_layers)
        )
        self.end = nn.Linear(hidden_dim, noise_dim)
        nn.init.zeros_(self.end.weight)
        nn.init.zeros_(self.end.bias)

    def velocity(self, x: Tensor, time: Tensor, sentence: Tensor) -> Tensor:
        """Returns the velocity (B, Z) at x (B, Z) and time (B, 1), for normalised sentences (B, D)."""
        waves = time * math.pi * 2.0 ** torch.arange(NUM_WAVES, device=x.device)
        hidden = self.start(torch.cat([x, sentence, waves.sin(), waves.cos()], dim=1))  # (B, hidden_dim)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return self.end(F.silu(hidden))

    def guided(self, x: Tensor, time: Tensor, sentence: Tensor) -> Tensor:
        """Returns the velocity (B, Z) by which sampling goes: with guidance, that of the caption and more."""
        if self.guidance == 1:
            return self.velocity(x, time, sentence)
        both = torch.cat([sentence, torch.zeros_like(sentence)])
        with_caption, without = self.velocity(torch.cat([x, x]), torch.cat([time, time]), both).chunk(2)
        return torch.lerp(without, with_caption, self.guidance)

    def forward(self, noise: Tensor, sentence: Tensor) -> Tensor:
        """Returns latents (B, Z), in float32, of noise (B, Z) and sentences (B, D), by NUM_STEPS Euler steps."""
        with torch.autocast(noise.device.type, enabled=False):
            x, sentence = noise.float(), normalised(sentence)
            for step in range(NUM_STEPS):  # by Euler's rule
                time = x.new_full((x.shape[0], 1), step / NUM_STEPS)  # not len(x), which torch.export takes as fixed
                x = x + self.guided(x, time, sentence) / NUM_STEPS
        return x

    def inverse(self, latent: Tensor, sentence: Tensor) -> Tensor:
        """Returns the noise (B, Z), in float32, that forward maps to latents (B, Z), with sentences (B, D).

        Each Euler step is undone by a fixed-point iteration, not by a step back, so that it is exact up to rounding
        where a step changes distances by less than a half. Elsewhere it is the best point that the iteration finds.
        """
        with torch.autocast(latent.device.type, enabled=False):
            x, sentence = latent.float(), normalised(sentence)
            for step in reversed(range(NUM_STEPS)):
                x = self.undone(x, x.new_full((x.shape[0], 1), step / NUM_STEPS), sentence)
        return x

    def undone(self, after: Tensor, time: Tensor, sentence: Tensor) -> Tensor:
        """Returns the point (B, Z) at a time (B, 1) from which one Euler step leads to `after` (B, Z)."""
        x = after
        for _ in range(NUM_ITERATIONS):
            x = (x + after - self.guided(x, time, sentence) / NUM_STEPS) / 2  # damped, so that it converges oftener
        return x

    def loss(self, latent: Tensor, sentence: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """Returns the mean squared error of the velocity at a time on the way from noise to latents."""
        with torch.autocast(latent.device.type, enabled=False):
            latent = latent.float()
            found = self.velocity(torch.lerp(noise, latent, time), time, normalised(sentence))
            return (found - (latent - noise)).square().mean()


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

    def forward(self, noise: Tensor, sentence: Tensor) -> Tensor:
        """Returns latents (B, Z), in float32, of noise (B, Z) and sentences (B, D), coupling by coupling."""
        with torch.autocast(noise.device.type, enabled=False):
            latent, sentence = noise.float(), normalised(sentence)
            for layer in self.layers:
                latent = layer(latent, sentence)
        return latent

    def inverse(self, latent: Tensor, sentence: Tensor) -> Tensor:
        """Returns the noise (B, Z), in float32, that forward maps to latents (B, Z), with sentences (B, D)."""
        with torch.autocast(latent.device.type, enabled=False):
            noise, sentence = latent.float(), normalised(sentence)
            for layer in reversed(self.layers):
                noise, _ = layer.inverse(noise, sentence)
        return noise

    def loss(self, latent: Tensor, sentence: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """Returns the mean negative log density; noise and time are not used."""
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


def normalised(sentence: Tensor) -> Tensor:
    """Returns sentences (B, D) in float32, each scaled to the length sqrt(D)."""
    return F.normalize(sentence.float(), dim=1) * sentence.shape[1] ** 0.5


def build_prior(
    form: str, noise_dim: int, text_dim: int, num_layers: int, hidden_dim: int, guidance: float = 1.0
) -> Prior:
    """Returns the latent prior of a form, flow_matching or couplings; with num_layers=0 the noise is the latent.

    Raises UserError for couplings with noise_dim below 2.
    """
    if num_layers == 0:
        return NoPrior()
    if form == "couplings":
        return CouplingPrior(noise_dim, text_dim, num_layers, hidden_dim)
    return FlowMatchingPrior(noise_dim, text_dim, num_layers, hidden_dim, guidance)
