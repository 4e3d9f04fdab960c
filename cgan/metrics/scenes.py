"""The scene classifier, and the metrics that use its predictions."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric

from cgan.interfaces import UserError
from cgan.resources import SCENE_CLASSIFIER

METADATA = "judge"  # the key of the configuration within a file of weights


@dataclass
class SceneClassifierConfig:
    """The sizes of a SceneClassifier."""

    num_values: tuple[int, ...] = (8, 8, 2, 3, 6)  # of object, colour, size, position, ground
    width: int = 32
    feature_dim: int = 128
    resolution: int = 64  # other pictures are resized to it


class Reading(NamedTuple):
    """The predictions of the classifier for images."""

    values: Tensor  # (B, attributes) int64
    recognisable: Tensor  # (B,) bool
    features: Tensor  # (B, feature_dim)


class SceneClassifier(nn.Module):
    """Predicts the attributes of scenes, and whether a person would recognise the object.

    It has plain convolutions with group normalisation, unlike the encoder that generators are trained against.
    """

    def __init__(self, config: SceneClassifierConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.width * factor for factor in (1, 2, 3)]
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, stride=2, padding=1), nn.ReLU()]
        for before, after in zip([widths[0], *widths[:-1]], widths, strict=True):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(4, after), nn.ReLU()]
            layers += [nn.Conv2d(after, after, 3, padding=1), nn.GroupNorm(4, after), nn.ReLU(), nn.MaxPool2d(2)]
        self.convolutions = nn.Sequential(*layers)  # (B, 3 width, 4, 4)
        self.features = nn.Linear(widths[-1] * 16, config.feature_dim)
        self.attributes = nn.Linear(config.feature_dim, sum(config.num_values))
        self.recognisable = nn.Linear(config.feature_dim, 1)

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Returns logits, features and whether images (B, 3, H, W) in [-1, 1] are recognisable.

        These are a list of the logits (B, values) of each attribute, the logit (B,) of being recognisable, and features
        (B, feature_dim). Images of other resolutions are resized.
        """
        size = self.config.resolution
        if images.shape[-1] != size:
            images = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
        features = self.features(self.convolutions(images).flatten(1))  # (B, feature_dim)
        hidden = F.relu(features)
        logits = self.attributes(hidden).split(self.config.num_values, dim=1)
        return list(logits), self.recognisable(hidden).squeeze(1), features

    @torch.inference_mode()
    def read(self, images: Tensor, batch_size: int = 256) -> Reading:
        """Returns the predictions for images (B, 3, H, W) in [-1, 1], batch_size at a time; B may be 0."""
        if len(images) == 0:
            sizes = (0, len(self.config.num_values)), (0,), (0, self.config.feature_dim)
            kinds = torch.int64, torch.bool, torch.float32
            return Reading(*(torch.zeros(*s, dtype=k, device=images.device) for s, k in zip(sizes, kinds, strict=True)))
        parts = []
        for some in images.float().split(batch_size):
            logits, recognisable, features = self(some)
            parts.append(Reading(torch.stack([x.argmax(1) for x in logits], dim=1), recognisable > 0, features))
        return Reading(*(torch.cat(column) for column in zip(*parts, strict=True)))


def load_scene_classifier(path: Path = SCENE_CLASSIFIER) -> SceneClassifier:
    """Returns the classifier of a file, frozen and in evaluation mode; raises UserError if the file is missing."""
    if not path.is_file():
        raise UserError(f"{path}: the scene classifier's weights are not there; train them with `cgan judge`")
    with safe_open(path, "pt") as file:
        classifier = SceneClassifier(SceneClassifierConfig(**json.loads(file.metadata()[METADATA])))
        classifier.load_state_dict({name: file.get_tensor(name).float() for name in file.keys()})  # noqa: SIM118
    return classifier.eval().requires_grad_(False)


class SceneAccuracy(Metric):
    """The share of images that are recognisable and in which every mentioned attribute is right."""

    right: Tensor  # () int64
    total: Tensor  # () int64
    higher_is_better = True
    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("right", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, reading: Reading, mentioned: Tensor) -> None:
        """Adds the readings of B images; mentioned (B, attributes) holds the captions' values, -1 where absent."""
        self.right += right(reading, mentioned).sum()
        self.total += len(mentioned)

    def compute(self) -> Tensor:
        """Returns the share, a scalar in [0, 1]."""
        return self.right.double() / self.total


def right(reading: Reading, mentioned: Tensor) -> Tensor:
    """Returns whether each image is recognisable and has every mentioned attribute right, (B,) bool."""
    return ((reading.values == mentioned) | (mentioned < 0)).all(dim=1) & reading.recognisable


def distances_within(features: Tensor) -> Tensor:
    """Returns the mean distance of two images of each caption, (N,) float64, from features (N, images of each, F)."""
    if len(features) == 0:
        return features.new_zeros(0, dtype=torch.float64)
    return torch.stack([F.pdist(pictures.double()).mean() for pictures in features])


class IntraCaptionDiversity(Metric):
    """The mean distance of two images of the same caption, in the space of their features."""

    sum: Tensor  # () float64
    total: Tensor  # () int64
    higher_is_better = True
    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sum", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, features: Tensor) -> None:
        """Adds the features (N, images of each, F) of N captions."""
        self.sum += distances_within(features).sum()
        self.total += len(features)

    def compute(self) -> Tensor:
        """Returns the mean distance, a scalar."""
        return self.sum / self.total
