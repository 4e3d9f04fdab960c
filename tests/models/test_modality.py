import math

import pytest
import torch
from torch.nn import functional as F

from cgan.models.modality import ModalityDiscriminator


def test_the_loss_is_the_cross_entropy_of_modalities():
    torch.manual_seed(0)
    network, images, captions = ModalityDiscriminator(4), torch.randn(5, 4), torch.randn(5, 4)
    logits, truth = network(torch.cat([images, captions])), torch.tensor([1.0] * 5 + [0.0] * 5)
    expected = F.binary_cross_entropy_with_logits(logits, truth)
    assert network.loss(images, captions).item() == pytest.approx(expected.item(), rel=1e-5)
    even = F.binary_cross_entropy_with_logits(logits, torch.full((10,), 0.5))
    assert network.confusion(images, captions).item() == pytest.approx(even.item(), rel=1e-5)
    with torch.no_grad():
        network.logit.weight.zero_(), network.logit.bias.zero_()
    for loss in (network.loss, network.confusion):
        assert loss(images, captions).item() == pytest.approx(math.log(2))


def test_each_player_has_a_loss_of_its_own():
    torch.manual_seed(0)
    network, inputs = ModalityDiscriminator(4), [x.requires_grad_() for x in torch.randn(2, 5, 4)]
    network.loss(*inputs).backward()
    assert all(weight.grad.abs().sum() > 0 for weight in network.parameters())
    assert all(x.grad is None for x in inputs)
    network.zero_grad()
    network.confusion(*inputs).backward()
    assert all(weight.grad is None for weight in network.parameters())
    assert all((x.grad.abs().sum(dim=1) > 0).all() for x in inputs)


def test_confusing_it_brings_two_modalities_together():
    torch.manual_seed(0)
    network, images, captions = ModalityDiscriminator(8), torch.randn(64, 8) + 2, torch.randn(64, 8) - 2
    shift = torch.zeros(8, requires_grad=True)  # what an encoder can do: move its embeddings
    optimizer = torch.optim.Adam([*network.parameters(), shift], lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        (network.loss(images + shift, captions) + network.confusion(images + shift, captions)).backward()
        optimizer.step()
    gap = images.mean(dim=0) + shift.detach() - captions.mean(dim=0)
    assert gap.norm() < 0.5 * (images.mean(dim=0) - captions.mean(dim=0)).norm()
