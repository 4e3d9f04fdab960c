"""ResNet image encoders (He et al. 2015) into the latent shared with captions, with feature maps."""

from dataclasses import dataclass
from typing import Literal, assert_never

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock

from cgan.interfaces import ImageEncoder, ImageFeatures
from cgan.models.encoders.imagenet import Normalise, resnet, resnet_maps
from cgan.models.layers import average_pool

FEWEST_STRIDED = 16  # channels with which a strided convolution of 1 x 1 is used as it is


@dataclass
class ImageEncoderConfig:
    """The network of the image half of the joint encoder."""

    network: Literal["small", "resnet50"] = "small"  # the image encoder: a small ResNet, or a ResNet-50
    width: int = 32  # channels of the small network at a quarter of the resolution, doubled with each halving
    embedding_dim: int = 128  # numbers in a picture's embedding (E); must equal joint.text.dim
    antialias: bool = True  # blur pictures before the small network's first stride, so that its gradients have no
    # pattern of two pixels, which generators take up
    antialias_stages: bool = True  # blur its maps before its other strides as well, against patterns of four pixels
    weights: str | None = None  # first weights of resnet50: imagenet downloads them, else a file of torchvision's;
    # absent: random


def build_image_encoder(config: ImageEncoderConfig) -> ImageEncoder:
    """Returns the image encoder of a configuration. Raises UserError where given weights can't be loaded."""
    match config.network:
        case "small":
            return SmallResNet(config.width, config.embedding_dim, config.antialias, config.antialias_stages)
        case "resnet50":
            return ResNet50(config.embedding_dim, config.weights)
        case unknown:
            assert_never(unknown)


class SubsampledConv2d(nn.Conv2d):
    """A convolution of 1 x 1 with stride 2 that takes every second row and column before it convolves them.

    With 2, 4 or 6 channels oneDNN's strided kernel for AVX2 writes beyond its memory, which ends the process (torch
    2.14, 2026-11-27).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns a map (B, C', H/2, W/2) of a map (B, C, H, W)."""
        return F.conv2d(x[:, :, ::2, ::2], self.weight)


class PooledConv2d(nn.Conv2d):
    """A convolution of 1 x 1 on means of 2 x 2 neighbours, which halves the resolution (ResNet-D, He et al. 2018)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns a map (B, C', H/2, W/2) of a map (B, C, H, W)."""
        return F.conv2d(average_pool(x, 2), self.weight)


def stage(in_channels: int, out_channels: int, antialias: bool = False) -> nn.Module:
    """Returns a residual block that halves the resolution, of means of 2 x 2 neighbours with `antialias`."""
    if antialias:
        halved = PooledConv2d(in_channels, out_channels)
    elif in_channels < FEWEST_STRIDED:
        halved = SubsampledConv2d(in_channels, out_channels)
    else:
        halved = nn.Conv2d(in_channels, out_channels, 1, 2, bias=False)
    shortcut = nn.Sequential(halved, nn.BatchNorm2d(out_channels))
    block = BasicBlock(in_channels, out_channels, stride=2, downsample=shortcut)
    if antialias:
        block.conv1 = BlurredConv2d(in_channels, out_channels)
    return block


class BlurredConv2d(nn.Conv2d):
    """A convolution of 3 x 3 with stride 2 on the means of 2 x 2 neighbours (Zhang 2019, with the shortest filter).

    A stride alone treats even and odd pixels differently, so that the gradient of an image has a pattern of two pixels.
    The means take this frequency out of the input, and so out of the gradient. Both are one convolution of 4 x 4.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, stride=2, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns a map (B, C', H/2, W/2) of a map (B, C, H, W)."""
        wide = F.pad(self.weight, (0, 1)) + F.pad(self.weight, (1, 0))  # sums, as a convolution with ones is far slower
        kernels = (F.pad(wide, (0, 0, 0, 1)) + F.pad(wide, (0, 0, 1, 0))) / 4  # (C', C, 4, 4)
        return F.conv2d(x, kernels, stride=2, padding=1)


class SmallResNet(ImageEncoder):
    """A small ResNet for scenes; its embedding keeps the positions of objects, as captions tell left from right."""

    def __init__(self, width: int, embedding_dim: int, antialias: bool = False, antialias_stages: bool = False) -> None:
        super().__init__()
        self.embedding_dim, self.antialias, self.antialias_stages = embedding_dim, antialias, antialias_stages
        self.map_channels = [width, 2 * width, 4 * width]
        first = BlurredConv2d(3, width // 2) if antialias else nn.Conv2d(3, width // 2, 3, 2, 1, bias=False)
        self.stem = nn.Sequential(first, nn.BatchNorm2d(width // 2), nn.ReLU())
        channels = [width // 2, *self.map_channels]
        pairs = zip(channels[:-1], channels[1:], strict=True)
        self.stages = nn.ModuleList(stage(before, after, antialias_stages) for before, after in pairs)
        self.embedding = nn.Linear(channels[-1] * 16, embedding_dim)

    def forward(self, images: Tensor) -> ImageFeatures:
        """Returns ImageFeatures of images (B, 3, H, W) in [-1, 1]; the embedding is (B, embedding_dim)."""
        x, maps = self.stem(images), []
        for block in self.stages:
            x = block(x)
            maps.append(x)  # (B, C, H/4, W/4), (B, 2C, H/8, W/8), (B, 4C, H/16, W/16)
        positions = F.adaptive_avg_pool2d(x, 4).flatten(1)
        return ImageFeatures(self.embedding(positions), maps)

    def map_sizes(self, resolution: int) -> list[int]:
        """Returns the height and width of each map of images of a resolution."""
        return [resolution // 4, resolution // 8, resolution // 16]


class ResNet50(ImageEncoder):
    """torchvision's ResNet-50 for real images, best started from ImageNet weights; all layers are trained."""

    def __init__(self, embedding_dim: int, weights: str | None = None) -> None:
        super().__init__()
        self.embedding_dim, self.map_channels = embedding_dim, [256, 512, 1024]
        self.network = resnet("resnet50", weights, "joint.image.weights")
        self.normalise = Normalise()
        self.network.fc = nn.Linear(self.network.fc.in_features, embedding_dim)

    def forward(self, images: Tensor) -> ImageFeatures:
        """Returns ImageFeatures of images (B, 3, H, W) in [-1, 1]; the embedding is (B, embedding_dim)."""
        maps = resnet_maps(self.network, self.normalise(images))  # at 1/4, 1/8 and 1/16 of the picture
        pooled = self.network.layer4(maps[-1]).mean(dim=(2, 3))  # (B, 2048)
        return ImageFeatures(self.network.fc(pooled), maps)

    def map_sizes(self, resolution: int) -> list[int]:
        """Returns the height and width of each map of images of a resolution."""
        return [resolution // 4, resolution // 8, resolution // 16]
