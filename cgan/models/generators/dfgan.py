"""DF-GAN (Tao et al. 2022): a generator of affine blocks without normalisation, and its discriminator's trunk."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cgan.interfaces import TextFeatures
from cgan.models.generators.base import Generator, GeneratorConfig
from cgan.models.latent_prior import normalised
from cgan.models.layers import average_pool, channels_at, to_pixels


def two_layers(in_dim: int, hidden_dim: int, out_dim: int, start: float) -> nn.Sequential:
    """Returns a network with one hidden layer whose output is initially `start` for every input."""
    last = nn.Linear(hidden_dim, out_dim)
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, start)
    return nn.Sequential(nn.Linear(in_dim, hidden_dim), nn.ReLU(), last)


class Affine(nn.Module):
    """Scales and shifts channels by two networks of the condition (equations 2 and 3), then applies a leaky ReLU."""

    def __init__(self, channels: int, condition_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.scale = two_layers(condition_dim, hidden_dim, channels, 1.0)
        self.shift = two_layers(condition_dim, hidden_dim, channels, 0.0)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Returns a map (B, C, H, W) modulated by conditions (B, Z + D)."""
        scale, shift = (layer(condition)[:, :, None, None].to(x.dtype) for layer in (self.scale, self.shift))
        return F.leaky_relu(torch.addcmul(shift, x, scale), 0.2)


class UpBlock(nn.Module):
    """DFBlock: doubles the resolution; a residual branch of two convolutions, each after two affine layers."""

    def __init__(self, in_channels: int, out_channels: int, condition_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.affines = nn.ModuleList(
            Affine(channels, condition_dim, hidden_dim) for channels in (in_channels,) * 2 + (out_channels,) * 2
        )
        self.first = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Returns a map (B, C', 2H, 2W) of a map (B, C, H, W) and conditions (B, Z + D)."""
        a, b, c, d = self.affines
        x = F.interpolate(x, scale_factor=2, mode="nearest")  # (B, C, 2H, 2W)
        hidden = self.first(b(a(x, condition), condition))  # (B, C', 2H, 2W)
        return self.shortcut(x) + self.second(d(c(hidden, condition), condition))


class AffineGenerator(Generator):
    """The latent alone gives the first 4 x 4 map; latent and sentence condition the affine layers of every block."""

    def __init__(self, config: GeneratorConfig, resolution: int, text_dim: int) -> None:
        super().__init__(config, resolution, text_dim)
        sizes = [2**i for i in range(2, (resolution // config.patch).bit_length())]  # 4, 8, ..., resolution / patch
        channels = [channels_at(size, resolution, config.width, config.max_channels) for size in sizes]
        self.start = nn.Linear(config.noise_dim, channels[0] * 16)
        pairs, dims = zip(channels[:-1], channels[1:], strict=True), (config.noise_dim + text_dim, config.style_dim)
        self.blocks = nn.ModuleList(UpBlock(before, after, *dims) for before, after in pairs)
        self.to_image = to_pixels(channels[-1], config.patch)

    def synthesize(self, latent: Tensor, text: TextFeatures) -> Tensor:
        """Returns images (B, 3, H, W) in [-1, 1] of latents (B, Z) and text."""
        condition = torch.cat([latent, normalised(text.sentence)], dim=1)  # (B, Z + D)
        x = self.start(latent).unflatten(1, (-1, 4, 4))  # (B, C, 4, 4)
        x = x.contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            x = self.through(block, x, condition)  # (B, C', 2H, 2W)
        return torch.tanh(self.to_image(F.leaky_relu(x, 0.2)).float())


class DownBlock(nn.Module):
    """Halves the resolution: a pooled shortcut plus a share, initially 0, of a strided and a plain convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1, bias=False)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        self.share = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Returns a map (B, C', H/2, W/2) of a map (B, C, H, W)."""
        hidden = F.leaky_relu(self.second(F.leaky_relu(self.first(x), 0.2)), 0.2)
        return average_pool(self.shortcut(x), 2) + self.share * hidden


class StridedTrunk(nn.Module):
    """Maps images (B, 3, H, W) to a feature map (B, C, 4, 4); the first convolution takes patches of pixels."""

    def __init__(self, resolution: int, width: int, max_channels: int, patch: int = 1) -> None:
        super().__init__()
        sizes = [2**i for i in range((resolution // patch).bit_length() - 1, 1, -1)]  # resolution / patch, ..., 8, 4
        channels = [channels_at(size, resolution, width, max_channels) for size in sizes]
        self.channels = channels[-1]
        self.stem = nn.Conv2d(3, channels[0], patch + 2, stride=patch, padding=1)
        self.blocks = nn.Sequential(*[DownBlock(a, b) for a, b in zip(channels[:-1], channels[1:], strict=True)])

    def forward(self, images: Tensor) -> Tensor:
        """Returns a feature map (B, C, 4, 4) of images (B, 3, H, W) in [-1, 1]."""
        return self.blocks(self.stem(images))
