"""Weights in the type of autocast, of frozen networks and of trained ones."""

import pytest
import torch

from cgan.models.autocast import FrozenCopy, converted_together, layers_converted
from cgan.models.encoders.resnet import SmallResNet
from helpers.features import features_and_gradient, with_statistics
from helpers.gan import tiny_gan


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_features_and_gradients_are_those_of_the_network_under_autocast_but_for_rounding(dtype):
    torch.manual_seed(0)
    network, images = with_statistics(SmallResNet(8, 16, antialias=True)), torch.randn(8, 3, 32, 32)
    exact = features_and_gradient(network, images)
    with torch.autocast("cpu", dtype):
        found = features_and_gradient(FrozenCopy(network).under_autocast("cpu"), images)
    *features, gradient = ((mine - right).norm() / right.norm() for mine, right in zip(found, exact, strict=True))
    assert (
        max(features) < 0.02 and gradient < 0.2
    )  # of rectified units near zero some are on one side, some on the other


def test_without_autocast_there_is_no_copy():
    assert FrozenCopy(SmallResNet(width=4, embedding_dim=8)).under_autocast("cpu") is None


def test_the_copy_is_made_once_and_again_when_weights_change():
    network = SmallResNet(width=4, embedding_dim=8)
    keeper = FrozenCopy(network)
    with torch.autocast("cpu", torch.bfloat16):
        first = keeper.under_autocast("cpu")
        assert keeper.under_autocast("cpu") is first
        network.load_state_dict({name: value + 1 for name, value in network.state_dict().items()})
        second = keeper.under_autocast("cpu")
    assert second is not first and torch.equal(second.embedding.weight, network.embedding.weight.bfloat16())


def test_the_copy_follows_the_statistics_of_batch_normalisations():
    network, images = with_statistics(SmallResNet(width=4, embedding_dim=8)), torch.randn(2, 3, 32, 32)
    keeper = FrozenCopy(network)
    before = keeper.in_float32()(images).embedding
    network.train()(5 * images)
    network.eval()
    torch.testing.assert_close(keeper.in_float32()(images).embedding, network(images).embedding)
    assert not torch.allclose(before, network(images).embedding)


def test_a_network_with_nothing_to_fold_is_used_as_it_is_without_autocast():
    network = torch.nn.Conv2d(3, 4, 3)
    assert FrozenCopy(network).in_float32() is network


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
