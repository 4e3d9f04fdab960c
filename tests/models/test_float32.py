"""Scores and logits within autocast are those of float32; limits of learned parameters let them come back."""

import math

import pytest
import torch
from torch.nn import functional as F

from cgan.models.coattention import CoAttention
from cgan.models.discriminator import ConcatHead, Discriminator, DiscriminatorConfig, Head
from cgan.models.encoders.resnet import ImageEncoderConfig
from cgan.models.float32 import inner_products
from cgan.models.joint import JointConfig, JointEncoder
from cgan.models.layers import at_most
from cgan.models.text.lstm import LSTMConfig, Vocabulary
from cgan.training import losses, step
from cgan.training.joint import JointTraining
from helpers.gan import CAPTIONS, some_batch, tiny_gan


def in_bfloat16(function, *inputs) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return function(*inputs)


def rounded(*shape: int) -> torch.Tensor:
    """Numbers that bfloat16 holds exactly."""
    return torch.randn(*shape).bfloat16()


def assert_float32(function, *inputs: torch.Tensor) -> None:
    """Within autocast it gives what it gives without, of the same inputs."""
    with torch.no_grad():
        found = in_bfloat16(function, *inputs)
        expected = function(*(x.float() if x.is_floating_point() else x for x in inputs))
    assert found.dtype == torch.float32 and (found - expected).abs().max() < 1e-5 * max(1.0, expected.abs().max())


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_logits_of_a_head_are_computed_in_float32():
    assert_float32(Head(8, text_dim=16, head_dim=32).logits, rounded(4, 32), rounded(4, 16))


def test_logits_beside_the_caption_are_computed_in_float32():
    assert_float32(ConcatHead(8, text_dim=16, head_dim=32).logits, rounded(4, 8, 4, 4), rounded(4, 16))


@pytest.mark.parametrize("condition", ["projection", "concat", "separate"])
def test_all_logits_of_a_discriminator_are_computed_in_float32(condition):
    config = DiscriminatorConfig(condition=condition, width=4, max_channels=16, head_dim=8)
    discriminator = Discriminator(config, 32, text_dim=16).eval()
    hidden = [x.detach().bfloat16() for x in discriminator.features(torch.randn(4, 3, 32, 32), [])]
    assert_float32(lambda h, s: discriminator.logits([h], s), *hidden, rounded(4, 16))


def test_scores_of_coattention_are_computed_in_float32():
    coattention = CoAttention(channels=6, text_dim=7, dim=8)
    mask = torch.arange(5)[None] < torch.tensor([5, 2, 1])[:, None]
    assert_float32(coattention, rounded(2, 6, 4, 4), rounded(3, 5, 7), mask)
    vectors = [F.normalize(torch.randn(n, 5, 8), dim=2) for n in (2, 3)]
    assert_float32(coattention.score, *vectors, mask)


def test_inner_products_are_computed_in_float32():
    assert_float32(inner_products, rounded(3, 64), rounded(5, 64))
    assert inner_products(torch.randn(3, 4).double(), torch.randn(5, 4).double()).dtype == torch.float64


def seen_by_info_nce(monkeypatch, action) -> list[torch.Tensor]:
    """The scores that a contrastive loss within autocast is made of."""
    seen, original = [], losses.info_nce
    monkeypatch.setattr(losses, "info_nce", lambda scores, *ids: seen.append(scores.detach()) or original(scores, *ids))
    in_bfloat16(action)
    return seen


@pytest.mark.parametrize("coattention_weight", [0.0, 0.5])
def test_contrastive_scores_of_the_joint_encoder_are_computed_in_float32(coattention_weight, monkeypatch):
    config = JointConfig(
        image=ImageEncoderConfig(width=4, embedding_dim=16), text=LSTMConfig(dim=16, embedding_dim=8),
        coattention_weight=coattention_weight, picture_weight=0, caption_weight=0, temperature=0.01,
    )  # fmt: skip
    joint, batch = JointEncoder(config, Vocabulary.of(CAPTIONS), 32).eval(), some_batch()
    training = JointTraining(joint)
    training.log = lambda *_, **__: None
    with torch.no_grad():
        pictures, text = joint.image(batch.images), joint.text(batch.captions)
        seen = seen_by_info_nce(monkeypatch, lambda: training.contrastive_loss(pictures, text, batch.image_ids))
        expected = 100 * joint.scores(batch.images, batch.captions)
    assert torch.allclose(seen[0], expected, atol=1e-3) and torch.allclose(seen[1], expected.t(), atol=1e-3)


def test_scores_of_the_matching_term_are_computed_in_float32(monkeypatch):
    gan, batch = tiny_gan(), some_batch()
    (part,), embedding = gan.prepare(batch), torch.randn(4, 16)
    seen = seen_by_info_nce(monkeypatch, lambda: step.contrastive_loss(part, embedding))
    expected = 10 * F.normalize(embedding, dim=1) @ F.normalize(part.text.sentence, dim=1).t()
    assert torch.allclose(seen[0], expected, atol=1e-4) and torch.allclose(seen[1], expected.t(), atol=1e-4)


# ---------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("value", "slope", "expected"), [(1.0, 1.0, 1.0), (1.0, -1.0, -1.0), (3.0, 1.0, 1.0), (3.0, -1.0, 0.0)]
)
def test_beyond_its_limit_a_parameter_is_led_back_but_not_further_away(value, slope, expected):
    x = torch.tensor(value, requires_grad=True)
    cut = at_most(x, 2.0)
    (slope * cut).backward()
    assert cut == min(value, 2.0) and x.grad == expected


@pytest.mark.parametrize("start", [math.log(100), math.log(200)])
def test_a_temperature_that_has_passed_its_limit_comes_back(start):
    config = JointConfig(picture_weight=0, caption_weight=0)
    joint = JointEncoder(config, Vocabulary.of(CAPTIONS), 32)
    training = JointTraining(joint)
    joint.log_scale.data.fill_(start)
    optimizer = torch.optim.Adam([joint.log_scale], 0.05)
    scores, ids = torch.randn(8, 8), torch.arange(8)  # which know nothing, so that a cool scale is better
    for _ in range(40):
        optimizer.zero_grad()
        training.ranking_loss(scores, ids, ids).backward()
        optimizer.step()
    assert joint.log_scale < math.log(100) - 0.1


def test_a_sharpness_that_has_passed_its_limit_comes_back():
    coattention = CoAttention(channels=6, text_dim=7, dim=8)
    coattention.log_sharpness.data.fill_(math.log(60))
    optimizer = torch.optim.Adam([coattention.log_sharpness], 0.05)
    vectors, mask = [F.normalize(torch.randn(3, 4, 8), dim=2) for _ in range(2)], torch.ones(3, 4, dtype=torch.bool)
    for _ in range(40):
        optimizer.zero_grad()
        (-coattention.score(*vectors, mask)).sum().backward()  # of these vectors a milder one scores higher
        optimizer.step()
    assert coattention.log_sharpness < math.log(50) - 0.1
