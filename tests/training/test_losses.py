import math

import pytest
import torch
from torch import nn

from cgan.training import losses


@pytest.fixture
def critic() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, padding=1), nn.Softplus(), nn.Flatten(), nn.Linear(8 * 64, 2)
    return nn.Sequential(*layers).double()


def test_finite_difference_penalty_agrees_with_the_exact_one(critic):
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    exact = losses.exact_gradient_penalty(critic, images)
    many = images.repeat(10_000, 1, 1, 1)
    noise = torch.randn(many.shape, generator=torch.Generator().manual_seed(0), dtype=many.dtype)
    finite = losses.finite_gradient_penalty(critic, many, noise, step=1e-4)
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


@pytest.mark.parametrize("kind, parts", [("hinge", 2), ("nonsaturating", 2), ("relativistic", 1)])
def test_the_weight_of_fakes_weighs_their_term_alone(kind, parts):
    real, fake = torch.tensor([0.3, -0.2]), torch.tensor([0.1, 0.5])
    of_all, half, of_real = (losses.discriminator_loss(kind, real, fake, weight) for weight in (1.0, 0.5, 0.0))
    if parts == 1:
        assert torch.equal(of_all, half)
    else:
        assert of_all > half > of_real > 0 and half.item() == pytest.approx((of_all + of_real).item() / 2)


@pytest.mark.parametrize("kind", ["hinge", "nonsaturating", "relativistic"])
def test_higher_logits_lower_the_generator_loss(kind):
    real = torch.zeros(4, 2)
    assert losses.generator_loss(kind, torch.ones(4, 2), real) < losses.generator_loss(kind, -torch.ones(4, 2), real)


def test_doubtful_mismatches_do_not_count():
    logits = torch.tensor([[5.0], [-2.0]])
    loss = losses.mismatch_loss("hinge", torch.zeros(2, 1), logits, torch.tensor([False, True]))
    assert loss.item() == 0


LOGITS = torch.tensor([[2.0, -1.0], [0.0, 0.5]]), torch.tensor([[-2.0, 1.0], [0.5, -0.5]])  # of real and fake pictures


def softplus(*values: float) -> float:
    """The mean of log(1 + e^x)."""
    return sum(math.log(1 + math.exp(x)) for x in values) / len(values)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("hinge", (0 + 2 + 1 + 0.5) / 4 + (0 + 2 + 1.5 + 0.5) / 4),
        ("nonsaturating", softplus(-2, 1, 0, -0.5) + softplus(-2, 1, 0.5, -0.5)),
        ("relativistic", softplus(-4, 2, 0.5, -1)),  # each fake less the real one in its place
    ],
)
def test_the_discriminator_loss_has_the_values_worked_out_by_hand(kind, expected):
    assert losses.discriminator_loss(kind, *LOGITS).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("hinge", 0.25),  # minus the mean of -2, 1, 0.5 and -0.5
        ("nonsaturating", softplus(2, -1, -0.5, 0.5)),
        ("relativistic", softplus(4, -2, -0.5, 1)),
    ],
)
def test_the_generator_loss_has_the_values_worked_out_by_hand(kind, expected):
    real, fake = LOGITS
    assert losses.generator_loss(kind, fake, real).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("hinge", (0 + 2) / 4),  # the second row is in doubt, but counts in the mean
        ("nonsaturating", softplus(-2, 1) / 2),
        ("relativistic", softplus(-4, 2) / 2),
    ],
)
def test_the_mismatch_loss_has_the_values_worked_out_by_hand(kind, expected):
    matched, mismatched = LOGITS
    loss = losses.mismatch_loss(kind, matched, mismatched, torch.tensor([True, False]))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_matching_aware_penalty_is_the_sixth_power_of_the_gradients_norm():
    critic = lambda x, s: 2 * x[:, 0, 0, 0] + s[:, 0] - s[:, 1].square() / 2  # noqa: E731
    sentence = torch.tensor([[5.0, 0.0], [5.0, 2.0]])  # gradients (2; 1, 0) and (2; 1, -2), of norm 5^1/2 and 3
    penalty = losses.matching_aware_penalty(critic, torch.randn(2, 3, 4, 4), sentence)
    assert penalty.item() == pytest.approx((5**3 + 3**6) / 2, rel=1e-6)


# ---------------------------------------------------------------------------------------------- contrastive

IDS = torch.tensor([7, 8, 7, 9])  # two rows are of one picture
CANDIDATES = torch.tensor([7, 8, 7, 9, 8, 3])  # the rows' own come first, then those of other processes
CONTRASTIVE = {
    "all": losses.info_nce,
    "hardest": lambda *args: losses.hardest_negative(*args, margin=0.5),
    "warming up": lambda *args: losses.hardest_negative(*args, margin=0.5, hardness=0.3),
    "semihard": lambda *args: losses.semi_hard_negative(*args, margin=0.5),
    "weighted": lambda *args: losses.weighted_negatives(*args, margin=0.5, temperature=0.1),
}
every_kind = pytest.mark.parametrize("loss", CONTRASTIVE.values(), ids=CONTRASTIVE)


