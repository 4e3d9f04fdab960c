"""R3GAN (Huang et al. 2024): generator and discriminator of residual blocks alone, without normalisation."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cgan.interfaces import TextFeatures
from cgan.models.generators.base import Generator, GeneratorConfig
from cgan.models.latent_prior import normalised
from cgan.models.layers import average_pool, channels_at, doubled, num_groups, to_pixels

EXPANSION, DEPTH = 2, 2  # hidden channels for each outer one, blocks of a resolution
NUM_BLOCKS = 10  # on the way of a 64 px picture, by which the first weights are scaled


class Bottleneck(nn.Module):
    """Residual 1x1, grouped 3x3 and 1x1 convolutions; initially the identity (Fixup, Zhang et al. 2019)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels * EXPANSION
        self.widen = nn.Conv2d(channels, hidden, 1)
        self.mix = nn.Conv2d(hidden, hidden, 3, padding=1, groups=num_groups(hidden))
        self.narrow = nn.Conv2d(hidden, channels, 1, bias=False)
        for layer in (self.widen, self.mix):
            scaled(layer, gain=math.sqrt(2) * NUM_BLOCKS**-0.25)
        nn.init.zeros_(self.narrow.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Returns a map (B, C, H, W) of a map of the same shape."""
        hidden = F.leaky_relu(self.mix(F.leaky_relu(self.widen(x), 0.2)), 0.2)
        return x + self.narrow(hidden)


class Stage(nn.Sequential):
    """The blocks of one resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__(*[Bottleneck(channels) for _ in range(DEPTH)])


def scaled(layer: nn.Conv2d | nn.Linear, gain: float = 1.0) -> nn.Module:
    """Returns the layer, initialised so that it multiplies variance by gain squared; biases are 0."""
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def transition(before: int, after: int) -> nn.Module:
    """Returns a 1x1 convolution from `before` to `after` channels, or the identity if they are equal."""
    return nn.Identity() if before == after else scaled(nn.Conv2d(before, after, 1, bias=False))


class PlainGenerator(Generator):
    """Scales the channels of a learned 4 x 4 map by latent and sentence, then applies stages up to the resolution."""

    def __init__(self, config: GeneratorConfig, resolution: int, text_dim: int) -> None:
        super().__init__(config, resolution, text_dim)
        sizes = [2**i for i in range(2, (resolution // config.patch).bit_length())]  # 4, 8, ..., resolution / patch
        channels = [channels_at(size, resolution, config.width, config.max_channels) for size in sizes]
        self.basis = nn.Parameter(torch.randn(channels[0], 4, 4))
        self.start = scaled(nn.Linear(config.noise_dim + text_dim, channels[0], bias=False))
        self.blocks = nn.ModuleList(Stage(c) for c in channels)
        self.transitions = nn.ModuleList(transition(a, b) for a, b in zip(channels[:-1], channels[1:], strict=True))
        self.to_image = to_pixels(channels[-1], config.patch, kernel=1)

    def synthesize(self, latent: Tensor, text: TextFeatures) -> Tensor:
        """Returns images (B, 3, H, W) in [-1, 1] of latents (B, Z) and text."""
        condition = torch.cat([latent, normalised(text.sentence)], dim=1)  # (B, Z + D)
        x = self.start(condition)[:, :, None, None] * self.basis  # (B, C, 4, 4)
        x = self.through(self.blocks[0], x.contiguous(memory_format=torch.channels_last))
        for change, stage in zip(self.transitions, self.blocks[1:], strict=True):
            x = self.through(stage, doubled(change(x)))  # (B, C', 2H, 2W)
        return torch.tanh(self.to_image(x).float())


class PlainTrunk(nn.Module):
    """Maps images (B, 3, H, W) to a feature map (B, C, 4, 4): the stages of the generator in reverse order."""

    def __init__(self, resolution: int, width: int, max_channels: int, patch: int = 1) -> None:
        super().__init__()
        sizes = [2**i for i in range((resolution // patch).bit_length() - 1, 1, -1)]  # resolution / patch, ..., 8, 4
        channels = [channels_at(size, resolution, width, max_channels) for size in sizes]
        self.channels = channels[-1]
        self.stem = scaled(nn.Conv2d(3, channels[0], patch, stride=patch))
        self.blocks = nn.ModuleList(Stage(c) for c in channels)
        self.transitions = nn.ModuleList(transition(a, b) for a, b in zip(channels[:-1], channels[1:], strict=True))

    def forward(self, images: Tensor) -> Tensor:
        """Returns a feature map (B, C, 4, 4) of images (B, 3, H, W) in [-1, 1]."""
        x = self.blocks[0](self.stem(images))
        for change, stage in zip(self.transitions, self.blocks[1:], strict=True):
            x = stage(change(average_pool(x, 2)))  # (B, C', H/2, W/2)
        return x
