"""Negative captions: strengthens those properties of a caption that a negative caption does not have."""

from torch import Tensor
from torch.nn import functional as F

from cgan.interfaces import TextFeatures


def away_from(text: TextFeatures, negative: Tensor, strength: float) -> TextFeatures:
    """Returns text whose sentences (B, D) are moved away from a negative sentence (D,); the words stay as they are.

    A direction is moved by `strength` times its difference from the negative direction, and keeps its length. If the
    negative sentence is the mean of many sentences, every caption is strengthened.
    """
    lengths = text.sentence.norm(dim=1, keepdim=True)  # (B, 1)
    sentence, against = F.normalize(text.sentence, dim=1), F.normalize(negative, dim=0)
    moved = F.normalize(sentence + strength * (sentence - against), dim=1)
    return text._replace(sentence=moved * lengths)
