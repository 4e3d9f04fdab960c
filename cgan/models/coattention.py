"""Co-attention of words and regions as a second score (DAMSM, Xu et al. 2018; SCAN, Lee et al. 2018)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cgan.interfaces import UserError
from cgan.models.float32 import in_float32, widened
from cgan.models.layers import at_most

MAX_MAP_SIZE = 7  # height and width that larger feature maps are pooled to; each position is a region
MAX_WORDS = 77  # of captions whose words are put together: CLIP's, the longest of all encoders
LARGEST_LOG_SHARPNESS = math.log(50)


class CoAttention(nn.Module):
    """score(map (B, C, H, W), words (N, L, D), mask (N, L)) -> (B, N) in [-1, 1], in float32 regardless of autocast.

    Each word attends to the regions of an image, each region to the words of a caption. The score is the mean cosine of
    every word with the mean region it attends to, and of every region with the mean word it attends to.
    """

    def __init__(self, channels: int, text_dim: int, dim: int, sharpness: float = 9.0) -> None:
        super().__init__()
        self.region, self.word = nn.Conv2d(channels, dim, 1), nn.Linear(text_dim, dim)
        self.log_sharpness = nn.Parameter(torch.tensor(sharpness).log())  # SCAN's inverse temperature

    def regions(self, x: Tensor) -> Tensor:
        """Returns unit vectors (B, R, E) of the positions of a feature map (B, C, H, W)."""
        with in_float32(x):
            x = F.adaptive_avg_pool2d(widened(x), min(x.shape[-1], MAX_MAP_SIZE))
            return F.normalize(self.region(x).flatten(2).transpose(1, 2), dim=2)

    def words(self, words: Tensor) -> Tensor:
        """Returns unit vectors (N, L, E) of words (N, L, D)."""
        with in_float32(words):
            return F.normalize(self.word(widened(words)), dim=2)

    def score(self, regions: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """Returns the scores (B, N) of regions (B, R, E) and words (N, L, E), unit vectors; mask is (N, L) bool."""
        with in_float32(regions):
            return self.scores_of(widened(regions), widened(words), mask)

    def scores_of(self, regions: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """Returns the scores (B, N) like `score`, for float32 vectors and outside autocast."""
        sharpness = at_most(self.log_sharpness, LARGEST_LOG_SHARPNESS).exp()
        cosine = torch.einsum("bre,nle->bnlr", regions, words)  # (B, N, L, R)
        of_words = mean_cosine((sharpness * cosine).softmax(dim=3), cosine, regions @ regions.mT)  # (B, N, L)
        of_words = (of_words * mask).sum(dim=2) / mask.sum(dim=1)
        grams = (words @ words.mT)[None]  # (1, N, L, L)
        heard = (sharpness * cosine).masked_fill(~mask[None, :, :, None], float("-inf")).softmax(dim=2)
        of_regions = mean_cosine(heard.mT, cosine.mT, grams)  # (B, N, R)
        return (of_words + of_regions.mean(dim=2)) / 2

    def forward(self, x: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """Returns scores (B, N) in [-1, 1] of maps (B, C, H, W) and words (N, L, D); mask (N, L) marks real words."""
        return self.score(self.regions(x), self.words(words), mask)


def padded(words: Tensor, mask: Tensor, needed: bool = True) -> tuple[Tensor, Tensor]:
    """Returns words (B, L, E) and their mask (B, L), padded to MAX_WORDS so that those of several batches fit together.

    With needed=False they are returned unchanged.
    """
    missing = MAX_WORDS - words.shape[1] if needed else 0
    return F.pad(words, (0, 0, 0, missing)), F.pad(mask, (0, missing))


def mean_cosine(attention: Tensor, cosine: Tensor, gram: Tensor) -> Tensor:
    """Returns the cosine of a unit vector u with the mean of unit vectors v that it attends to, (B, N, U).

    attention and cosine <u, v> are (B, N, U, V). gram <v, v'>, (B, V, V) or (1, N, V, V), avoids computing the mean.
    """
    gram = gram[:, None] if gram.dim() == 3 else gram  # (B, 1, V, V) or (1, N, V, V)
    length = (attention @ gram * attention).sum(dim=3).clamp(min=1e-8).sqrt()
    return (attention * cosine).sum(dim=3) / length


def frozen_coattention(matching: str, coattention: CoAttention | None) -> CoAttention | None:
    """Returns the frozen co-attention where the matching term uses it; raises UserError where it is missing then."""
    if matching != "attention":
        return None
    if coattention is None:
        raise UserError("gan.matching=attention: the joint encoder has no co-attention; train it with "
                        "joint.coattention_weight=0.5, or give another joint.checkpoint")  # fmt: skip
    return coattention.eval().requires_grad_(False)
