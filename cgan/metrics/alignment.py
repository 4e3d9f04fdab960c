"""How pictures and captions lie in a shared latent: the modality gap, and retrieval graded by shared labels."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.retrieval import retrieval_normalized_dcg

from cgan.data.labels import LabelTable, multi_hot
from cgan.metrics.retrieval import Score

BLOCK = 256  # queries whose scores are computed at once


def modality_gap(images: Tensor, captions: Tensor) -> float:
    """Returns the distance, in [0, 2], of the mean directions of embeddings of images (N, E) and captions (M, E).

    Liang et al. 2022, "Mind the gap", section 2.1.
    """
    first, second = (F.normalize(x.double(), dim=1).mean(dim=0) for x in (images, captions))
    return float((first - second).norm())


def ndcg(scores: Tensor, shared: Tensor, k: int = 10) -> Tensor:
    """Returns nDCG@k (Jarvelin and Kekalainen 2002) of each query, (Q,), by torchmetrics; a candidate's gain is linear.

    scores (Q, N) order the candidates, and equal scores share their places; shared (Q, N) is each one's gain.
    """
    found = [retrieval_normalized_dcg(row, gain, top_k=k) for row, gain in zip(scores.float(), shared, strict=True)]
    return torch.stack(found)


def mean_ndcg(score: Score, queries: Tensor, candidates: Tensor, shared: tuple[Tensor, Tensor], k: int) -> Tensor:
    """Returns the mean nDCG@k of queries (Q, F) among candidates (N, G), by a score of both; NaN without queries.

    shared has the labels of both as 0 and 1, (Q, K) and (N, K); queries without labels are left out.
    """
    labels, of_candidates = shared
    rows = labels.any(dim=1).nonzero()[:, 0]
    parts = [ndcg(score(queries[some], candidates), labels[some] @ of_candidates.t(), k) for some in rows.split(BLOCK)]
    return torch.cat(parts).mean()


def graded_retrieval(
    score: Score,
    images: Tensor,
    captions: Tensor,
    labels: Sequence[Sequence[str]],
    owners: Tensor,
    k: int = 10,
    num_folds: int = 1,
) -> dict[str, float]:
    """Returns image_to_text/ndcg@10 and text_to_image/ndcg@10 in [0, 1], for k = 10; nothing where there are no labels.

    A candidate is as relevant as the number of labels that it shares with the query. score takes vectors of images
    (I, F) and captions (M, G); labels are those of each image, and owners (M,) the image of each caption, whose labels
    it has. Queries without labels are left out. Values are means over so many folds of consecutive images.
    """
    if not any(labels):
        return {}
    table, found = LabelTable(labels), []
    hot = multi_hot(table.at(range(len(labels))), len(table))  # (I, K)
    for fold in torch.arange(len(images)).tensor_split(num_folds):
        texts = torch.isin(owners, fold).nonzero()[:, 0]
        both = hot[fold], hot[owners[texts]]
        forth = mean_ndcg(score, images[fold], captions[texts], both, k)
        back = mean_ndcg(lambda a, b: score(b, a).t(), captions[texts], images[fold], (both[1], both[0]), k)
        found.append(torch.stack([forth, back]))
    means = torch.stack(found).nanmean(dim=0).tolist()
    return {f"image_to_text/ndcg@{k}": means[0], f"text_to_image/ndcg@{k}": means[1]}
