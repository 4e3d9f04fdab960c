import math

import pytest
import torch
from torch.nn import functional as F
from torchmetrics.retrieval import RetrievalNormalizedDCG

from cgan.metrics.alignment import graded_retrieval, modality_gap
from cgan.metrics.retrieval import inner_products

LABELS = [("dog", "red"), ("dog", "blue"), (), ("cat", "red"), ("car",), ("dog", "red", "small")]
OWNERS = torch.tensor([0, 0, 1, 2, 3, 4, 5, 5, 5])


def vectors(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(6, 4, generator=generator), torch.randn(9, 4, generator=generator)


def shared(one: int, other: int) -> int:
    return len(set(LABELS[one]) & set(LABELS[other]))


def test_the_gap_is_the_distance_of_mean_directions():
    images, captions = torch.tensor([[3.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, -2.0]])
    assert modality_gap(images, captions) == pytest.approx(math.hypot(0.5, 1.5))
    assert modality_gap(images, 7 * images) == pytest.approx(0, abs=1e-12)
    more = torch.randn(50, 8)
    expected = (F.normalize(more, dim=1).mean(0) - F.normalize(more + 1, dim=1).mean(0)).norm()
    assert modality_gap(more, more + 1) == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("k", [2, 10])
def test_graded_retrieval_is_torchmetrics_normalized_dcg_of_shared_labels(k):
    images, captions = vectors()
    found, scores = graded_retrieval(inner_products, images, captions, LABELS, OWNERS, k), images @ captions.t()
    for way, rows in (("image_to_text", scores), ("text_to_image", scores.t())):
        queries = list(range(6)) if way == "image_to_text" else OWNERS.tolist()
        candidates = OWNERS.tolist() if way == "image_to_text" else list(range(6))
        metric = RetrievalNormalizedDCG(top_k=k)
        for number, query in enumerate(queries):
            if LABELS[query]:
                gains = torch.tensor([shared(query, other) for other in candidates])
                metric.update(rows[number], gains, indexes=torch.full((len(candidates),), number))
        assert found[f"{way}/ndcg@{k}"] == pytest.approx(metric.compute().item(), abs=1e-6)


def test_a_perfect_order_is_1_and_folds_are_averaged():
    hot = torch.tensor(
        [[name in labels for name in ("dog", "red", "blue", "cat", "car", "small")] for labels in LABELS]
    )
    perfect = hot.float()
    found = graded_retrieval(inner_products, perfect, perfect[OWNERS], LABELS, OWNERS)
    assert found == pytest.approx({"image_to_text/ndcg@10": 1.0, "text_to_image/ndcg@10": 1.0})
    images, captions = vectors(1)
    folds = graded_retrieval(inner_products, images, captions, LABELS, OWNERS, num_folds=2)
    halves = [
        graded_retrieval(
            inner_products, images[part], captions[chosen], LABELS[part], OWNERS[chosen] - part.start, num_folds=1
        )
        for part, chosen in ((slice(0, 3), OWNERS < 3), (slice(3, 6), OWNERS >= 3))
    ]
    assert folds == pytest.approx({name: (halves[0][name] + halves[1][name]) / 2 for name in folds})


def test_without_labels_there_is_nothing_to_grade():
    images, captions = vectors()
    assert graded_retrieval(inner_products, images, captions, [()] * 6, OWNERS) == {}
    one = [("dog",), *[()] * 5]  # a query that only its own pair answers
    assert graded_retrieval(inner_products, images, images, one, torch.arange(6)).keys() == {
        "image_to_text/ndcg@10", "text_to_image/ndcg@10",
    }  # fmt: skip


def test_a_collapsed_encoder_scores_as_a_random_order():
    images, captions = torch.ones(6, 4), torch.ones(9, 4)
    found = graded_retrieval(inner_products, images, captions, LABELS, OWNERS, k=3)
    generator = torch.Generator().manual_seed(0)
    random = [
        graded_retrieval(
            lambda a, b: torch.rand(len(a), len(b), generator=generator), images, captions, LABELS, OWNERS, 3
        )
        for _ in range(60)
    ]
    for name, value in found.items():
        assert value == pytest.approx(sum(each[name] for each in random) / 60, abs=0.06)
