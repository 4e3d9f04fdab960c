"""Frozen features of a ResNet-18 that was trained on ImageNet (He et al. 2015), for real pictures."""

from pathlib import Path
from pickle import UnpicklingError
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import ResNet18_Weights, resnet18

from cgan.interfaces import ImageFeatures, UserError

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ImageNetEncoder(nn.Module):
    """encoder(images (B, 3, H, W) in [-1, 1]) -> ImageFeatures; maps at 1/4, 1/8 and 1/16 of the picture.

    weights is a file of torchvision's ResNet-18 (resnet18-f37072fd.pth); None downloads it.
    """

    map_channels = [64, 128, 256]

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        self.network = load(weights).eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> ImageFeatures:
        net = self.network
        x = F.relu(net.bn1(net.conv1((images / 2 + 0.5 - self.mean) / self.deviation)))
        x, maps = net.maxpool(x), []
        for stage in (net.layer1, net.layer2, net.layer3):
            x = stage(x)
            maps.append(x)  # (B, C, H/4, W/4), (B, 2C, H/8, W/8), (B, 4C, H/16, W/16)
        return ImageFeatures(x.mean(dim=(2, 3)), maps)


def load(weights: str | None) -> nn.Module:
    key = "gan.discriminator.imagenet_weights"
    try:
        if weights is None:
            return resnet18(weights=ResNet18_Weights.IMAGENET1K_V1)
        network = resnet18()
        network.load_state_dict(torch.load(Path(weights).expanduser(), map_location="cpu", weights_only=True))
        return network
    except FileNotFoundError:
        raise UserError(f"{key}={weights}: no such file; give torchvision's resnet18-f37072fd.pth") from None
    except (URLError, OSError):
        raise UserError(f"{key}: ImageNet weights can't be downloaded; give a local resnet18-f37072fd.pth") from None
    except (UnpicklingError, RuntimeError, TypeError, EOFError):
        raise UserError(f"{key}={weights}: not the weights of torchvision's ResNet-18") from None
