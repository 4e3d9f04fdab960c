"""The modality discriminator of ACMR (Wang et al. 2017), with its gradient reversed (Ganin and Lempitsky 2015)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Reversed(torch.autograd.Function):
    """The autograd function of reverse_gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: float) -> Tensor:
        """Returns x."""
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Returns the gradient times -weight."""
        return -ctx.weight * gradient, None


def reverse_gradient(x: Tensor, weight: float) -> Tensor:
    """Returns x, whose gradient becomes -weight times that of what is computed from it."""
    return Reversed.apply(x, weight)  # pyright: ignore[reportReturnType] -- torch types apply as Any or None


class ModalityDiscriminator(nn.Module):
    """Tells embeddings of pictures from embeddings of captions: a perceptron with one hidden layer."""

    def __init__(self, embedding_dim: int, hidden_dim: int = 128) -> None:
        super().__init__()
        self.hidden, self.logit = nn.Linear(embedding_dim, hidden_dim), nn.Linear(hidden_dim, 1)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Returns logits (B,) of embeddings (B, E) with entries of size 1: above 0 for pictures."""
        return self.logit(F.leaky_relu(self.hidden(embeddings), 0.2)).squeeze(1)

    def loss(self, images: Tensor, captions: Tensor, weight: float) -> Tensor:
        """Returns the cross-entropy, in nats, of telling embeddings (B, E) of images from those of captions.

        A step down this loss trains the discriminator to tell them, and the encoders, by the reversed gradient times
        weight, to make them alike. A discriminator that tells nothing has a loss of ln 2.
        """
        of_images, of_captions = (self(reverse_gradient(x, weight)).float() for x in (images, captions))
        return (F.softplus(-of_images).mean() + F.softplus(of_captions).mean()) / 2
