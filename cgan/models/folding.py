"""Batch normalisations of frozen networks, folded into the convolutions before them."""

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cgan.models.encoders.resnet import BlurredConv2d, PooledConv2d, SubsampledConv2d

FOLDED = nn.Conv2d, PooledConv2d, SubsampledConv2d  # exactly these: another class may do more than a convolution


@torch.no_grad()
def folded(network: nn.Module) -> nn.Module:
    """Returns a frozen copy of a network in evaluation mode, with as few layers as give the same but for rounding.

    A batch normalisation scales and shifts each channel by constants, which weights and bias of the convolution before
    it can do at no cost. The pairs are those of ResNets: neighbours in a Sequential, and conv1 and bn1 of a block.
    Convolutions of other classes than FOLDED and BlurredConv2d keep their normalisation.
    """
    found = copy.deepcopy(network).eval().requires_grad_(False)
    for module in list(found.modules()):
        children = module._modules
        for first, second in pairs_of(module):
            convolution, norm = children.get(first), children.get(second)
            if isinstance(convolution, BlurredConv2d):
                convolution = convolution.as_plain()
            if isinstance(convolution, nn.Conv2d) and type(convolution) in FOLDED and isinstance(norm, nn.BatchNorm2d):
                children[first], children[second] = fuse_conv_bn_eval(convolution, norm), nn.Identity()
    return found.requires_grad_(False)


def pairs_of(module: nn.Module) -> list[tuple[str, str]]:
    """Returns the names of children of which the second follows the first."""
    names = list(module._modules)
    if isinstance(module, nn.Sequential):
        return list(zip(names[:-1], names[1:], strict=True))
    return [(name, f"bn{name[4:]}") for name in names if name.startswith("conv")]
