"""The supervised contrastive loss between and within pictures and captions, by how many labels they share.

Khosla et al. 2020, "Supervised contrastive learning", equation 2, in which all positives of an anchor count alike; here
each counts by the number of labels that it shares with the anchor.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from cgan.data.labels import multi_hot
from cgan.models.float32 import inner_products
from cgan.training.distributed import all_gather_local_first


def weighted_contrast(scores: Tensor, weights: Tensor) -> Tensor:
    """Returns the mean over rows of -log softmax(scores), averaged over a row's candidates by their weights.

    scores and weights are (B, N); candidates with a score of -inf are none. Rows without any weight count as 0.
    """
    surprise = -scores.float().log_softmax(dim=1).masked_fill(weights == 0, 0)
    return ((weights * surprise).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-12)).mean()


def num_shared(labels: Tensor, candidate_labels: Tensor, num_labels: int) -> Tensor:
    """Returns how many labels rows share with candidates, (B, N) float32, of padded places (B, L) and (N, L)."""
    return inner_products(multi_hot(labels, num_labels), multi_hot(candidate_labels, num_labels))


def shared_labels_loss(images: Tensor, captions: Tensor, labels: Tensor, num_labels: int, temperature: float) -> Tensor:
    """Returns the loss of pairs: embeddings (B, E) of images and of captions, and the labels (B, L) that both have.

    It is the mean of four contrasts: images with captions, captions with images, and each with its own kind. The
    candidates are those of all processes. A pair without labels is a positive of itself alone.
    """
    images, captions = (F.normalize(x.float(), dim=1) / temperature**0.5 for x in (images, captions))
    all_images, all_captions = all_gather_local_first(images), all_gather_local_first(captions)
    shared = num_shared(labels, all_gather_local_first(labels), num_labels)  # (B, N)
    own = torch.eye(*shared.shape, dtype=torch.bool, device=shared.device)
    between, within = shared.where(~own, shared.clamp(min=1)), shared.masked_fill(own, 0)
    across = weighted_contrast(inner_products(images, all_captions), between)
    across = across + weighted_contrast(inner_products(captions, all_images), between)
    for one, candidates in ((images, all_images), (captions, all_captions)):
        across = across + weighted_contrast(inner_products(one, candidates).masked_fill(own, float("-inf")), within)
    return across / 4
