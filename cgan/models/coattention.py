"""Co-attention of words and regions as a second score (DAMSM, Xu et al. 2018; SCAN, Lee et al. 2018)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cgan.models.layers import at_most
from cgan.models.precision import in_float32, widened

MAX_PLACES = 7  # regions each way
MAX_WORDS = 77  # of captions whose words are put together: CLIP's, the longest of all encoders
LARGEST_LOG_SHARPNESS = math.log(50)


class CoAttention(nn.Module):
    """score(map (B, C, H, W), words (N, L, D), mask (N, L)) -> (B, N) in [-1, 1], in float32 regardless of autocast.

    Each word looks at the regions of a picture, each region at the words of a caption; the score is the mean cosine of
    every word with what it sees, and of every region with what it sees.
    """

    def __init__(self, channels: int, text_dim: int, dim: int, sharpness: float = 9.0) -> None:
        super().__init__()
        self.region, self.word = nn.Conv2d(channels, dim, 1), nn.Linear(text_dim, dim)
        self.log_sharpness = nn.Parameter(torch.tensor(sharpness).log())  # SCAN's inverse temperature

    def regions(self, x: Tensor) -> Tensor:
        """Unit vectors of a feature map's places, (B, R, E)."""
        with in_float32(x):
            x = F.adaptive_avg_pool2d(widened(x), min(x.shape[-1], MAX_PLACES))
            return F.normalize(self.region(x).flatten(2).transpose(1, 2), dim=2)

    def words(self, words: Tensor) -> Tensor:
        """Unit vectors of words, (N, L, E)."""
        with in_float32(words):
            return F.normalize(self.word(widened(words)), dim=2)

    def score(self, regions: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """Of unit vectors: every picture with every caption, (B, N)."""
        with in_float32(regions):
            return self.scores_of(widened(regions), widened(words), mask)

    def scores_of(self, regions: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """The same outside of autocast."""
        sharpness = at_most(self.log_sharpness, LARGEST_LOG_SHARPNESS).exp()
        cosine = torch.einsum("bre,nle->bnlr", regions, words)  # (B, N, L, R)
        of_words = mean_cosine((sharpness * cosine).softmax(dim=3), cosine, regions @ regions.mT)  # (B, N, L)
        of_words = (of_words * mask).sum(dim=2) / mask.sum(dim=1)
        grams = (words @ words.mT)[None]  # (1, N, L, L)
        heard = (sharpness * cosine).masked_fill(~mask[None, :, :, None], float("-inf")).softmax(dim=2)
        of_regions = mean_cosine(heard.mT, cosine.mT, grams)  # (B, N, R)
        return (of_words + of_regions.mean(dim=2)) / 2

    def forward(self, x: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        return self.score(self.regions(x), self.words(words), mask)


def padded(words: Tensor, mask: Tensor, needed: bool = True) -> tuple[Tensor, Tensor]:
    """Words (B, L, E) and their mask (B, L) at one length, so that those of several batches fit together."""
    missing = MAX_WORDS - words.shape[1] if needed else 0
    return F.pad(words, (0, 0, 0, missing)), F.pad(mask, (0, missing))


def mean_cosine(attention: Tensor, cosine: Tensor, gram: Tensor) -> Tensor:
    """Cosine of a unit vector u with the mean of unit vectors v that it attends to, without forming that mean.

    attention and cosine <u, v> are (B, N, U, V); gram <v, v'> is (B, V, V) or (1, N, V, V). Gives (B, N, U).
    """
    gram = gram[:, None] if gram.dim() == 3 else gram  # (B, 1, V, V) or (1, N, V, V)
    length = (attention @ gram * attention).sum(dim=3).clamp(min=1e-8).sqrt()
    return (attention * cosine).sum(dim=3) / length
