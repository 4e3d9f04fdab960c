"""The copy of a frozen network for autocast."""

import pytest
import torch

from cgan.models.autocast import AutocastCopy
from cgan.models.encoders.resnet import SmallResNet
from helpers.gan import tiny_gan


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_features_and_gradients_are_those_of_the_network_under_autocast_bit_for_bit(dtype):
    network, images = SmallResNet(width=8, embedding_dim=16).eval().requires_grad_(False), torch.randn(2, 3, 32, 32)
    with torch.autocast("cpu", dtype):
        copy = AutocastCopy(network).under_autocast("cpu")
        found = []
        for encoder in (network, copy):
            x = images.clone().requires_grad_()
            features = encoder(x)
            loss = features.embedding.float().square().sum() + sum(y.float().square().sum() for y in features.maps)
            found.append([features.embedding, *features.maps, *torch.autograd.grad(loss, x)])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_without_autocast_there_is_no_copy():
    assert AutocastCopy(SmallResNet(width=4, embedding_dim=8)).under_autocast("cpu") is None


def test_the_copy_is_made_once_and_again_when_weights_change():
    network = SmallResNet(width=4, embedding_dim=8)
    keeper = AutocastCopy(network)
    with torch.autocast("cpu", torch.bfloat16):
        first = keeper.under_autocast("cpu")
        assert keeper.under_autocast("cpu") is first
        network.load_state_dict({name: value + 1 for name, value in network.state_dict().items()})
        second = keeper.under_autocast("cpu")
    assert second is not first and torch.equal(second.embedding.weight, network.embedding.weight.bfloat16())


def test_checkpoints_hold_the_network_once_in_float32():
    gan = tiny_gan()
    names = list(gan.state_dict())
    with torch.autocast("cpu", torch.bfloat16):
        assert gan.networks.autocast_encoder is not None
    assert list(gan.state_dict()) == names and len(list(gan.image_encoder.parameters())) > 0
    assert all(weight.dtype == torch.float32 for weight in gan.image_encoder.parameters())
