"""How well images and captions find each other: recall of image-text retrieval, and R-precision."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

Score = Callable[[Tensor, Tensor], Tensor]  # images (B, F) and captions (N, G) -> scores (B, N)


class Standing(NamedTuple):
    """The position of the best-scoring positive of each query among the candidates; each field is (Q,) int64."""

    better: Tensor  # candidates above it, none of which is positive
    tied: Tensor  # negatives that score the same
    positives: Tensor  # positives that score the same, itself among them


def highest(values: Tensor, group: Tensor, num_groups: int) -> Tensor:
    """Returns the highest value of each group, (num_groups,), of values (N,) and groups (N,); -inf for empty groups."""
    return values.new_full((num_groups,), -torch.inf).scatter_reduce(0, group, values, "amax")


def standing(scores: Tensor, positive: Tensor, tolerance: float) -> Standing:
    """Returns the standing of scores (Q, N); positive (Q, N) is bool; scores within the tolerance are equal."""
    best = highest(scores[positive], positive.nonzero()[:, 0], len(scores))[:, None]  # (Q, 1)
    better = scores > best + tolerance
    tied = (scores >= best - tolerance) & ~better
    return Standing(better.sum(1), (tied & ~positive).sum(1), (tied & positive).sum(1))


def hit_probability(place: Standing, k: int) -> Tensor:
    """Returns the chance that a positive is in the top k if tied candidates are shuffled, (Q,) float64 in [0, 1].

    Better candidates leave some of the k places. A miss fills them with tied negatives; its chance is
    C(tied, left) / C(tied + positives, left).
    """
    left = (k - place.better).clamp(min=0)
    log_miss = log_choose(place.tied, left) - log_choose(place.tied + place.positives, left)
    return torch.where(left > place.tied, 1.0, 1 - log_miss.exp())


def log_choose(n: Tensor, k: Tensor) -> Tensor:
    """Returns the natural logarithm of the binomial coefficient C(n, k), float64; that of C(n, n) if k > n."""
    n, k = n.double(), k.minimum(n).double()
    return (n + 1).lgamma() - (k + 1).lgamma() - (n - k + 1).lgamma()


def expected_rank(place: Standing) -> Tensor:
    """Returns the mean rank, from 1, of the first positive if tied candidates are shuffled, (Q,) float64."""
    return place.better + 1 + place.tied / (place.positives + 1).double()


class Embedded(NamedTuple):
    """Embeddings of images or captions in their shared latent, each once, sorted by image."""

    embeddings: Tensor  # (N, E) float64
    image_ids: Tensor  # (N,) int64

    def of(self, image_ids: Tensor) -> "Embedded":
        """Returns those embeddings whose image id is among the given ones."""
        kept = torch.isin(self.image_ids, image_ids)
        return Embedded(self.embeddings[kept], self.image_ids[kept])


def without_repeats(embeddings: Tensor, image_ids: Tensor, *more_ids: Tensor) -> Embedded:
    """Returns the embeddings (N, E), of those with the same ids only the first; each ids tensor is (N,)."""
    ids, group = torch.stack([image_ids, *more_ids], dim=1).unique(dim=0, return_inverse=True)
    places = torch.arange(len(group), device=group.device)
    first = group.new_full((len(ids),), len(group)).scatter_reduce(0, group, places, "amin")
    return Embedded(embeddings[first].double(), ids[:, 0])  # float64 also keeps autocast and TF32 out of the scores


def inner_products(images: Tensor, captions: Tensor) -> Tensor:
    """Returns the inner products (B, N) of images (B, E) with captions (N, E)."""
    return images @ captions.t()


def search(queries: Embedded, candidates: Embedded, score: Score, block: int, tolerance: float) -> Standing:
    """Ranks the candidates for each query, `block` queries at a time; those of the same image are positive."""
    parts = []
    for embeddings, ids in zip(queries.embeddings.split(block), queries.image_ids.split(block), strict=True):
        scores = score(embeddings, candidates.embeddings)  # (block, N)
        parts.append(standing(scores, ids[:, None] == candidates.image_ids, tolerance))
    return Standing(*(torch.cat(column) for column in zip(*parts, strict=True)))


def recalls(found: dict[str, Standing], ks: tuple[int, ...]) -> dict[str, Tensor]:
    """Returns Recall@K in [0, 1] for each K and each direction of search."""
    return {f"{way}/recall@{k}": hit_probability(place, k).mean() for way, place in found.items() for k in ks}


def check_embeddings(embeddings: Tensor, *ids: Tensor) -> None:
    """Raises ValueError for NaN or infinity, and for ids that are not one for each embedding."""
    if any(x.shape != embeddings.shape[:1] for x in ids):
        raise ValueError(f"{len(embeddings)} embeddings with ids of shape {[tuple(x.shape) for x in ids]}: one id each")
    if not embeddings.isfinite().all():
        raise ValueError("embeddings hold NaN or infinity: the encoder has diverged")


def check_pairs(images: Embedded, captions: Embedded) -> None:
    """Raises ValueError if an image has no caption, or a caption no image."""
    captionless = images.image_ids[~torch.isin(images.image_ids, captions.image_ids)]
    if len(captionless):
        raise ValueError(f"{len(captionless)} images have no caption, the first is image {int(captionless[0])}")
    imageless = captions.image_ids[~torch.isin(captions.image_ids, images.image_ids)]
    if len(imageless):
        raise ValueError(f"{len(imageless)} captions have no image, the first is of image {int(imageless[0])}")


class ImageTextRecall(Metric):
    """Recall@K and median rank of image-text retrieval, both ways, for any number of captions of each image.

    A query is a hit at K if any of its positives is in the top K; its rank is that of the first (VSE++, Faghri et al.
    2018). Candidates with equal scores count as in random order, so a collapsed encoder scores chance.

    num_folds: results are averaged over that many folds of consecutive image ids. Papers use five folds for COCO 1K and
        one for COCO 5K and Flickr30k 1K; number the images in the order of the split.
    block: the number of rows of the score matrix that are computed at once.
    score: the score of pairs, on float64 vectors; the inner product by default.
    tolerance: scores within it are equal, as a caption encoded in two batches differs in the last digits.
    """

    images: list[Tensor]  # each (B, E); all states are one tensor after the processes' states are gathered
    image_ids: list[Tensor]  # each (B,) int64
    captions: list[Tensor]  # each (N, E)
    caption_image_ids: list[Tensor]  # each (N,) int64
    caption_ids: list[Tensor]  # each (N,) int64
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
        """Adds embeddings of images (B, E) with ids (B,) and of captions (N, E), in any order and any batches.

        caption_image_ids (N,): the id of each caption's image. caption_ids (N,): different for the captions of one
        image, such as their position among them. Equal ids count once, as a sampler that pads repeats images.
        Every process needs at least one update, which may hold no images: torchmetrics can't gather without any.
        Raises ValueError for NaN, infinity, or another number of ids than embeddings.
        """
        check_embeddings(images, image_ids)
        check_embeddings(captions, caption_image_ids, caption_ids)
        self.images.append(images.detach())
        self.image_ids.append(image_ids.long())
        self.captions.append(captions.detach())
        self.caption_image_ids.append(caption_image_ids.long())
        self.caption_ids.append(caption_ids.long())

    def compute(self) -> dict[str, Tensor]:
        """Returns image_to_text/recall@1 ... text_to_image/recall@10 in [0, 1], and both median_rank, from 1.

        Raises ValueError if an image has no caption, a caption no image, or if there are fewer images than folds.
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
        """Returns the recalls and median ranks of one fold, in both directions."""
        found = {
            "image_to_text": search(images, captions, self.score, self.block, self.tolerance),
            "text_to_image": search(captions, images, self.transposed_score, self.block, self.tolerance),
        }
        ranks = {f"{way}/median_rank": expected_rank(place).quantile(0.5) for way, place in found.items()}
        return recalls(found, self.ks) | ranks

    def transposed_score(self, captions: Tensor, images: Tensor) -> Tensor:
        """Returns the scores (B, N) of captions (B, E) with images (N, E)."""
        return self.score(images, captions).t()


