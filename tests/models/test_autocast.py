"""Weights in the type of autocast, of frozen networks and of trained ones."""

import pytest
import torch

from cgan.models.autocast import AutocastCopy, converted_together, layers_converted
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


def gradients_of(network: torch.nn.Module, images: torch.Tensor, together: bool) -> list[torch.Tensor | None]:
    """Of each weight, of a network that uses the weights of one layer twice and those of another not at all."""
    network.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        layers = layers_converted(network) if together else []
        with converted_together(layers, images.device):
            assert network[1].weight.dtype == (torch.bfloat16 if together else torch.float32)
            loss = network[1](network[1](network[0](images))).square().mean()
    loss.backward()
    return [weight.grad for weight in network.parameters()]


def test_weights_converted_together_have_the_gradients_of_autocast_bit_for_bit():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 8, 3, bias=False), *(torch.nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))]
    network, images = torch.nn.Sequential(*layers).to(memory_format=torch.channels_last), torch.randn(2, 3, 8, 8)
    weights = list(network.parameters())
    found, expected = (gradients_of(network, images, together) for together in (True, False))
    assert all(
        one is None if other is None else torch.equal(one, other) for one, other in zip(found, expected, strict=True)
    )
    assert found[-1] is None and found[0].dtype == torch.float32
    assert all(one is other for one, other in zip(weights, network.parameters(), strict=True))


def test_weights_are_themselves_outside_of_autocast_and_after_an_error():
    layer = torch.nn.Linear(2, 2)
    with converted_together([layer], torch.device("cpu")):
        assert isinstance(layer.weight, torch.nn.Parameter)
    with (
        pytest.raises(ValueError),
        torch.autocast("cpu", torch.bfloat16),
        converted_together([layer], torch.device("cpu")),
    ):
        raise ValueError
    assert isinstance(layer.weight, torch.nn.Parameter)