def some_scores(rows: int = 4, columns: int = 6) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))


def negatives_of(row: int) -> list[int]:
    return [j for j in range(6) if CANDIDATES[j] != IDS[row]]


def violations(scores: torch.Tensor, row: int, margin: float = 0.5) -> list[float]:
    return [max(0.0, margin + float(scores[row, j] - scores[row, row])) for j in negatives_of(row)]


def test_info_nce_equals_brute_force_with_same_pictures_masked():
    scores, expected = some_scores(), 0.0
    for i in range(4):
        expected -= float(scores[i, i] - torch.logsumexp(scores[i, [i, *negatives_of(i)]], 0)) / 4
    assert losses.info_nce(scores, IDS, CANDIDATES).item() == pytest.approx(expected, rel=1e-5)


def test_info_nce_of_both_directions_is_the_loss_of_open_clip():
    rng = torch.Generator().manual_seed(0)
    images, texts = (nn.functional.normalize(torch.randn(8, 5, generator=rng)) for _ in range(2))
    logits, labels = 14.3 * images @ texts.t(), torch.arange(8)
    theirs = (nn.functional.cross_entropy(logits, labels) + nn.functional.cross_entropy(logits.t(), labels)) / 2
    mine = (losses.info_nce(logits, labels, labels) + losses.info_nce(logits.t(), labels, labels)) / 2
    assert mine.item() == pytest.approx(theirs.item(), rel=1e-5)


def test_info_nce_of_equal_scores_is_the_logarithm_of_their_number():
    loss = losses.info_nce(torch.full((4, 9), 2.5), torch.arange(4), torch.arange(9))
    assert loss.item() == pytest.approx(math.log(9), rel=1e-6)


def test_the_divergence_from_certain_scores_is_info_nce():
    scores, rows = some_scores(), torch.arange(4)
    certain = torch.full_like(scores, -100.0)
    certain[rows, rows] = 0.0
    expected = nn.functional.cross_entropy(scores, rows)
    assert losses.divergence_of_scores(scores, certain).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_divergence_pushes_no_candidate_away_that_is_wanted_equally():
    scores = torch.tensor([[2.0, 2.0, -3.0]], requires_grad=True)
    losses.divergence_of_scores(scores, torch.tensor([[5.0, 5.0, -10.0]])).backward()
    assert scores.grad[0, 0] == scores.grad[0, 1] < 0 < scores.grad[0, 2]
    assert losses.divergence_of_scores(scores, scores.detach()).item() == pytest.approx(0, abs=1e-6)


def vse_plus_plus(scores: torch.Tensor, margin: float, max_violation: bool) -> torch.Tensor:
    """The published loss, summed over the batch and both directions."""
    own, diagonal = scores.diag().view(-1, 1), torch.eye(len(scores)) > 0.5
    of_captions = (margin + scores - own.expand_as(scores)).clamp(min=0).masked_fill(diagonal, 0)
    of_images = (margin + scores - own.t().expand_as(scores)).clamp(min=0).masked_fill(diagonal, 0)
    if max_violation:
        return of_captions.max(1)[0].sum() + of_images.max(0)[0].sum()
    return of_captions.sum() + of_images.sum()


@pytest.mark.parametrize("max_violation", [True, False])
def test_both_ends_of_the_warm_up_are_the_losses_of_vse_plus_plus(max_violation):
    scores, ids = some_scores(6, 6), torch.arange(6)
    both = sum(losses.hardest_negative(s, ids, ids, 0.2, float(max_violation)) for s in (scores, scores.t()))
    num_terms = 6 if max_violation else 6 * 5  # the published one is a sum
    assert both.item() == pytest.approx(vse_plus_plus(scores, 0.2, max_violation).item() / num_terms, rel=1e-5)


def test_between_the_ends_of_the_warm_up_the_loss_is_between():
    easy, middle, hard = (losses.hardest_negative(some_scores(), IDS, CANDIDATES, 0.5, h) for h in (0.0, 0.3, 1.0))
    assert middle.item() == pytest.approx((0.7 * easy + 0.3 * hard).item(), rel=1e-5) and easy < hard


@pytest.mark.parametrize("own", [None, -9.0], ids=["some below", "none below"])
def test_semi_hard_equals_a_loop(own):
    scores, expected = some_scores(), 0.0
    if own is not None:
        scores.fill_diagonal_(own)  # all negatives are above it: the easiest one counts
    for i in range(4):
        rivals = [float(scores[i, j]) for j in negatives_of(i)]
        below = [score for score in rivals if score < scores[i, i]]
        expected += max(0.0, 0.5 + (max(below) if below else min(rivals)) - float(scores[i, i])) / 4
    loss = losses.semi_hard_negative(scores, IDS, CANDIDATES, margin=0.5)
    assert loss.item() == pytest.approx(expected, rel=1e-5) and loss > 0


