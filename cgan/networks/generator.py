"""The text-conditioned generator: noise and sentence modulate every block (StyleGAN2 blocks)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cgan.interfaces import TextFeatures
from cgan.networks.layers import ModulatedConv, WordAttention, channels_at


@dataclass
class GeneratorConfig:
    noise_dim: int = 64  # Z
    style_dim: int = 128
    width: int = 32  # channels at full resolution, doubled with each halving
    max_channels: int = 256
    patch: int = 2  # each place of the last feature map draws patch x patch pixels: 4 times cheaper than full resolution
    word_attention: bool = False  # at 16 x 16


class Mapping(nn.Module):
    """Noise through a small network, the sentence past it: (B, Z) and (B, D) to a style (B, style_dim)."""

    def __init__(self, noise_dim: int, text_dim: int, style_dim: int) -> None:
        super().__init__()
        self.noise = nn.Sequential(nn.Linear(noise_dim, style_dim), nn.LeakyReLU(0.2), nn.Linear(style_dim, style_dim))
        self.text = nn.Linear(text_dim, style_dim)
        self.merge = nn.Sequential(nn.LeakyReLU(0.2), nn.Linear(2 * style_dim, style_dim), nn.LeakyReLU(0.2))

    def forward(self, noise: Tensor, sentence: Tensor) -> Tensor:
        sentence = F.normalize(sentence, dim=1) * sentence.shape[1] ** 0.5
        return self.merge(torch.cat([self.noise(noise), self.text(sentence)], dim=1))


class Upsample(nn.Module):
    """A modulated convolution before and one after doubling the resolution, beside a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, style_dim: int) -> None:
        super().__init__()
        self.first = ModulatedConv(in_channels, out_channels, style_dim)
        self.second = ModulatedConv(out_channels, out_channels, style_dim)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        shortcut = F.interpolate(self.shortcut(x), scale_factor=2, mode="bilinear")  # (B, C', 2H, 2W)
        x = F.interpolate(self.first(x, style), scale_factor=2, mode="bilinear")
        return (shortcut + self.second(x, style)) * 0.5**0.5


class Generator(nn.Module):
    """generator(noise (B, Z), text) -> images (B, 3, H, W) in [-1, 1]."""

    def __init__(self, config: GeneratorConfig, resolution: int, text_dim: int) -> None:
        super().__init__()
        self.config, self.resolution = config, resolution
        sizes = [2**i for i in range(2, (resolution // config.patch).bit_length())]  # 4, 8, ..., resolution / patch
        channels = [channels_at(size, resolution, config.width, config.max_channels) for size in sizes]
        self.mapping = Mapping(config.noise_dim, text_dim, config.style_dim)
        self.start = nn.Linear(config.style_dim, channels[0] * 16)
        pairs = zip(channels[:-1], channels[1:], strict=True)
        self.blocks = nn.ModuleList(Upsample(before, after, config.style_dim) for before, after in pairs)
        self.attention = nn.ModuleDict()
        if config.word_attention:
            self.attention["16"] = WordAttention(channels[sizes.index(16)], text_dim)
        self.to_image = nn.Sequential(
            nn.Conv2d(channels[-1], 3 * config.patch**2, 3, padding=1), nn.PixelShuffle(config.patch)
        )

    def forward(self, noise: Tensor, text: TextFeatures) -> Tensor:
        style = self.mapping(noise, text.sentence)  # (B, style_dim)
        x = self.start(style).unflatten(1, (-1, 4, 4)).contiguous(memory_format=torch.channels_last)  # (B, C, 4, 4)
        for block in self.blocks:
            x = block(x, style)  # (B, C', 2H, 2W)
            if str(x.shape[-1]) in self.attention:
                x = self.attention[str(x.shape[-1])](x, text.words, text.mask)
        return torch.tanh(self.to_image(x).float())
