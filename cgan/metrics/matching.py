"""How well generated images fit their captions, by a network that embeds both: CLIP score and R-precision."""

import warnings

import torch
from torch import Tensor, nn
from torchmetrics.multimodal.clip_score import CLIPScore
from torchmetrics.wrappers.abstract import WrapperMetric

from cgan.metrics.features import MatchingNetwork
from cgan.metrics.retrieval import RPrecision

AT_ONCE = 256  # captions that are embedded at a time


def embedded(network: MatchingNetwork, captions: list[str]) -> Tensor:
    """Returns the features (N, F) of any number of captions, embedded batch by batch."""
    parts = [network.embed_captions(captions[i : i + AT_ONCE]) for i in range(0, len(captions), AT_ONCE)]
    return torch.cat(parts)


class GivenVectors(nn.Module):
    """Stands for CLIP and its processor within torchmetrics' CLIPScore, which gets vectors in place of images.

    torchmetrics 1.9.0 fails with the CLIPModel of transformers 5, which returns outputs instead of tensors (its issue
    3407), and cuts the end token off captions of over 77 tokens. CLIPNetwork does both right, in one pass that serves
    R-precision as well.
    """

    def get_image_features(self, vectors: Tensor) -> Tensor:
        """Returns vectors (B, F, 1, 1) as (B, F)."""
        return vectors.flatten(1)

    @staticmethod
    def process(images: list[Tensor], **_: object) -> dict[str, Tensor]:
        """Returns vectors, each (F, 1, 1), in the form of a processor's output."""
        return {"pixel_values": torch.stack(images)}


class CaptionScore(WrapperMetric):
    """torchmetrics' CLIPScore (Hessel et al. 2021): the mean of 100 times the cosine of image and caption, at least 0.

    It refuses an empty batch, so a process without images leaves it alone.
    """

    higher_is_better = True
    full_state_update = False

    def __init__(self, network: MatchingNetwork) -> None:
        super().__init__()
        self.network, self.score = network, CLIPScore(lambda: (GivenVectors(), GivenVectors.process))

    def update(self, images: Tensor, captions: list[str]) -> None:
        """Adds images, uint8 (B, 3, H, W), with one caption each; B may be 0."""
        if len(images) == 0:
            return
        pictures, texts = self.network.once(images), self.network.embed_captions(captions)
        self.score.update(*(vectors.double()[:, :, None, None] for vectors in (pictures, texts)))

    def compute(self) -> Tensor:
        """Returns the score, a scalar in [0, 100]."""
        with warnings.catch_warnings():  # torchmetrics warns in a process that had no images
            warnings.filterwarnings("ignore", message="The ``compute`` method of metric CLIPScore was called before")
            return self.score.compute()

    def reset(self) -> None:
        """Forgets all images."""
        super().reset()
        self.score.reset()


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
        self.precision.update(self.network.once(images), texts[ids], texts[self.distractors[ids]])

    def compute(self) -> Tensor:
        """Returns the share, a scalar in [0, 1]."""
        return self.precision.compute()

    def reset(self) -> None:
        """Forgets all images; the embedded captions are kept."""
        super().reset()
        self.precision.reset()
