"""Negative captions: what a caption has and another one has not, exaggerated."""

from torch import Tensor
from torch.nn import functional as F

from cgan.interfaces import TextFeatures


def away_from(text: TextFeatures, negative: Tensor, strength: float) -> TextFeatures:
    """Sentences moved away from a negative one, (D,), by a multiple of the difference of directions; words stay.

    Lengths stay as well. The mean of many sentences as the negative one makes every caption count for more.
    """
    lengths = text.sentence.norm(dim=1, keepdim=True)  # (B, 1)
    sentence, against = F.normalize(text.sentence, dim=1), F.normalize(negative, dim=0)
    moved = F.normalize(sentence + strength * (sentence - against), dim=1)
    return text._replace(sentence=moved * lengths)
