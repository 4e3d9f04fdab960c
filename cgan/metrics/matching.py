"""How well generated images fit their captions, by a network that embeds both: CLIP score and R-precision."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.wrappers.abstract import WrapperMetric

from cgan.metrics.features import MatchingNetwork
from cgan.metrics.retrieval import RPrecision

AT_ONCE = 256  # captions that are embedded at a time


def embedded(network: MatchingNetwork, captions: list[str]) -> Tensor:
    """Returns the features (N, F) of any number of captions, embedded batch by batch."""
    parts = [network.embed_captions(captions[i : i + AT_ONCE]) for i in range(0, len(captions), AT_ONCE)]
    return torch.cat(parts)


class CLIPScore(Metric):
    """The mean of 100 times the cosine of image and caption, at least 0 (CLIPScore, Hessel et al. 2021).

    It equals the CLIPScore of torchmetrics, which fails with transformers 5 and drops the end token of long captions.
    """

    sum: Tensor  # () float64
    total: Tensor  # () int64
    higher_is_better = True
    full_state_update = False

    def __init__(self, network: MatchingNetwork) -> None:
        super().__init__()
        self.network = network
        self.add_state("sum", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, images: Tensor, captions: list[str]) -> None:
        """Adds images, uint8 (B, 3, H, W), with one caption each; B may be 0."""
        if len(images) == 0:
            return
        pictures, texts = self.network(images), self.network.embed_captions(captions)
        self.sum += 100 * (pictures.double() * texts.double()).sum()
        self.total += len(captions)

    def compute(self) -> Tensor:
        """Returns the score, a scalar in [0, 100]."""
        return (self.sum / self.total).clamp(min=0)


class GeneratedRPrecision(WrapperMetric):
    """R-precision of generated images: the share that fit their own caption better than its distractors.

    captions: the captions of all N images. distractors (N, 99): the indices of 99 wrong captions for each image.
    """

    distractors: Tensor  # (N, 99) int64
    texts: Tensor | None  # (N, F); embedded at the first update, on the device of the images
    higher_is_better = True
    full_state_update = False

    distractors: Tensor
    texts: Tensor | None  # the embedded captions (N, F), from the first update on

    def __init__(self, network: MatchingNetwork, captions: list[str], distractors: Tensor) -> None:
        super().__init__()
        self.network, self.captions, self.precision = network, captions, RPrecision()
        self.register_buffer("distractors", distractors, persistent=False)
        self.register_buffer("texts", None, persistent=False)

    @torch.no_grad()
    def update(self, images: Tensor, ids: Tensor) -> None:
        """Adds images, uint8 (B, 3, H, W); ids (B,) are the indices of their captions; B may be 0."""
        if len(images) == 0:
            return
        texts = embedded(self.network, self.captions) if self.texts is None else self.texts
        self.texts, ids = texts, ids.to(images.device)
        self.precision.update(self.network(images), texts[ids], texts[self.distractors[ids]])

    def compute(self) -> Tensor:
        """Returns the share, a scalar in [0, 1]."""
        return self.precision.compute()

    def reset(self) -> None:
        """Forgets all images; the embedded captions are kept."""
        super().reset()
        self.precision.reset()
