"""How well generated pictures fit their captions, by a network that knows both: CLIP score and R-precision."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.wrappers.abstract import WrapperMetric

from cgan.metrics.features import MatchingNetwork
from cgan.metrics.retrieval import RPrecision

AT_ONCE = 256  # captions


def embedded(network: MatchingNetwork, captions: list[str]) -> Tensor:
    """Captions as (N, F), batch by batch, so that there may be many."""
    parts = [network.embed_captions(captions[i : i + AT_ONCE]) for i in range(0, len(captions), AT_ONCE)]
    return torch.cat(parts)


class CLIPScore(Metric):
    """Mean of 100 times the cosine of picture and caption, at least 0 (CLIPScore, Hessel et al. 2021), as torchmetrics.

    torchmetrics' own fails with transformers 5, and cuts long captions so that their end is lost.
    """

    higher_is_better = True
    full_state_update = False

    def __init__(self, network: MatchingNetwork) -> None:
        super().__init__()
        self.network = network
        self.add_state("sum", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, images: Tensor, captions: list[str]) -> None:
        """Add pictures, uint8 (B, 3, H, W), with a caption each; B may be 0."""
        if len(images) == 0:
            return
        pictures, texts = self.network(images), self.network.embed_captions(captions)
        self.sum += 100 * (pictures.double() * texts.double()).sum()
        self.total += len(captions)

    def compute(self) -> Tensor:
        return (self.sum / self.total).clamp(min=0)


class GeneratedRPrecision(WrapperMetric):
    """R-precision of generated pictures: how often each fits its own caption better than those that distract from it.

    captions: of all pictures. distractors (N, 99): for each picture the places of captions that are wrong for it.
    """

    higher_is_better = True
    full_state_update = False

    def __init__(self, network: MatchingNetwork, captions: list[str], distractors: Tensor) -> None:
        super().__init__()
        self.network, self.captions, self.precision = network, captions, RPrecision()
        self.register_buffer("distractors", distractors, persistent=False)
        self.register_buffer("texts", None, persistent=False)  # (N, F); embedded where the pictures are

    @torch.no_grad()
    def update(self, images: Tensor, ids: Tensor) -> None:
        """Add pictures, uint8 (B, 3, H, W); ids (B,) are the places of their captions; B may be 0."""
        if len(images) == 0:
            return
        if self.texts is None:
            self.texts = embedded(self.network, self.captions)
        ids = ids.to(images.device)
        self.precision.update(self.network(images), self.texts[ids], self.texts[self.distractors[ids]])

    def compute(self) -> Tensor:
        return self.precision.compute()

    def reset(self) -> None:
        super().reset()
        self.precision.reset()
