"""Latent priors by flow matching (Lipman et al. 2023): a velocity carries noise at time 0 to latents at time 1.

In training each latent of a picture is drawn by the very noise that the flow starts from. That pairs noise and latents
of a picture by optimal transport: numbers that a latent leaves free do not move at all, and the last steps can be
undone, as they never map all noise to one point.
"""

import math
from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cgan.interfaces import TextFeatures
from cgan.models.latent_prior import Prior, normalised

NUM_STEPS = 8  # from noise to a latent; more bring nothing
NUM_ITERATIONS = 24  # by which each of these steps is undone, to less than 1e-4 of a latent
NUM_WAVES = 4  # frequencies at which time is encoded, each by a sine and a cosine
NUM_HEADS = 8  # of attention to words


class FlowPrior(Prior):
    """Samples and learns by velocities, which a subclass computes.

    A guidance above 1 goes beyond the velocity of the caption, away from that without one (Ho and Salimans 2022);
    training then has to leave captions out now and then.
    """

    def __init__(self, guidance: float) -> None:
        super().__init__()
        self.guidance = guidance

    @abstractmethod
    def given(self, text: TextFeatures) -> Any:
        """Returns what velocities need of text, which is computed once for all steps."""

    @abstractmethod
    def velocity(self, x: Tensor, time: Tensor, given: Any, told: Tensor) -> Tensor:
        """Returns velocities (B, N, Z) at x (B, N, Z) and time (B, N, 1): N points for each of B captions.

        told (B, N, 2) is 0 where a sentence, or where words, are kept from the prior, else 1.
        """

    def guided(self, x: Tensor, time: float, given: Any) -> Tensor:
        """Returns the velocity (B, 1, Z) by which sampling goes: with guidance, that of the caption and more."""
        told = x.new_ones(x.shape[0], 1, 2)
        if self.guidance == 1:
            return self.velocity(x, torch.full_like(x[..., :1], time), given, told)
        twice = torch.cat([x, x], dim=1)  # (B, 2, Z)
        told = torch.cat([told, torch.zeros_like(told)], dim=1)
        both = self.velocity(twice, torch.full_like(twice[..., :1], time), given, told)
        with_caption, without = both.chunk(2, dim=1)
        return torch.lerp(without, with_caption, self.guidance)

    def forward(self, noise: Tensor, text: TextFeatures) -> Tensor:
        """Returns latents (B, Z), in float32, of noise (B, Z) and text, by NUM_STEPS Euler steps."""
        with torch.autocast(noise.device.type, enabled=False):
            x, given = noise.float()[:, None], self.given(text)
            for step in range(NUM_STEPS):
                x = x + self.guided(x, step / NUM_STEPS, given) / NUM_STEPS
        return x[:, 0]

    def inverse(self, latent: Tensor, text: TextFeatures) -> Tensor:
        """Returns the noise (B, Z), in float32, that forward maps to latents (B, Z), with the same text.

        Each Euler step is undone by a fixed-point iteration, not by a step back, so that it is exact up to rounding
        where a step changes distances by less than a half. Elsewhere it is the best point that the iteration finds.
        """
        with torch.autocast(latent.device.type, enabled=False):
            x, given = latent.float()[:, None], self.given(text)
            for step in reversed(range(NUM_STEPS)):
                x = self.undone(x, step / NUM_STEPS, given)
        return x[:, 0]

    def undone(self, after: Tensor, time: float, given: Any) -> Tensor:
        """Returns the point (B, 1, Z) at a time from which one Euler step leads to `after` (B, 1, Z)."""
        x = after
        for _ in range(NUM_ITERATIONS):
            x = (x + after - self.guided(x, time, given) / NUM_STEPS) / 2  # damped, so that it converges oftener
        return x

    def loss(
        self, latent: Tensor, text: TextFeatures, noise: Tensor, time: Tensor, told: Tensor | None = None
    ) -> Tensor:
        """Returns the mean squared error of the velocity at a time on the way from noise to latents.

        Its networks follow autocast: the error of a velocity is far above the rounding of bfloat16.
        """
        told = latent.new_ones(len(latent), 2) if told is None else told
        num, latent = len(text.sentence), latent.float()
        x, time, told = (a.unflatten(0, (num, -1)) for a in (torch.lerp(noise, latent, time), time, told))
        found = self.velocity(x, time, self.given(text), told).flatten(0, 1)
        return (found.float() - (latent - noise)).square().mean()


def waves_of(time: Tensor) -> Tensor:
    """Returns sines and cosines (B, N, 2 NUM_WAVES) of times (B, N, 1)."""
    waves = time * math.pi * 2.0 ** torch.arange(NUM_WAVES, device=time.device)
    return torch.cat([waves.sin(), waves.cos()], dim=-1)


def two_layers(hidden_dim: int) -> nn.Sequential:
    """Returns two layers on normalised hidden units."""
    return nn.Sequential(
        nn.LayerNorm(hidden_dim), nn.Linear(hidden_dim, hidden_dim), nn.SiLU(), nn.Linear(hidden_dim, hidden_dim)
    )


