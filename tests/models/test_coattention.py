import pytest
import torch
from torch.nn import functional as F

from cgan.models.coattention import MAX_MAP_SIZE, CoAttention

LENGTHS = (5, 2, 1)


def some_coattention() -> CoAttention:
    torch.manual_seed(0)
    return CoAttention(channels=6, text_dim=7, dim=8)


def some_map(places: int = 4) -> torch.Tensor:
    return torch.randn(2, 6, places, places, generator=torch.Generator().manual_seed(1))


def some_words() -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.arange(5)[None] < torch.tensor(LENGTHS)[:, None]
    return torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(2)), mask


def attended(query: torch.Tensor, keys: torch.Tensor, sharpness: float) -> torch.Tensor:
    """The mean of unit vectors (V, E) that a unit vector (E,) looks at."""
    return ((keys @ query) * sharpness).softmax(0) @ keys


def naive_score(coattention: CoAttention, x: torch.Tensor, words: torch.Tensor) -> float:
    """Of one map (C, H, W) and the words (L, D) of one caption, every attended vector spelled out."""
    sharpness = float(coattention.log_sharpness.exp())
    regions = F.normalize(coattention.region(x).flatten(1).t(), dim=1)  # (R, E)
    words = F.normalize(coattention.word(words), dim=1)  # (L, E)
    of_words = [F.cosine_similarity(word, attended(word, regions, sharpness), dim=0) for word in words]
    of_regions = [F.cosine_similarity(region, attended(region, words, sharpness), dim=0) for region in regions]
    return float(sum(of_words) / len(of_words) + sum(of_regions) / len(of_regions)) / 2


@torch.no_grad()
def test_scores_equal_a_loop_over_pairs_words_and_regions():
    coattention, x, (words, mask) = some_coattention(), some_map(), some_words()
    scores = coattention(x, words, mask)
    for i in range(2):
        for j, length in enumerate(LENGTHS):
            assert scores[i, j].item() == pytest.approx(naive_score(coattention, x[i], words[j, :length]), abs=1e-5)


@torch.no_grad()
def test_large_maps_are_averaged_to_a_few_regions():
    coattention, x, (words, mask) = some_coattention(), some_map(2 * MAX_MAP_SIZE), some_words()
    assert torch.allclose(coattention(x, words, mask), coattention(F.avg_pool2d(x, 2), words, mask), atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("padding", [0.0, 100.0])
def test_padding_words_change_no_score(padding):
    coattention, x, (words, mask) = some_coattention(), some_map(), some_words()
    words, expected = words.masked_fill(~mask[:, :, None], padding), coattention(x, words, mask)
    words, mask = F.pad(words, (0, 0, 0, 3), value=padding), F.pad(mask, (0, 3))
    assert torch.allclose(coattention(x, words, mask), expected, atol=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_gradients_are_finite_with_padding(scale):
    coattention, x, (words, mask) = some_coattention(), (scale * some_map()).requires_grad_(), some_words()
    words = F.pad(words, (0, 0, 0, 3)).requires_grad_()  # words of nothing but zeros, as other processes give them
    coattention(x, words, F.pad(mask, (0, 3))).sum().backward()
    gradients = [x.grad, words.grad, *(parameter.grad for parameter in coattention.parameters())]
    assert all(gradient.isfinite().all() for gradient in gradients)


@torch.no_grad()
def test_scores_are_in_range_and_1_for_words_that_are_the_regions():
    coattention = some_coattention()
    vectors = F.normalize(torch.randn(1, 1, 8).expand(2, 3, 8), dim=2)
    mask = torch.ones(2, 3, dtype=torch.bool)
    assert torch.allclose(coattention.score(vectors, vectors, mask), torch.ones(2, 2))
    assert torch.allclose(coattention.score(vectors, -vectors, mask), -torch.ones(2, 2))
    for sharpness in (0.1, 9.0, 1e4):
        coattention.log_sharpness.data.fill_(sharpness).log_()
        assert coattention(1e3 * some_map(), *some_words()).abs().max() <= 1 + 1e-5
