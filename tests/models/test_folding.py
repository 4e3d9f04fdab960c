"""Batch normalisations folded into convolutions."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from cgan.models.encoders.resnet import SmallResNet
from cgan.models.folding import folded
from helpers.features import features_and_gradient, with_statistics


@pytest.mark.parametrize(("width", "antialias"), [(8, True), (8, False), (32, True)])
@pytest.mark.parametrize("stages", [False, True])
def test_a_folded_encoder_sees_the_same_by_fewer_layers(width, antialias, stages):
    network, images = with_statistics(SmallResNet(width, 16, antialias, stages)), torch.randn(2, 3, 64, 64)
    found = folded(network)
    for mine, theirs in zip(*(features_and_gradient(x, images) for x in (found, network)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in found.modules())


def test_a_folded_resnet_of_torchvision_gives_the_same_and_the_network_stays_as_it_is():
    network, images = with_statistics(resnet18(num_classes=10)), torch.randn(2, 3, 64, 64)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = folded(network)
    torch.testing.assert_close(found(images), network(images), rtol=1e-3, atol=1e-3)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in found.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_convolution_whose_class_is_unknown_keeps_its_normalisation():
    class Doubled(nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    network = with_statistics(nn.Sequential(Doubled(3, 4, 3), nn.BatchNorm2d(4)))
    images = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(folded(network)(images), network(images))
