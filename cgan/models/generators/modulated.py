"""The text-conditioned generator: noise and sentence modulate every normalisation (adaptive group normalisation)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cgan.interfaces import TextFeatures
from cgan.models.generators.base import Generator, GeneratorConfig
from cgan.models.layers import ModulatedNorm, WordAttention, channels_at, doubled, to_pixels


class Upsample(nn.Module):
    """A residual block that doubles the resolution, with a modulated norm before each convolution (He et al. 2016)."""

    def __init__(self, in_channels: int, out_channels: int, style_dim: int) -> None:
        super().__init__()
        self.first_norm = ModulatedNorm(in_channels, style_dim)
        self.first = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.second_norm = ModulatedNorm(out_channels, style_dim)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Returns a map (B, C', 2H, 2W) of a map (B, C, H, W) and styles (B, style_dim)."""
        shortcut = doubled(self.shortcut(x))  # (B, C', 2H, 2W)
        x = doubled(self.first(F.relu(self.first_norm(x, style))))
        return self.second(F.relu(self.second_norm(x, style))).add_(shortcut)  # in place, as all else is kept


class ModulatedGenerator(Generator):
    """Computes a style from latent and sentence, which modulates every normalisation.

    Each position has a learned bias, and may attend to words.
    """

    def __init__(self, config: GeneratorConfig, resolution: int, text_dim: int) -> None:
        super().__init__(config, resolution, text_dim)
        sizes = [2**i for i in range(2, (resolution // config.patch).bit_length())]  # 4, 8, ..., resolution / patch
        channels = [channels_at(size, resolution, config.width, config.max_channels) for size in sizes]
        self.start = nn.Linear(config.noise_dim + text_dim, channels[0] * 16)
        self.style = nn.Sequential(nn.Linear(config.noise_dim + text_dim, config.style_dim), nn.LeakyReLU(0.2))
        pairs = zip(channels[:-1], channels[1:], strict=True)
        self.blocks = nn.ModuleList(Upsample(before, after, config.style_dim) for before, after in pairs)
        # constants of each position for all captions; the style of the next normalisation scales them
        biases = [torch.zeros(c, n, n) for c, n in zip(channels[1:], sizes[1:], strict=True)]
        self.positional_bias = nn.ParameterList(biases if config.positional_bias else [])
        self.attention = nn.ModuleDict()
        if config.word_attention:
            self.attention["16"] = WordAttention(channels[sizes.index(16)], text_dim)
        self.last_norm = ModulatedNorm(channels[-1], config.style_dim)
        self.to_image = to_pixels(channels[-1], config.patch, equal_gain=config.equal_gain, low_pass=config.low_pass)

    def synthesize(self, latent: Tensor, text: TextFeatures) -> Tensor:
        """Returns images (B, 3, H, W) in [-1, 1] of latents (B, Z) and text."""
        sentence = F.normalize(text.sentence, dim=1) * text.sentence.shape[1] ** 0.5
        condition = torch.cat([latent, sentence], dim=1)  # (B, Z + D)
        style = self.style(condition)  # (B, style_dim)
        x = self.start(condition).unflatten(1, (-1, 4, 4))  # (B, C, 4, 4)
        x = x.contiguous(memory_format=torch.channels_last)
        for i, block in enumerate(self.blocks):
            x = self.through(block, x, style)  # (B, C', 2H, 2W)
            if self.positional_bias:
                bias = self.positional_bias[i].to(x.dtype)[None]
                x = x.add_(bias.contiguous(memory_format=torch.channels_last))  # as the map lies in memory: faster
            if str(x.shape[-1]) in self.attention:
                x = self.attention[str(x.shape[-1])](x, text.words, text.mask)
        return torch.tanh(self.to_image(F.relu(self.last_norm(x, style))).float())
