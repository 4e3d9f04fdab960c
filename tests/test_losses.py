import pytest
import torch
from torch import nn

from cgan import losses


@pytest.fixture
def critic() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, padding=1), nn.Softplus(), nn.Flatten(), nn.Linear(8 * 64, 2)
    return nn.Sequential(*layers).double()


def test_finite_difference_penalty_agrees_with_the_exact_one(critic):
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    exact = losses.exact_gradient_penalty(critic, images)
    many = images.repeat(20_000, 1, 1, 1)
    finite = losses.finite_gradient_penalty(critic, many, step=1e-4, generator=torch.Generator().manual_seed(0))
    assert finite.item() == pytest.approx(exact.item(), rel=0.05)


def test_penalty_of_a_linear_critic_is_its_squared_weight():
    weight = torch.randn(3, 4, 4)
    penalty = losses.exact_gradient_penalty(lambda x: (x * weight).sum(dim=(1, 2, 3)), torch.randn(5, 3, 4, 4))
    assert penalty.item() == pytest.approx(weight.square().sum().item(), rel=1e-5)


def test_matching_aware_penalty_has_a_finite_gradient_where_the_critic_is_flat():
    weight = torch.zeros(3, 4, 4, requires_grad=True)
    critic = lambda x, s: (x * weight).sum(dim=(1, 2, 3)) + 0 * s.sum(dim=1)  # noqa: E731
    losses.matching_aware_penalty(critic, torch.randn(2, 3, 4, 4), torch.randn(2, 8)).backward()
    assert torch.isfinite(weight.grad).all()


@pytest.mark.parametrize("kind", ["hinge", "nonsaturating", "relativistic"])
def test_telling_real_from_fake_lowers_the_discriminator_loss(kind):
    apart = losses.discriminator_loss(kind, torch.full((4, 2), 3.0), torch.full((4, 2), -3.0))
    confused = losses.discriminator_loss(kind, torch.full((4, 2), -3.0), torch.full((4, 2), 3.0))
    assert apart < confused


@pytest.mark.parametrize("kind", ["hinge", "nonsaturating", "relativistic"])
def test_higher_logits_lower_the_generator_loss(kind):
    real = torch.zeros(4, 2)
    assert losses.generator_loss(kind, torch.ones(4, 2), real) < losses.generator_loss(kind, -torch.ones(4, 2), real)


def test_doubtful_mismatches_do_not_count():
    logits = torch.tensor([[5.0], [-2.0]])
    loss = losses.mismatch_loss("hinge", torch.zeros(2, 1), logits, torch.tensor([False, True]))
    assert loss.item() == 0


def test_info_nce_equals_brute_force_with_same_pictures_masked():
    scores, ids = torch.randn(4, 4), torch.tensor([7, 8, 7, 9])
    expected = 0.0
    for matrix in (scores, scores.t()):
        for i in range(4):
            rivals = [j for j in range(4) if j == i or ids[j] != ids[i]]
            expected -= (matrix[i, i] - torch.logsumexp(matrix[i, rivals], 0)).item() / 8
    assert losses.info_nce(scores, ids).item() == pytest.approx(expected, rel=1e-5)


def test_kl_equals_that_of_torch():
    mean, log_variance = torch.randn(6, 5), torch.randn(6, 5)
    normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum(dim=1).mean()
    assert losses.kl_to_normal(mean, log_variance).item() == pytest.approx(expected.item(), rel=1e-5)


def test_equal_pictures_have_no_pyramid_or_feature_loss():
    images, maps = torch.rand(2, 3, 16, 16), [torch.rand(2, 4, 8, 8)]
    assert losses.pyramid_loss(images, images) == 0 and losses.feature_loss(maps, maps) == 0