def duplicate_caption_ceiling(
    text_ids: Tensor, caption_image_ids: Tensor, ks: tuple[int, ...] = (1, 5, 10)
) -> dict[str, float]:
    """Returns the best recall that any encoder can reach if different images have equal captions, for each K alone.

    text_ids (N,): equal for equal captions; caption_image_ids (N,): the image of each. A text finds at best the K
    images that have it most often. An image ranks the text first that gives it the highest chance; of the m captions
    with that text, p of them its own, all are equally likely to come first.
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
    """Returns each item's rank by size within its group, largest first, from 0; groups, sizes and ranks are (N,)."""
    order = (group * (size.max() + 1) - size).argsort(stable=True)
    starts = group.bincount().cumsum(0) - group.bincount()
    place = torch.arange(len(group), device=group.device) - starts[group[order]]
    return torch.empty_like(place).scatter(0, order, place)


class RPrecision(Metric):
    """The share of generated images that score higher with their own caption than with 99 others.

    This is the R-precision of AttnGAN (Xu et al. 2018). Captions with equal scores count as in random order.
    """

    hits: Tensor  # () float64
    total: Tensor  # () int64
    higher_is_better = True
    full_state_update = False

    def __init__(self, tolerance: float = 1e-5, **settings) -> None:
        """Takes the tolerance within which scores are equal, and settings of torchmetrics, such as sync_on_compute."""
        super().__init__(**settings)
        self.tolerance = tolerance
        self.add_state("hits", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, images: Tensor, captions: Tensor, distractors: Tensor) -> None:
        """Adds embeddings of images (B, E), their captions (B, E) and wrong captions (B, 99, E); B may be 0."""
        for embeddings in (images, captions, distractors):
            check_embeddings(embeddings)
        candidates = torch.cat([captions[:, None], distractors], dim=1).double()  # (B, 100, E)
        scores = torch.einsum("be,bne->bn", images.double(), candidates)
        own = torch.arange(scores.shape[1], device=scores.device) == 0
        self.hits += hit_probability(standing(scores, own.expand_as(scores), self.tolerance), 1).sum()
        self.total += len(images)

    def compute(self) -> Tensor:
        """Returns the share, a scalar in [0, 1]."""
        return self.hits / self.total
