"""Frozen image encoders of tests, and what they see."""

import torch
from torch import Tensor, nn


def with_statistics(network: nn.Module) -> nn.Module:
    """Returns a frozen network whose batch normalisations have statistics and weights of their own."""
    torch.manual_seed(1)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.2, 2.0)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias)
    return network.eval().requires_grad_(False)


def features_and_gradient(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Returns a network's embedding and maps of images, and the gradient of their squares by the images."""
    images = images.clone().requires_grad_()
    found = network(images)
    seen = [x.float() for x in (found.embedding, *found.maps)]
    return [*seen, *torch.autograd.grad(torch.stack([x.square().sum() for x in seen]).sum(), images)]
