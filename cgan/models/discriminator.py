"""Discriminators conditioned by projection (Miyato and Koyama 2018) or by concatenation (Reed et al. 2016).

They use a trunk of their own, frozen features, or both.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, assert_never, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cgan.interfaces import UserError
from cgan.models.float32 import in_float32, widened
from cgan.models.generators.dfgan import StridedTrunk
from cgan.models.generators.r3gan import PlainTrunk
from cgan.models.latent_prior import normalised
from cgan.models.layers import Downsample, average_pool, channels_at, pooled
from cgan.models.spectral_norm import SpectralNorms, add_spectral_norm, normalised_once, rename_vectors
from cgan.renamed import weights_renamed

COLOURS = 3  # channels of an image


@dataclass
class DiscriminatorConfig:
    """The trunk and the heads of a discriminator, and the frozen features below them."""

    form: Literal["trunk", "features"] = "features"  # what the heads see: a trunk on pixels alone, or frozen
    # feature maps as well
    features: Literal["joint", "imagenet", "efficientnet", "dino"] = "joint"  # the frozen network of form features: the
    # joint encoder's, a ResNet-18, an EfficientNet-Lite0 or a DINO
    imagenet_weights: str | None = None  # a file of torchvision's ResNet-18, downloaded when absent, or of timm's Lite0
    dino: str = "facebook/dino-vits16"  # the DINO of features: a folder, or a name on the hub
    trunk: Literal["pooled", "dfgan", "r3gan", "none"] = "pooled"  # the trunk on pixels: the project's own, or as in
    # the paper of that name
    condition: Literal["projection", "concat", "separate"] = "projection"  # how the caption enters a head: by
    # projection, or concatenated; separate: also logits without the caption
    width: int = 8  # channels of the pixel trunk at full resolution, doubled with each halving
    max_channels: int = 64  # largest number of channels in a layer of the pixel trunk
    stem: Literal["strided", "full"] = "full"  # the first layer of trunk pooled: with a stride of two pixels, or at
    # full resolution
    patch: int = 1  # width and height in pixels that a paper's trunk takes at once in its first layer: 2 is far cheaper
    head_dim: int = 64  # channels inside a head
    head_resolution: int = 4  # size to which a head pools feature maps before it convolves them: 8 costs far more than
    # 4
    spectral_norm: bool = True  # spectral normalisation of all layers of the discriminator


def build_trunk(config: DiscriminatorConfig, resolution: int) -> nn.Module | None:
    """Returns a network from images (B, 3, H, W) to a map (B, C, 4, 4) with C as `channels`; None for "none"."""
    sizes = resolution, config.width, config.max_channels
    match config.trunk:
        case "pooled":
            return Trunk(*sizes, config.stem)
        case "dfgan":
            return StridedTrunk(*sizes, config.patch)
        case "r3gan":
            return PlainTrunk(*sizes, config.patch)
        case "none":
            return None
        case unknown:
            assert_never(unknown)


class FullStem(nn.Module):
    """A convolution at full resolution, then half of it: single pixels are seen, and even as odd ones."""

    def __init__(self, width: int, out_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.second = nn.Conv2d(width, out_channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Returns a map (B, C, H/2, W/2) of images (B, 3, H, W)."""
        return self.second(average_pool(F.leaky_relu(self.first(images), 0.2), 2))


class Trunk(nn.Module):
    """Pictures (B, 3, H, W) to a feature map (B, C, 4, 4)."""

    def __init__(self, resolution: int, width: int, max_channels: int, stem: Literal["strided", "full"]) -> None:
        super().__init__()
        sizes = [2**i for i in range(resolution.bit_length() - 1, 1, -1)]  # resolution, ..., 8, 4
        channels = [channels_at(size, resolution, width, max_channels) for size in sizes]
        self.channels = channels[-1]
        self.stem = nn.Conv2d(3, channels[1], 4, stride=2, padding=1)
        if stem == "full":
            self.stem = FullStem(channels[0], channels[1])
        self.blocks = nn.Sequential(*[Downsample(a, b) for a, b in zip(channels[1:-1], channels[2:], strict=True)])

    def forward(self, images: Tensor) -> Tensor:
        """Returns a feature map (B, C, 4, 4) of images (B, 3, H, W) in [-1, 1]."""
        return F.leaky_relu(self.blocks(self.stem(images)), 0.2)


