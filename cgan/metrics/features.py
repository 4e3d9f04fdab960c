"""Feature vectors of images, by which sets of images are compared: those of Inception or of a substitute."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cgan.metrics.scenes import SceneClassifier
from cgan.models.weights_hash import hash_weights
from cgan.pixels import as_floats

Resize = Literal["torch-fidelity", "clean"]
LAYERS = {64: 4, 192: 7, 768: 15, 2048: 19}  # number of features: number of Inception's blocks that compute them
AT_ONCE = 32  # pictures in Inception; more take gigabytes


class FeatureNetwork(nn.Module, ABC):
    """Maps images, uint8 (B, 3, H, W), to features, float32 (B, num_features), regardless of autocast."""

    name: str  # the prefix of the names of measures; empty for Inception
    num_features: int

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Returns the features (B, num_features) of images, uint8 (B, 3, H, W), of any size."""

    def spec(self) -> dict[str, str]:
        """Returns what a protocol records of the network, JSON-able; networks of equal specs have equal features."""
        return {"network": self.name or "inception", "weights": hash_weights(self)}


class MatchingNetwork(FeatureNetwork, ABC):
    """Maps captions as well, to the space of the images: the inner product of a pair is its score, at most 1."""

    @abstractmethod
    def embed_captions(self, captions: list[str]) -> Tensor:
        """Returns the features of captions, float32 (B, num_features)."""


def features_of(network: FeatureNetwork, images: Tensor) -> Tensor:
    """Returns features of images, (B, F), without a call of the network if a process has no images."""
    if len(images) == 0:
        return torch.zeros(0, network.num_features, device=images.device)
    return network(images)


class Inception(FeatureNetwork):
    """Inception-v3 of FID (Heusel et al. 2017), with the weights that torch-fidelity publishes.

    resize: how images are resized to 299 px. "torch-fidelity" is bilinear as in TensorFlow 1, without antialiasing, as
    in the original FID; "clean" is bicubic as in Pillow (clean-fid, Parmar et al. 2022).
    num_features: 2048, or fewer for the features of an earlier layer; the keys of LAYERS.
    """

    name = ""

    def __init__(self, weights: Path, resize: Resize = "torch-fidelity", num_features: int = 2048) -> None:
        super().__init__()
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(weights))
        self.blocks = nn.Sequential(*list(network.children())[: LAYERS[num_features]])
        self.resize, self.num_features = resize, num_features

    def forward(self, images: Tensor) -> Tensor:
        """Returns features (B, num_features) of images, uint8 (B, 3, H, W), at most AT_ONCE at a time."""
        with torch.autocast(images.device.type, enabled=False):
            return torch.cat([self.features_of(some) for some in images.split(AT_ONCE)])

    def features_of(self, images: Tensor) -> Tensor:
        """Returns features (B, num_features) of images, uint8 (B, 3, H, W), all at a time."""
        images = resized_clean(images) if self.resize == "clean" else resized_like_tensorflow(images)
        return self.blocks((images - 128) / 128).mean(dim=(2, 3))

    def spec(self) -> dict[str, str]:
        """Returns the hash of the weights, how images are resized, and num_features; see FeatureNetwork.spec."""
        return super().spec() | {"resize": self.resize, "features": str(self.num_features)}


def resized_like_tensorflow(images: Tensor) -> Tensor:
    """Returns images (B, 3, 299, 299) in [0, 255], resized as in TensorFlow 1: bilinear without antialiasing."""
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    return interpolate_bilinear_2d_like_tensorflow1x(images.float(), size=(299, 299), align_corners=False)


def resized_clean(images: Tensor) -> Tensor:
    """Returns images (B, 3, 299, 299) in [0, 255], resized as Pillow resizes floats: bicubic with antialiasing."""
    return F.interpolate(images.float(), (299, 299), mode="bicubic", antialias=True).clamp(0, 255)


class SceneClassifierFeatures(FeatureNetwork):
    """The last hidden layer of the scene classifier, which replaces Inception where that is missing."""

    name = "judge"

    def __init__(self, classifier: SceneClassifier) -> None:
        super().__init__()
        self.classifier, self.num_features = classifier, classifier.config.feature_dim

    def forward(self, images: Tensor) -> Tensor:
        """Returns features (B, num_features) of images, uint8 (B, 3, H, W)."""
        with torch.autocast(images.device.type, enabled=False):
            return self.classifier(as_floats(images))[2]


class PrecomputedFeatures(FeatureNetwork):
    """Takes features in place of images, for features that another metric has already computed."""

    def __init__(self, name: str, num_features: int) -> None:
        super().__init__()
        self.name, self.num_features = name, num_features

    def forward(self, images: Tensor) -> Tensor:
        """Returns the given features (B, num_features) unchanged."""
        return images
