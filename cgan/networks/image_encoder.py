"""ResNet image encoder (He et al. 2015): pictures into the latent shared with captions, and feature maps on the way."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock

from cgan.interfaces import ImageFeatures


@dataclass
class ImageEncoderConfig:
    width: int = 32  # channels at a quarter of the resolution, doubled with each halving
    embedding_dim: int = 128  # E


def stage(in_channels: int, out_channels: int) -> nn.Module:
    """A residual block that halves the picture."""
    shortcut = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, 2, bias=False), nn.BatchNorm2d(out_channels))
    return BasicBlock(in_channels, out_channels, stride=2, downsample=shortcut)


class ImageEncoder(nn.Module):
    """encoder(images (B, 3, H, W)) -> ImageFeatures; the embedding keeps where things are, for left is not right."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.map_channels = [width, 2 * width, 4 * width]  # at 1/4, 1/8, 1/16 of the resolution
        stem = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width // 2), nn.ReLU()
        self.stem = nn.Sequential(*stem)
        channels = [width // 2, *self.map_channels]
        self.stages = nn.ModuleList(stage(a, b) for a, b in zip(channels[:-1], channels[1:], strict=True))
        self.embedding = nn.Linear(channels[-1] * 16, config.embedding_dim)

    def forward(self, images: Tensor) -> ImageFeatures:
        x, maps = self.stem(images), []
        for block in self.stages:
            x = block(x)
            maps.append(x)  # (B, C, H/4, W/4), (B, 2C, H/8, W/8), (B, 4C, H/16, W/16)
        places = F.adaptive_avg_pool2d(x, 4).flatten(1)
        return ImageFeatures(self.embedding(places), maps)