class Head(nn.Module):
    """Turns a feature map into logits (B,): the sum of an unconditional term and the projection <h, V sentence>."""

    def __init__(self, channels: int, text_dim: int, head_dim: int, resolution: int = 8) -> None:
        super().__init__()
        self.resolution = resolution
        self.reduce = nn.Conv2d(channels, head_dim, 1)
        self.mix = nn.Conv2d(head_dim, head_dim, 3, padding=1)
        self.positions = nn.Linear(head_dim * 16, head_dim)  # left is not right: the 4 x 4 positions stay apart
        self.unconditional = nn.Linear(head_dim, 1)
        self.projection = nn.Linear(text_dim, head_dim, bias=False)
        self.register_load_state_dict_pre_hook(weights_renamed(places="positions"))

    def forward(self, x: Tensor) -> Tensor:
        """Returns the features (B, head_dim) of a map (B, C, H, W), which `logits` takes."""
        x = self.reduce(pooled(x, min(x.shape[-1], self.resolution)))  # reducing first gives the same, but costs more
        x = F.leaky_relu(self.mix(F.leaky_relu(x, 0.2)), 0.2)
        x = pooled(x, 4).flatten(1)  # (B, 16 head_dim)
        return F.leaky_relu(self.positions(x), 0.2)  # (B, head_dim)

    def logits(self, hidden: Tensor, sentence: Tensor) -> Tensor:
        """Returns logits (B,) of features (B, head_dim) and sentences (B, D), in float32 regardless of autocast."""
        return projection_logits([self], [hidden], sentence).squeeze(1)


def projection_logits(heads: Sequence[Head], hidden: list[Tensor], sentence: Tensor) -> Tensor:
    """Returns logits (B, heads) of each head's features (B, head_dim) and sentences (B, D), by one product for all.

    Computes in float32 regardless of autocast.
    """
    with in_float32(sentence):
        projection = torch.cat([head.projection.weight for head in heads])  # (heads head_dim, D)
        unconditional = torch.cat([head.unconditional.weight for head in heads])  # (heads, head_dim)
        bias = torch.cat([cast(Tensor, head.unconditional.bias) for head in heads])  # (heads,)
        directions = F.linear(normalised(sentence), projection).unflatten(1, unconditional.shape)
        directions = unconditional + directions / unconditional.shape[1] ** 0.5  # (B, heads, head_dim)
        return (widened(torch.stack(hidden, dim=1)) * directions).sum(dim=2) + bias


