"""The text-conditioned generator: noise and sentence modulate every normalisation (adaptive group normalisation)."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cgan.interfaces import TextFeatures
from cgan.models.layers import ModulatedNorm, WordAttention, channels_at, recomputed, to_pixels
from cgan.models.latent_prior import build_prior


@dataclass
class GeneratorConfig:
    form: Literal["modulated", "dfgan", "r3gan"] = "modulated"  # the project's own, or as in the paper of that name
    noise_dim: int = 64  # Z
    style_dim: int = 256  # in form dfgan the hidden units of each affine network
    width: int = 24  # channels at full resolution, doubled with each halving
    max_channels: int = 256
    patch: int = 2  # pixels, each way, that a place of the last feature map draws: 2 is far cheaper than 1
    learned_places: bool = True  # of form modulated: constants for each place, such as stripes that a style may show
    word_attention: bool = False  # at 16 x 16
    prior: Literal["flow_matching", "couplings"] = "flow_matching"  # what turns noise into latents
    prior_layers: int = 3  # residual blocks, or couplings; with 0 the noise itself is the latent
    prior_dim: int = 256  # hidden units of each


class Generator(nn.Module, ABC):
    """generator(noise (B, Z), text) -> images (B, 3, H, W) in [-1, 1]; draw starts from a latent instead."""

    blocks: nn.ModuleList  # from there to the last one
    recompute = False  # the blocks' activations in the backward pass

    def __init__(self, config: GeneratorConfig, resolution: int, text_dim: int) -> None:
        super().__init__()
        self.config, self.resolution = config, resolution
        sizes = config.noise_dim, text_dim, config.prior_layers, config.prior_dim
        self.prior = build_prior(config.prior, *sizes)

    def forward(self, noise: Tensor, text: TextFeatures) -> Tensor:
        return self.draw(self.prior(noise, text.sentence), text)

    def through(self, block: nn.Module, *inputs: Tensor) -> Tensor:
        return recomputed(block, *inputs) if self.recompute else block(*inputs)

    @abstractmethod
    def draw(self, latent: Tensor, text: TextFeatures) -> Tensor:
        """Images from latents (B, Z)."""

    def inner_matrices(self) -> list[Tensor]:
        """The weights between its inner features, which Muon may train: not those of start, modulations and image."""
        return [layer.weight for layer in self.blocks.modules() if isinstance(layer, nn.Conv2d)]


def build_generator(config: GeneratorConfig, resolution: int, text_dim: int) -> Generator:
    match config.form:
        case "modulated":
            return ModulatedGenerator(config, resolution, text_dim)
        case "dfgan":
            from cgan.models.generators.dfgan import AffineGenerator

            return AffineGenerator(config, resolution, text_dim)
        case "r3gan":
            from cgan.models.generators.r3gan import PlainGenerator

            return PlainGenerator(config, resolution, text_dim)
    raise ValueError(config.form)


class Upsample(nn.Module):
    """Twice the resolution between two convolutions, beside a shortcut; normalisation comes before each (He 2016)."""

    def __init__(self, in_channels: int, out_channels: int, style_dim: int) -> None:
        super().__init__()
        self.first_norm = ModulatedNorm(in_channels, style_dim)
        self.first = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.second_norm = ModulatedNorm(out_channels, style_dim)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        shortcut = F.interpolate(self.shortcut(x), scale_factor=2, mode="bilinear")  # (B, C', 2H, 2W)
        x = F.interpolate(self.first(F.relu(self.first_norm(x, style))), scale_factor=2, mode="bilinear")
        return shortcut + self.second(F.relu(self.second_norm(x, style)))


class ModulatedGenerator(Generator):
    """Latent and sentence make a style that modulates every normalisation; places have constants, and may see words."""

    def __init__(self, config: GeneratorConfig, resolution: int, text_dim: int) -> None:
        super().__init__(config, resolution, text_dim)
        sizes = [2**i for i in range(2, (resolution // config.patch).bit_length())]  # 4, 8, ..., resolution / patch
        channels = [channels_at(size, resolution, config.width, config.max_channels) for size in sizes]
        self.start = nn.Linear(config.noise_dim + text_dim, channels[0] * 16)
        self.style = nn.Sequential(nn.Linear(config.noise_dim + text_dim, config.style_dim), nn.LeakyReLU(0.2))
        pairs = zip(channels[:-1], channels[1:], strict=True)
        self.blocks = nn.ModuleList(Upsample(before, after, config.style_dim) for before, after in pairs)
        # what stands where whatever the caption; the styles of the next normalisation choose from it
        places = [torch.zeros(c, n, n) for c, n in zip(channels[1:], sizes[1:], strict=True)]
        self.places = nn.ParameterList(places if config.learned_places else [])
        self.attention = nn.ModuleDict()
        if config.word_attention:
            self.attention["16"] = WordAttention(channels[sizes.index(16)], text_dim)
        self.last_norm = ModulatedNorm(channels[-1], config.style_dim)
        self.to_image = to_pixels(channels[-1], config.patch)

    def draw(self, latent: Tensor, text: TextFeatures) -> Tensor:
        sentence = F.normalize(text.sentence, dim=1) * text.sentence.shape[1] ** 0.5
        condition = torch.cat([latent, sentence], dim=1)  # (B, Z + D)
        style = self.style(condition)  # (B, style_dim)
        x = self.start(condition).unflatten(1, (-1, 4, 4))  # (B, C, 4, 4)
        x = x.contiguous(memory_format=torch.channels_last)
        for i, block in enumerate(self.blocks):
            x = self.through(block, x, style)  # (B, C', 2H, 2W)
            if self.places:
                x = x + self.places[i].to(x.dtype)
            if str(x.shape[-1]) in self.attention:
                x = self.attention[str(x.shape[-1])](x, text.words, text.mask)
        return torch.tanh(self.to_image(F.relu(self.last_norm(x, style))).float())
