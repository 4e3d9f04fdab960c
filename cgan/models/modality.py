"""The modality discriminator of ACMR (Wang et al. 2017), and the confusion of it (Tzeng et al. 2015)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ModalityDiscriminator(nn.Module):
    """Tells embeddings of pictures from embeddings of captions: a perceptron with one hidden layer."""

    def __init__(self, embedding_dim: int, hidden_dim: int = 128) -> None:
        super().__init__()
        self.hidden, self.logit = nn.Linear(embedding_dim, hidden_dim), nn.Linear(hidden_dim, 1)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Returns logits (B,) of embeddings (B, E) with entries of size 1: above 0 for pictures."""
        return self.logit(F.leaky_relu(self.hidden(embeddings), 0.2)).squeeze(1).float()

    def loss(self, images: Tensor, captions: Tensor) -> Tensor:
        """Returns the cross-entropy, in nats, of telling embeddings (B, E) of images from those of captions.

        Its gradient is the discriminator's alone. A discriminator that tells nothing has a loss of ln 2.
        """
        of_images, of_captions = self(images.detach()), self(captions.detach())
        return (F.softplus(-of_images).mean() + F.softplus(of_captions).mean()) / 2

    def confusion(self, images: Tensor, captions: Tensor) -> Tensor:
        """Returns the cross-entropy of the logits of embeddings (B, E) with an even chance, at least ln 2.

        Its gradient is the encoders' alone. It ends where the discriminator tells nothing; the negative of `loss`, or
        its reversed gradient, would drive embeddings beyond, until the modalities have changed sides.
        """
        frozen = {name: weight.detach() for name, weight in self.named_parameters()}
        logits = torch.func.functional_call(self, frozen, (torch.cat([images, captions]),))
        return (F.softplus(-logits) + F.softplus(logits)).mean() / 2
