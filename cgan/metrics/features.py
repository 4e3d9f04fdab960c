"""Feature vectors of images, by which sets of images are compared: those of Inception, or of a stand-in."""

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
LAYERS = {64: 4, 192: 7, 768: 15, 2048: 19}  # how many of Inception's blocks lead to so many features
AT_ONCE = 32  # pictures in Inception; more take gigabytes


class FeatureNetwork(nn.Module, ABC):
    """Pictures, uint8 (B, 3, H, W), to features, float32 (B, num_features), outside autocast."""

    name: str  # before the names of measures; that of Inception is empty
    num_features: int

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """The features of pictures of any one size."""

    def spec(self) -> dict[str, str]:
        """What a protocol says of it; features of equal specs are equal. JSON-able."""
        return {"network": self.name or "inception", "weights": hash_weights(self)}


class MatchingNetwork(FeatureNetwork, ABC):
    """Captions as well, in the latent of the pictures: the inner product is the score, at most 1."""

    @abstractmethod
    def embed_captions(self, captions: list[str]) -> Tensor:
        """Captions as float32 (B, num_features)."""


def features_of(network: FeatureNetwork, images: Tensor) -> Tensor:
    """Features of pictures, (B, F); of none at all, which a process may be given, the network is not asked."""
    if len(images) == 0:
        return torch.zeros(0, network.num_features, device=images.device)
    return network(images)


class Inception(FeatureNetwork):
    """Inception-v3 of FID (Heusel et al. 2017), by the file of weights that torch-fidelity publishes.

    resize: to 299 px as torch-fidelity and the first FID do, bilinear as in TensorFlow 1 without antialiasing, or as
    clean-fid (Parmar et al. 2022), Pillow's bicubic. num_features below 2048 are those of earlier layers.
    """

    name = ""

    def __init__(self, weights: Path, resize: Resize = "torch-fidelity", num_features: int = 2048) -> None:
        super().__init__()
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(weights))
        self.blocks = nn.Sequential(*list(network.children())[: LAYERS[num_features]])
        self.resize, self.num_features = resize, num_features

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            return torch.cat([self.features_of(some) for some in images.split(AT_ONCE)])

    def features_of(self, images: Tensor) -> Tensor:
        images = resized_clean(images) if self.resize == "clean" else resized_like_tensorflow(images)
        return self.blocks((images - 128) / 128).mean(dim=(2, 3))

    def spec(self) -> dict[str, str]:
        return super().spec() | {"resize": self.resize, "features": str(self.num_features)}


def resized_like_tensorflow(images: Tensor) -> Tensor:
    """Images (B, 3, 299, 299), bilinear without antialiasing, as TensorFlow 1 resizes."""
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    return interpolate_bilinear_2d_like_tensorflow1x(images.float(), size=(299, 299), align_corners=False)


def resized_clean(images: Tensor) -> Tensor:
    """As Pillow does with floats."""
    return F.interpolate(images.float(), (299, 299), mode="bicubic", antialias=True).clamp(0, 255)


class SceneClassifierFeatures(FeatureNetwork):
    """The last hidden layer of the scene classifier, which stands in for Inception where that is missing."""

    name = "judge"

    def __init__(self, classifier: SceneClassifier) -> None:
        super().__init__()
        self.classifier, self.num_features = classifier, classifier.config.feature_dim

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            return self.classifier(as_floats(images))[2]


class PrecomputedFeatures(FeatureNetwork):
    """Takes features in place of images, where another metric has computed them already."""

    def __init__(self, name: str, num_features: int) -> None:
        super().__init__()
        self.name, self.num_features = name, num_features

    def forward(self, images: Tensor) -> Tensor:
        return images