def zero_layer(in_dim: int, out_dim: int) -> nn.Linear:
    """Returns a linear layer that starts at zero, so that the prior starts as the noise itself."""
    layer = nn.Linear(in_dim, out_dim)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class FlowMatchingPrior(FlowPrior):
    """A velocity by residual layers on the point, the sentence and the time.

    It finds separate modes of the latents of a caption better than couplings do (docs/results.md).
    """

    def __init__(self, noise_dim: int, text_dim: int, num_layers: int, hidden_dim: int, guidance: float = 1.0) -> None:
        super().__init__(guidance)
        self.start = nn.Linear(noise_dim + text_dim + 2 * NUM_WAVES, hidden_dim)
        self.blocks = nn.ModuleList(two_layers(hidden_dim) for _ in range(num_layers))
        self.end = zero_layer(hidden_dim, noise_dim)

    def given(self, text: TextFeatures) -> Tensor:
        """Returns the sentences (B, 1, D)."""
        return normalised(text.sentence)[:, None]

    def velocity(self, x: Tensor, time: Tensor, given: Tensor, told: Tensor) -> Tensor:
        """Returns velocities (B, N, Z) at x (B, N, Z) and time (B, N, 1), for sentences (B, 1, D)."""
        hidden = self.start(torch.cat([x, given * told[..., :1], waves_of(time)], dim=-1))  # (B, N, hidden_dim)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return self.end(F.silu(hidden))


class GivenWords(NamedTuple):
    """What the velocities of WordFlowPrior need of B captions of L words."""

    sentence: Tensor  # (B, 1, D)
    keys_values: list[tuple[Tensor, Tensor]]  # of each block, each (B, heads, 1 + L, hidden_dim / 2 / heads)
    mask: Tensor  # (B, 1, L) bool, True where there is a word


class WordBlock(nn.Module):
    """Adds to hidden units the words that they attend to, and then two layers on them."""

    def __init__(self, hidden_dim: int, text_dim: int) -> None:
        super().__init__()
        dim = max(1, hidden_dim // 2)
        self.num_heads = math.gcd(dim, NUM_HEADS)
        self.norm = nn.LayerNorm(hidden_dim)
        self.query = nn.Linear(hidden_dim, dim)
        self.key_value = nn.Linear(text_dim, 2 * dim)
        self.merge = nn.Linear(dim, hidden_dim)
        self.layers = two_layers(hidden_dim)

    def heads_of(self, x: Tensor) -> Tensor:
        """Returns (B, heads, L, C / heads) of (B, L, C)."""
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)

    def keys_values(self, words: Tensor) -> tuple[Tensor, Tensor]:
        """Returns keys and values of words (B, L, D)."""
        key, value = self.key_value(words).chunk(2, dim=-1)
        return self.heads_of(key), self.heads_of(value)

    def forward(self, hidden: Tensor, keys_values: tuple[Tensor, Tensor], seen: Tensor) -> Tensor:
        """Returns hidden units (B, N, hidden_dim) of hidden units; seen (B, 1, N, L) tells which words are."""
        query = self.heads_of(self.query(self.norm(hidden))).float()  # (B, heads, N, C / heads)
        key, value = (x.float() for x in keys_values)  # on CPUs the kernel of bfloat16 is far slower
        found = F.scaled_dot_product_attention(query, key, value, seen).transpose(1, 2).flatten(2)
        hidden = hidden + self.merge(found)
        return hidden + self.layers(hidden)


class WordFlowPrior(FlowPrior):
    """A velocity by blocks that attend to the caption's words, on the point, the sentence and the time.

    A sentence hardly tells which colour is whose, where words do: with scenes of two objects most latents of captions
    that leave the objects' order open mix both orders without words (docs/recipes.md).
    """

    def __init__(self, noise_dim: int, text_dim: int, num_layers: int, hidden_dim: int, guidance: float = 1.0) -> None:
        super().__init__(guidance)
        self.start = nn.Linear(noise_dim + text_dim + 2 * NUM_WAVES, hidden_dim)
        self.nothing = nn.Parameter(torch.zeros(1, 1, text_dim))  # what is attended to where there are no words
        self.blocks = nn.ModuleList(WordBlock(hidden_dim, text_dim) for _ in range(num_layers))
        self.end = zero_layer(hidden_dim, noise_dim)

    def given(self, text: TextFeatures) -> GivenWords:
        """Returns the sentences, and keys and values of the words."""
        words = normalised(text.words)
        words = torch.cat([self.nothing.expand(words.shape[0], -1, -1), words], dim=1)  # (B, 1 + L, D)
        keys_values = [block.keys_values(words) for block in self.blocks]  # pyright: ignore[reportCallIssue]
        return GivenWords(normalised(text.sentence)[:, None], keys_values, text.mask[:, None])

    def velocity(self, x: Tensor, time: Tensor, given: GivenWords, told: Tensor) -> Tensor:
        """Returns velocities (B, N, Z) at x (B, N, Z) and time (B, N, 1)."""
        hidden = self.start(torch.cat([x, given.sentence * told[..., :1], waves_of(time)], dim=-1))
        seen = given.mask & (told[..., 1:] > 0)  # (B, N, L)
        seen = F.pad(seen, (1, 0), value=True)[:, None]  # (B, 1, N, 1 + L)
        for block, keys_values in zip(self.blocks, given.keys_values, strict=True):
            hidden = block(hidden, keys_values, seen)
        return self.end(F.silu(hidden))
