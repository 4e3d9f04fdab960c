"""ResNets pretrained on ImageNet (He et al. 2015), for real images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import ResNet

from cgan.damage import CONTENT, unreadable
from cgan.interfaces import ImageEncoder, ImageFeatures, UserError

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FILES = {"resnet18": "resnet18-f37072fd.pth", "resnet50": "resnet50-11ad3fa6.pth"}  # torchvision's


class Normalise(nn.Module):
    """Converts images from [-1, 1] to the colour mean and deviation that a network was trained on."""

    mean: Tensor  # (3, 1, 1)
    deviation: Tensor  # (3, 1, 1)

    def __init__(self, mean: Sequence[float] = MEAN, deviation: Sequence[float] = DEVIATION) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Returns normalised images (B, 3, H, W) of images in [-1, 1]."""
        return (images / 2 + 0.5 - self.mean) / self.deviation


class ImageNetEncoder(ImageEncoder):
    """Frozen features of a ResNet-18, with maps at 1/4, 1/8 and 1/16 of the resolution.

    weights is a file of torchvision's ResNet-18; None downloads it.
    """

    embedding_dim = 256
    map_channels = [64, 128, 256]

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        key = "gan.discriminator.imagenet_weights"
        self.network = resnet("resnet18", weights or "imagenet", key).eval().requires_grad_(False)
        self.normalise = Normalise()

    def forward(self, images: Tensor) -> ImageFeatures:
        """Returns ImageFeatures of images (B, 3, H, W) in [-1, 1]; the embedding is (B, 256)."""
        maps = resnet_maps(self.network, self.normalise(images))
        return ImageFeatures(maps[-1].mean(dim=(2, 3)), maps)

    def map_sizes(self, resolution: int) -> list[int]:
        """Returns the height and width of each map of images of a resolution."""
        return [resolution // 4, resolution // 8, resolution // 16]


def resnet_maps(network: ResNet, images: Tensor) -> list[Tensor]:
    """Returns the outputs of the first three stages of a torchvision ResNet, for normalised images (B, 3, H, W)."""
    x, maps = network.maxpool(F.relu(network.bn1(network.conv1(images)))), []
    for stage in (network.layer1, network.layer2, network.layer3):
        x = stage(x)
        maps.append(x)  # (B, C, H/4, W/4), (B, 2C, H/8, W/8), (B, 4C, H/16, W/16)
    return maps


def resnet(name: Literal["resnet18", "resnet50"], weights: str | None, key: str) -> ResNet:
    """Returns a ResNet with random weights (None), downloaded weights ("imagenet") or those of a file.

    Raises UserError that names the setting `key` if the weights can't be loaded.
    """
    build = getattr(torchvision.models, name)
    try:
        if weights == "imagenet":
            return build(weights="IMAGENET1K_V1" if name == "resnet18" else "IMAGENET1K_V2")
        network = build()
        if weights is not None:
            network.load_state_dict(torch.load(Path(weights).expanduser(), map_location="cpu", weights_only=True))
        return network
    except FileNotFoundError as error:
        raise UserError(f"{key}={weights}: no such file; give torchvision's {FILES[name]}") from error
    except CONTENT as error:
        if weights == "imagenet":
            raise UserError(f"{key}: ImageNet weights can't be downloaded; give a local {FILES[name]}") from error
        otherwise = f"{key}={weights}: not the weights of torchvision's {name}"
        raise unreadable(f"{key}={weights}", error, otherwise) from error
