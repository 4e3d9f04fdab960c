"""Spectral norms of all layers at once are those of torch, layer by layer."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from cgan.models.discriminator import Discriminator, DiscriminatorConfig
from cgan.models.spectral_norm import Divided, add_spectral_norm, normalised_once


def some_network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(32, 4)
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def by_torch(network: nn.Module) -> nn.Module:
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            parametrizations.spectral_norm(layer)
    return network


def pair() -> tuple[nn.Sequential, nn.ModuleList, nn.Module]:
    """A network with own spectral norms, these, and the same network with torch's."""
    ours, theirs = some_network(), some_network()
    torch.manual_seed(1)
    norms = add_spectral_norm(ours)
    torch.manual_seed(1)
    return ours, norms, by_torch(theirs)


def test_outputs_gradients_and_vectors_are_those_of_torch_over_several_steps():
    ours, norms, theirs = pair()
    images = torch.randn(2, 3, 6, 6)
    for training in (True, True, False, True):
        outputs = []
        norms.train(training)
        for network, once in ((ours, normalised_once(norms)), (theirs, parametrize.cached())):
            network.train(training)
            with once:
                outputs.append(network(images))
                outputs[-1].square().sum().backward()
        assert torch.allclose(*outputs, atol=1e-6)
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.allclose(one.grad, other.grad, rtol=1e-4, atol=1e-5 * other.grad.abs().max().item())
    for i, row in ((1, 0), (2, 1)):  # the two layers of one shape
        vectors = theirs[i].parametrizations.weight[0]
        assert torch.allclose(norms[1].left[row], vectors._u, atol=1e-5)
        assert torch.allclose(norms[1].right[row].flatten(), vectors._v, atol=1e-5)


def test_outside_of_the_block_each_use_is_normalised_by_itself_as_torchs_is():
    ours, norms, theirs = pair()
    images = torch.randn(2, 3, 6, 6)
    for _ in range(2):
        assert torch.allclose(ours(images), theirs(images), atol=1e-6)
    with normalised_once(norms), normalised_once(norms):  # a block within a block is the same block
        inner = ours(images)
    assert torch.allclose(inner, theirs(images), atol=1e-6)


def test_the_gradient_flows_through_the_singular_value():
    torch.manual_seed(0)
    weights = [torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    left, right = torch.randn(2, 3, 1, 1, 1).double(), torch.randn(2, 1, 2, 2, 2).double()

    def divided(*weights: torch.Tensor) -> torch.Tensor:
        stacked = torch.stack(weights)
        sigma = (left * stacked.detach() * right).sum(dim=(1, 2, 3, 4), keepdim=True)
        return Divided.apply(stacked.detach(), left, right, sigma, *weights)

    assert torch.autograd.gradcheck(divided, weights)


def discriminator() -> Discriminator:
    config = DiscriminatorConfig(width=4, max_channels=16, head_dim=8)
    return Discriminator(config, 32, text_dim=16, map_channels=[6, 12]).to(memory_format=torch.channels_last)


def test_a_state_dict_with_torchs_names_loads_and_so_does_an_optimizers_state():
    torch.manual_seed(0)
    ours, plain = discriminator(), copy.deepcopy(DiscriminatorConfig(width=4, max_channels=16, head_dim=8))
    plain.spectral_norm = False
    theirs = by_torch(Discriminator(plain, 32, text_dim=16, map_channels=[6, 12]))
    ours.load_state_dict(theirs.state_dict())
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    inputs = torch.randn(2, 3, 32, 32), torch.randn(2, 16), [torch.randn(2, 6, 8, 8), torch.randn(2, 12, 4, 4)]
    with torch.no_grad():
        assert torch.allclose(ours.eval()(*inputs), theirs.eval()(*inputs), atol=1e-6)


def test_a_state_dict_restores_the_vectors_exactly():
    torch.manual_seed(0)
    one, other = discriminator(), discriminator()
    with one.normalised():  # moves them on
        pass
    other.load_state_dict(one.state_dict())
    for a, b in zip(one.spectral_norms, other.spectral_norms, strict=True):
        assert torch.equal(a.left, b.left) and torch.equal(a.right, b.right)


def test_a_copy_has_vectors_and_weights_of_its_own():
    network = discriminator()
    twin = copy.deepcopy(network)
    before = [norms.right.clone() for norms in network.spectral_norms]
    for weight in twin.parameters():
        weight.data.normal_()
    with twin.normalised():
        pass
    assert all(torch.equal(norms.right, x) for norms, x in zip(network.spectral_norms, before, strict=True))
    assert not torch.equal(twin.spectral_norms[0].right, before[0])


@pytest.mark.parametrize("inside", [True, False])
def test_within_autocast_the_singular_values_are_computed_in_float32(inside):
    network = some_network()
    norms = add_spectral_norm(network).eval()
    expected = network[1].weight.detach()
    with torch.autocast("cpu", torch.bfloat16):
        if inside:
            with normalised_once(norms):
                found = network[1].weight
                with torch.autocast("cpu", enabled=False):
                    assert torch.equal(network[1].weight, expected)  # islands in float32 get that
            assert found.dtype == torch.bfloat16 and torch.equal(found, expected.bfloat16())
        else:
            assert torch.equal(network[1].weight, expected)


@pytest.mark.slow
def test_spectral_norms_compile_without_a_graph_break():
    network, inputs = discriminator(), (torch.randn(2, 3, 32, 32), torch.randn(2, 16))
    maps = [torch.randn(2, 6, 8, 8), torch.randn(2, 12, 4, 4)]

    def loss(images: torch.Tensor, sentence: torch.Tensor) -> torch.Tensor:
        with network.normalised():
            return network(images, sentence, maps).square().mean()

    twin = copy.deepcopy(network)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    for _ in range(2):
        found = compiled(*inputs)
        found.backward()
        with twin.normalised():
            expected = twin(*inputs, maps).square().mean()
            expected.backward()
        assert torch.allclose(found, expected, rtol=1e-4)
    for one, other in zip(network.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-3, atol=1e-5 * other.grad.abs().max().item())
    for one, other in zip(network.spectral_norms, twin.spectral_norms, strict=True):
        assert torch.allclose(one.right, other.right, atol=1e-5)
