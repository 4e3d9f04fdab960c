"""How well pictures and captions find each other: recall of image-text retrieval, and R-precision."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

Score = Callable[[Tensor, Tensor], Tensor]  # of pictures (B, F) with captions (N, G), (B, N)


class Standing(NamedTuple):
    """Where the best-scoring positive of each query stands among the candidates; (Q,) int64 each."""

    better: Tensor  # candidates above it, none of which is positive
    tied: Tensor  # negatives that score the same
    positives: Tensor  # positives that score the same, itself among them


def highest(values: Tensor, group: Tensor, num_groups: int) -> Tensor:
    """The highest of the values (N,) of each group, (num_groups,)."""
    return values.new_full((num_groups,), -torch.inf).scatter_reduce(0, group, values, "amax")


def standing(scores: Tensor, positive: Tensor, tolerance: float) -> Standing:
    """Of scores (Q, N), where positive (Q, N) says which candidates are right; scores within tolerance are equal."""
    best = highest(scores[positive], positive.nonzero()[:, 0], len(scores))[:, None]  # (Q, 1)
    better = scores > best + tolerance
    tied = (scores >= best - tolerance) & ~better
    return Standing(better.sum(1), (tied & ~positive).sum(1), (tied & positive).sum(1))


def hit_probability(place: Standing, k: int) -> Tensor:
    """Chance that a positive is in the top k if tied candidates are shuffled, (Q,) float64 in [0, 1].

    A miss fills the places that the better ones leave with negatives: C(tied, left) / C(tied + positives, left).
    """
    left = (k - place.better).clamp(min=0)
    log_miss = log_choose(place.tied, left) - log_choose(place.tied + place.positives, left)
    return torch.where(left > place.tied, 1.0, 1 - log_miss.exp())


def log_choose(n: Tensor, k: Tensor) -> Tensor:
    """Logarithm of the binomial coefficient, float64; where k > n, that of C(n, n)."""
    n, k = n.double(), k.minimum(n).double()
    return (n + 1).lgamma() - (k + 1).lgamma() - (n - k + 1).lgamma()


def expected_rank(place: Standing) -> Tensor:
    """Mean rank of the first positive if tied candidates are shuffled, (Q,) float64, from 1."""
    return place.better + 1 + place.tied / (place.positives + 1).double()


class Embedded(NamedTuple):
    """Pictures or captions in the latent that they share, each once, sorted by picture."""

    embeddings: Tensor  # (N, E) float64
    image_ids: Tensor  # (N,) int64

    def of(self, image_ids: Tensor) -> "Embedded":
        """Those that belong to some of the pictures."""
        kept = torch.isin(self.image_ids, image_ids)
        return Embedded(self.embeddings[kept], self.image_ids[kept])


def without_repeats(embeddings: Tensor, image_ids: Tensor, *more_ids: Tensor) -> Embedded:
    """The first of those whose ids all agree."""
    ids, group = torch.stack([image_ids, *more_ids], dim=1).unique(dim=0, return_inverse=True)
    places = torch.arange(len(group), device=group.device)
    first = group.new_full((len(ids),), len(group)).scatter_reduce(0, group, places, "amin")
    return Embedded(embeddings[first].double(), ids[:, 0])  # float64 also keeps autocast and TF32 out of the scores


def inner_products(images: Tensor, captions: Tensor) -> Tensor:
    """Scores (B, N) of images (B, E) with captions (N, E)."""
    return images @ captions.t()


def search(queries: Embedded, candidates: Embedded, score: Score, block: int, tolerance: float) -> Standing:
    """Rank the candidates for each query; those of the same picture are right."""
    parts = []
    for embeddings, ids in zip(queries.embeddings.split(block), queries.image_ids.split(block), strict=True):
        scores = score(embeddings, candidates.embeddings)  # (block, N)
        parts.append(standing(scores, ids[:, None] == candidates.image_ids, tolerance))
    return Standing(*(torch.cat(column) for column in zip(*parts, strict=True)))


def recalls(found: dict[str, Standing], ks: tuple[int, ...]) -> dict[str, Tensor]:
    """Recall@K of each way to search."""
    return {f"{way}/recall@{k}": hit_probability(place, k).mean() for way, place in found.items() for k in ks}


def check_embeddings(embeddings: Tensor, *ids: Tensor) -> None:
    """Raise ValueError for NaN or infinity, and for ids that are not one for each embedding."""
    if any(x.shape != embeddings.shape[:1] for x in ids):
        raise ValueError(f"{len(embeddings)} embeddings with ids of shape {[tuple(x.shape) for x in ids]}: one id each")
    if not embeddings.isfinite().all():
        raise ValueError("embeddings hold NaN or infinity: the encoder has diverged")


def check_pairs(images: Embedded, captions: Embedded) -> None:
    """Raise ValueError where an image has no caption, or a caption no image."""
    captionless = images.image_ids[~torch.isin(images.image_ids, captions.image_ids)]
    if len(captionless):
        raise ValueError(f"{len(captionless)} images have no caption, the first is image {int(captionless[0])}")
    imageless = captions.image_ids[~torch.isin(captions.image_ids, images.image_ids)]
    if len(imageless):
        raise ValueError(f"{len(imageless)} captions have no image, the first is of image {int(imageless[0])}")


class ImageTextRecall(Metric):
    """Recall@K and median rank of image-text retrieval, both ways, for any number of captions a picture.

    A query is a hit at K if any of its positives is in the top K; its rank is that of the first (VSE++, Faghri et al.
    2018). Candidates with equal scores count as in random order, so a collapsed encoder scores chance.

    num_folds: results are averaged over that many runs of consecutive image ids. The field has five folds for COCO 1K
        and one for COCO 5K and Flickr30k 1K; number the pictures in the order of the split.
    block: rows of the score matrix that are formed at once.
    score: what ranks pairs, on float64 vectors; the inner product when absent.
    tolerance: scores nearer than that are equal, as one caption encoded in two batches differs in the last digits.
    """

    full_state_update = False

    def __init__(
        self,
        ks: tuple[int, ...] = (1, 5, 10),
        num_folds: int = 1,
        block: int = 1024,
        score: Score = inner_products,
        tolerance: float = 1e-5,
    ) -> None:
        super().__init__()
        self.score = score
        self.ks, self.num_folds, self.block, self.tolerance = ks, num_folds, block, tolerance
        for name in ("images", "image_ids", "captions", "caption_image_ids", "caption_ids"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(
        self, images: Tensor, image_ids: Tensor, captions: Tensor, caption_image_ids: Tensor, caption_ids: Tensor
    ) -> None:
        """Add embeddings of pictures (B, E) with ids (B,) and of captions (N, E), in any order and any batches.

        caption_image_ids (N,): the picture of each caption. caption_ids (N,): what tells the captions of one picture
        apart; its position among them will do. A sampler that pads repeats pictures: equal ids count once.
        Every process needs an update, be it of no pictures: torchmetrics fails to gather from one that had none.
        """
        check_embeddings(images, image_ids)
        check_embeddings(captions, caption_image_ids, caption_ids)
        self.images.append(images.detach())
        self.image_ids.append(image_ids.long())
        self.captions.append(captions.detach())
        self.caption_image_ids.append(caption_image_ids.long())
        self.caption_ids.append(caption_ids.long())

    def compute(self) -> dict[str, Tensor]:
        """image_to_text/recall@1 ... text_to_image/recall@10 in [0, 1], and both median_rank, from 1.

        Raises ValueError where a picture has no caption, or a caption no picture.
        """
        images = without_repeats(dim_zero_cat(self.images), dim_zero_cat(self.image_ids))
        caption_ids = dim_zero_cat(self.caption_image_ids), dim_zero_cat(self.caption_ids)
        captions = without_repeats(dim_zero_cat(self.captions), *caption_ids)
        check_pairs(images, captions)
        if len(images.image_ids) < self.num_folds:
            raise ValueError(f"{self.num_folds} folds of {len(images.image_ids)} images: use fewer folds")
        folds = images.image_ids.tensor_split(self.num_folds)
        results = [self.both_ways(images.of(ids), captions.of(ids)) for ids in folds]
        return {name: torch.stack([result[name] for result in results]).mean() for name in results[0]}

    def both_ways(self, images: Embedded, captions: Embedded) -> dict[str, Tensor]:
        """The results of one fold."""
        found = {
            "image_to_text": search(images, captions, self.score, self.block, self.tolerance),
            "text_to_image": search(captions, images, self.transposed_score, self.block, self.tolerance),
        }
        ranks = {f"{way}/median_rank": expected_rank(place).quantile(0.5) for way, place in found.items()}
        return recalls(found, self.ks) | ranks

    def transposed_score(self, captions: Tensor, images: Tensor) -> Tensor:
        """Scores (B, N) of captions (B, E) with images (N, E)."""
        return self.score(images, captions).t()


def duplicate_caption_ceiling(
    text_ids: Tensor, caption_image_ids: Tensor, ks: tuple[int, ...] = (1, 5, 10)
) -> dict[str, float]:
    """The recall that equal captions of different pictures leave to a perfect encoder, each K by itself.

    text_ids (N,): equal for equal captions; caption_image_ids (N,): the picture of each. A text finds at best the K
    pictures that carry it most often. A picture ranks the text first that serves it best, and of the m captions with
    that text, p of them its own, finds any as likely.
    """
    pairs, own = torch.stack([text_ids, caption_image_ids], dim=1).unique(dim=0, return_counts=True)  # (P, 2), (P,)
    text = pairs[:, 0].unique(return_inverse=True)[1]  # (P,), counted from 0
    images, image = pairs[:, 1].unique(return_inverse=True)  # (I,), (P,)
    num_captions = torch.zeros_like(own).scatter_add(0, text, own)[text]
    to_text = Standing(torch.zeros_like(own), num_captions - own, own)
    ceiling = {f"image_to_text/recall@{k}": highest(hit_probability(to_text, k), image, len(images)).mean() for k in ks}
    place = place_among_equals(text, own)
    ceiling |= {f"text_to_image/recall@{k}": own[place < k].sum() / own.sum() for k in ks}
    return {name: float(recall) for name, recall in ceiling.items()}


def place_among_equals(group: Tensor, size: Tensor) -> Tensor:
    """Where each stands by size, largest first, within its group, counted from 0; groups (N,) from 0, sizes (N,)."""
    order = (group * (size.max() + 1) - size).argsort(stable=True)
    starts = group.bincount().cumsum(0) - group.bincount()
    place = torch.arange(len(group), device=group.device) - starts[group[order]]
    return torch.empty_like(place).scatter(0, order, place)


class RPrecision(Metric):
    """Share of generated pictures that score higher with their own caption than with 99 others.

    R-precision of AttnGAN (Xu et al. 2018). Captions with equal scores count as in random order.
    """

    higher_is_better = True
    full_state_update = False

    def __init__(self, tolerance: float = 1e-5, **settings) -> None:
        """settings: torchmetrics', such as sync_on_compute."""
        super().__init__(**settings)
        self.tolerance = tolerance
        self.add_state("hits", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, images: Tensor, captions: Tensor, distractors: Tensor) -> None:
        """Add embeddings of pictures (B, E), their captions (B, E) and mismatched captions (B, 99, E); B may be 0."""
        for embeddings in (images, captions, distractors):
            check_embeddings(embeddings)
        candidates = torch.cat([captions[:, None], distractors], dim=1).double()  # (B, 100, E)
        scores = torch.einsum("be,bne->bn", images.double(), candidates)
        own = torch.arange(scores.shape[1], device=scores.device) == 0
        self.hits += hit_probability(standing(scores, own.expand_as(scores), self.tolerance), 1).sum()
        self.total += len(images)

    def compute(self) -> Tensor:
        return self.hits / self.total