class ConcatHead(nn.Module):
    """Turns a 4 x 4 feature map into logits (B,), with the sentence concatenated at each position."""

    def __init__(self, channels: int, text_dim: int, head_dim: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels + text_dim, head_dim, 3, padding=1, bias=False)
        self.logit = nn.Conv2d(head_dim, 1, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns a map (B, C, H, W) pooled to (B, C, 4, 4), which `logits` takes."""
        return F.adaptive_avg_pool2d(x, 4)  # (B, C, 4, 4)

    def logits(self, hidden: Tensor, sentence: Tensor) -> Tensor:
        """Returns logits (B,) of maps (B, C, 4, 4) and sentences (B, D), in float32 regardless of autocast."""
        with in_float32(hidden):
            sentences = normalised(sentence)[:, :, None, None].expand(-1, -1, 4, 4)
            x = self.mix(torch.cat([widened(hidden), sentences], dim=1))  # (B, head_dim, 4, 4)
            return self.logit(F.leaky_relu(x, 0.2)).flatten()


class Discriminator(nn.Module):
    """discriminator(images, text) -> logits (B, heads); one head on the pixel trunk, one on each frozen feature map.

    `features` are computed once for images, and give `logits` with any number of captions. With condition "separate"
    there are 2 x heads logits: one unconditional logit for each head comes first.
    """

    heads: Sequence[Head | ConcatHead]  # a ModuleList

    def __init__(
        self, config: DiscriminatorConfig, resolution: int, text_dim: int, map_channels: list[int] | None = None
    ) -> None:
        super().__init__()
        self.trunk = build_trunk(config, resolution)
        if self.trunk is None and not map_channels:
            raise UserError("gan.discriminator.trunk=none: needs gan.discriminator.form=features to stand on")
        channels = [*([self.trunk.channels] if self.trunk is not None else []), *(map_channels or [])]
        self.by_projection = config.condition == "projection"
        if self.by_projection:
            heads = nn.ModuleList(Head(c, text_dim, config.head_dim, config.head_resolution) for c in channels)
        else:
            heads = nn.ModuleList(ConcatHead(c, text_dim, config.head_dim) for c in channels)
        self.heads = cast("Sequence[Head | ConcatHead]", heads)
        alone = channels if config.condition == "separate" else []
        self.unconditional = nn.ModuleList(nn.Conv2d(c, 1, 4) for c in alone)
        self.spectral_norms = add_spectral_norm(self) if config.spectral_norm else []
        self.register_load_state_dict_pre_hook(rename_vectors)

    def let_norms_move(self, moving: bool) -> None:
        """Has spectral norms take steps of the power method, or rest; nothing else here depends on the mode."""
        for norms in self.spectral_norms:
            norms.train(moving)

    def normalised(self) -> AbstractContextManager[None]:
        """Returns a context in which spectral norms are computed once, and take one step in training mode."""
        return normalised_once(cast("Sequence[SpectralNorms]", self.spectral_norms))

    def inner_matrices(self) -> list[Tensor]:
        """Returns the weights of the convolutions between feature maps, which Muon may train."""
        weights = [weight for weight in self.parameters() if weight.dim() == 4]
        return [weight for weight in weights if min(weight.shape[:2]) > COLOURS]

    def features(self, images: Tensor, maps: list[Tensor]) -> list[Tensor]:
        """Returns the features of each head, a list of (B, ...), of images (B, 3, H, W) and their frozen feature maps.

        maps are empty unless the configuration's form is "features".
        """
        maps = maps if self.trunk is None else [self.trunk(images), *maps]
        return [head(x) for head, x in zip(self.heads, maps, strict=True)]

    def logits(self, hidden: list[Tensor], sentence: Tensor) -> Tensor:
        """Returns logits (B, heads) of features and sentences (B, D), in float32 regardless of autocast."""
        matching = self.conditional_logits(hidden, sentence)
        if not self.unconditional:
            return matching
        with in_float32(sentence):
            alone = [layer(widened(h)).flatten() for layer, h in zip(self.unconditional, hidden, strict=True)]
        return torch.cat([torch.stack(alone, dim=1), matching], dim=1)

    def conditional_logits(self, hidden: list[Tensor], sentence: Tensor) -> Tensor:
        """Returns the logits (B, heads) that depend on the caption, which are the last ones of `logits`."""
        if self.by_projection:
            return projection_logits(cast("Sequence[Head]", self.heads), hidden, sentence)
        return torch.stack([head.logits(h, sentence) for head, h in zip(self.heads, hidden, strict=True)], dim=1)

    def forward(self, images: Tensor, sentence: Tensor, maps: list[Tensor]) -> Tensor:
        """Returns logits (B, heads) of images (B, 3, H, W), sentences (B, D) and frozen feature maps."""
        return self.logits(self.features(images, maps), sentence)
