import math

import pytest
import torch
from torch.nn import functional as F

from cgan.models.modality import ModalityDiscriminator, reverse_gradient


def test_reversal_changes_the_gradient_alone():
    x = torch.randn(3, 2, requires_grad=True)
    y = reverse_gradient(x, 0.3)
    assert torch.equal(y, x)
    y.square().sum().backward()
    assert torch.allclose(x.grad, -0.3 * 2 * x.detach())


def test_the_loss_is_the_cross_entropy_of_modalities():
    torch.manual_seed(0)
    network, images, captions = ModalityDiscriminator(4), torch.randn(5, 4), torch.randn(5, 4)
    logits, truth = network(torch.cat([images, captions])), torch.tensor([1.0] * 5 + [0.0] * 5)
    expected = F.binary_cross_entropy_with_logits(logits, truth)
    assert network.loss(images, captions, 0.5).item() == pytest.approx(expected.item(), rel=1e-5)
    with torch.no_grad():
        network.logit.weight.zero_(), network.logit.bias.zero_()
    assert network.loss(images, captions, 0.5).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("weight", [0.25, 1.0])
def test_encoders_get_the_reversed_gradient_by_weight_and_the_discriminator_its_own(weight):
    torch.manual_seed(0)
    network, images, captions = ModalityDiscriminator(4), *torch.randn(2, 5, 4, requires_grad=True)
    inputs = images.detach().requires_grad_(), captions.detach().requires_grad_()
    plain = torch.autograd.grad(F.softplus(-network(inputs[0])).mean() / 2, [inputs[0], network.hidden.weight])
    other = torch.autograd.grad(F.softplus(network(inputs[1])).mean() / 2, [inputs[1], network.hidden.weight])
    mine = torch.autograd.grad(network.loss(*inputs, weight), [*inputs, network.hidden.weight])
    for found, expected in zip(mine, (-weight * plain[0], -weight * other[0], plain[1] + other[1]), strict=True):
        assert torch.allclose(found, expected, atol=1e-7)


def test_two_modalities_grow_alike_by_its_gradient():
    torch.manual_seed(0)
    network, images, captions = ModalityDiscriminator(8), torch.randn(64, 8) + 1, torch.randn(64, 8) - 1
    shift = torch.zeros(8, requires_grad=True)  # what an encoder can do: move its embeddings
    optimizer = torch.optim.Adam([*network.parameters(), shift], lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        network.loss(images + shift, captions, 1.0).backward()
        optimizer.step()
    gap = images.mean(dim=0) + shift.detach() - captions.mean(dim=0)
    assert gap.norm() < 0.5 * (images.mean(dim=0) - captions.mean(dim=0)).norm()
