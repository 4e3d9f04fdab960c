"""Feature vectors of images, by which sets of images are compared: those of Inception or of a substitute."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cgan.metrics.names import SCENE_FEATURES
from cgan.metrics.scenes import SceneClassifier
from cgan.models.weights_hash import hash_weights
from cgan.pixels import as_floats

Resize = Literal["torch-fidelity", "clean"]
LAYERS = {64: 4, 192: 7, 768: 15, 2048: 19}  # number of features: number of Inception's blocks that compute them
AT_ONCE = 32  # pictures in Inception; more take gigabytes


class FeatureNetwork(nn.Module, ABC):
    """Maps images, uint8 (B, 3, H, W), to features, float32 (B, num_features), regardless of autocast."""

    name: str  # the prefix of the names of values; empty for Inception
    num_features: int
    latest: tuple[Tensor, Tensor] | None = None  # the images of the last call of once(), and their features

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Returns the features (B, num_features) of images, uint8 (B, 3, H, W), of any size."""

    def once(self, images: Tensor) -> Tensor:
        """Returns the features (B, num_features); metrics that share a network share its pass through a batch.

        Asked again for the same tensor, it returns the same features. Without images, B = 0, it calls no network.
        """
        if self.latest is None or self.latest[0] is not images:
            empty = torch.zeros(0, self.num_features, device=images.device)
            self.latest = images, (self(images) if len(images) else empty)
        return self.latest[1]

    def describe(self) -> str:
        """Returns what the network is called in messages."""
        return self.name

    def spec(self) -> dict[str, str]:
        """Returns what a protocol records of the network, JSON-able; networks of equal specs have equal features."""
        return {"network": self.name or "inception", "weights": hash_weights(self)}


class MatchingNetwork(FeatureNetwork, ABC):
    """Maps captions as well, to the space of the images: the inner product of a pair is its score, at most 1."""

    @abstractmethod
    def embed_captions(self, captions: list[str]) -> Tensor:
        """Returns the features of captions, float32 (B, num_features)."""


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
        self.classes = network.fc.weight if num_features == max(LAYERS) else None  # (1008, 2048)
        self.resize, self.num_features = resize, num_features

    def forward(self, images: Tensor) -> Tensor:
        """Returns features (B, num_features) of images, uint8 (B, 3, H, W), at most AT_ONCE at a time."""
        with torch.autocast(images.device.type, enabled=False):
            return torch.cat([self.features_of(some) for some in images.split(AT_ONCE)])

    def features_of(self, images: Tensor) -> Tensor:
        """Returns features (B, num_features) of images, uint8 (B, 3, H, W), all at a time."""
        images = resized_clean(images) if self.resize == "clean" else resized_like_tensorflow(images)
        return self.blocks((images - 128) / 128).mean(dim=(2, 3))

    def logits(self, features: Tensor) -> Tensor:
        """Returns the logits (B, 1008) of the Inception score, without bias as in its paper, of features (B, 2048).

        Raises ValueError if the features are of an earlier layer.
        """
        if self.classes is None:
            raise ValueError(f"{self.num_features} features have no classes; take {max(LAYERS)}")
        return features @ self.classes.to(features.dtype).t()

    def describe(self) -> str:
        """Returns the network and how images are resized for it."""
        return f"Inception-v3 (resize {self.resize})"

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

    name = SCENE_FEATURES

    def __init__(self, classifier: SceneClassifier) -> None:
        super().__init__()
        self.classifier, self.num_features = classifier, classifier.config.feature_dim

    def forward(self, images: Tensor) -> Tensor:
        """Returns features (B, num_features) of images, uint8 (B, 3, H, W)."""
        with torch.autocast(images.device.type, enabled=False):
            return self.classifier(as_floats(images))[2]

    def describe(self) -> str:
        """Returns the name of the network."""
        return "the scene classifier"


class GivenFeatures(FeatureNetwork):
    """Takes features in place of images and returns them: for features that are computed beforehand.

    torchmetrics' classes take it as their `feature` network. name: the network that computed the features.
    """

    def __init__(self, num_features: int, name: str = "") -> None:
        super().__init__()
        self.num_features, self.name = num_features, name

    def forward(self, images: Tensor) -> Tensor:
        """Returns the given features (B, num_features) unchanged."""
        return images