def test_weighted_negatives_equal_a_loop():
    scores, expected = some_scores(), 0.0
    for i in range(4):
        weights = [math.exp(float(scores[i, j]) / 0.3) for j in negatives_of(i)]
        expected += sum(w * v for w, v in zip(weights, violations(scores, i), strict=True)) / sum(weights) / 4
    loss = losses.weighted_negatives(scores, IDS, CANDIDATES, margin=0.5, temperature=0.3)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("temperature", "hardness"), [(1e-4, 1.0), (1e6, 0.0)], ids=["cold", "hot"])
def test_weighted_negatives_are_the_hardest_when_cold_and_all_of_them_when_hot(temperature, hardness):
    loss = losses.weighted_negatives(some_scores(), IDS, CANDIDATES, 0.5, temperature)
    expected = losses.hardest_negative(some_scores(), IDS, CANDIDATES, 0.5, hardness)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_no_gradient_flows_through_the_weights_of_negatives():
    scores = some_scores().requires_grad_()
    losses.weighted_negatives(scores, IDS, CANDIDATES, margin=0.5, temperature=0.3).backward()
    for i in range(4):
        rivals = negatives_of(i)
        weights = (scores[i, rivals].detach() / 0.3).softmax(0)
        within = torch.tensor(violations(scores.detach(), i)) > 0
        assert torch.allclose(scores.grad[i, rivals], weights * within / 4, atol=1e-6)


@every_kind
def test_candidates_of_the_same_picture_never_count(loss):
    scores = some_scores()
    changed = scores.clone()
    for i in range(4):
        for j in range(6):
            if i != j and IDS[i] == CANDIDATES[j]:
                changed[i, j] = 50.0
    assert torch.equal(loss(scores, IDS, CANDIDATES), loss(changed, IDS, CANDIDATES))
    assert not torch.equal(scores, changed)


@every_kind
def test_without_any_negative_the_loss_and_its_gradient_are_nothing(loss):
    scores, ids = some_scores().requires_grad_(), torch.full((6,), 5)
    value = loss(scores, ids[:4], ids)
    value.backward()
    assert value == 0 and not scores.grad.any()  # NaN would be true


@every_kind
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_gradients_are_finite_and_lift_a_rows_own_candidate(loss, scale):
    scores = (scale * some_scores()).requires_grad_()
    loss(scores, IDS, CANDIDATES).backward()
    assert scores.grad.isfinite().all() and (scores.grad.diagonal() <= 0).all()


@every_kind
def test_scores_in_half_precision_give_a_loss_in_single_precision(loss):
    assert loss(some_scores().bfloat16(), IDS, CANDIDATES).dtype == torch.float32


# ---------------------------------------------------------------------------------------------- reconstruction


def test_kl_equals_that_of_torch():
    mean, log_variance = torch.randn(6, 5), torch.randn(6, 5)
    normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum(dim=1).mean()
    assert losses.kl_to_normal(mean, log_variance).item() == pytest.approx(expected.item(), rel=1e-5)


def test_equal_pictures_have_no_multiscale_or_feature_matching_loss():
    images, maps = torch.rand(2, 3, 16, 16), [torch.rand(2, 4, 8, 8)]
    assert losses.multiscale_l1(images, images) == 0 and losses.feature_matching_loss(maps, maps) == 0


def test_multiscale_l1_is_the_mean_over_levels_of_the_distance_worked_out_by_hand():
    stripes = torch.tensor([1.0, -1.0, 1.0, -1.0]).expand(1, 3, 4, 4)  # 1 from grey at 4 px, none at 2 and 1 px
    halves = torch.tensor([2.0, 2.0, 0.0, 0.0]).expand(1, 3, 4, 4)  # a mean distance of 1 at every level
    grey = torch.zeros(1, 3, 4, 4)
    assert losses.multiscale_l1(stripes, grey).item() == pytest.approx(1 / 3)
    assert losses.multiscale_l1(halves, grey).item() == pytest.approx(1.0)
    both = stripes + halves  # 3, 1, 1, -1 at 4 px, and 2, 0 at 2 px
    assert losses.multiscale_l1(both, grey, levels=2).item() == pytest.approx((6 / 4 + 2 / 2) / 2)
    assert losses.multiscale_l1(torch.cat([stripes, grey]), torch.cat([grey, grey])).item() == pytest.approx(1 / 6)


def test_feature_matching_loss_is_relative_to_the_targets_of_each_picture():
    target = [torch.full((2, 4, 8, 8), 2.0), torch.full((2, 3, 4, 4), -4.0)]
    target[0][1] *= 5  # 10 in the second picture
    maps = [target[0] + 1, target[1] - 2]  # off by 1 of 2 and of 10; by 2 of 4 in both pictures
    assert losses.feature_matching_loss(maps, target).item() == pytest.approx(((0.5 + 0.1) / 2 + 0.5) / 2)
    ones, zeros = [torch.ones(1, 1, 2, 2)], [torch.zeros(1, 1, 2, 2)]
    assert losses.feature_matching_loss(ones, zeros).item() == pytest.approx(1000)
