"""The scene classifier, and metrics of what it reads in images."""

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


@dataclass
class SceneClassifierConfig:
    """Sizes of a SceneClassifier."""

    num_values: tuple[int, ...] = (8, 8, 2, 3, 6)  # of object, colour, size, position, ground
    width: int = 32
    feature_dim: int = 128
    resolution: int = 64  # other pictures are resized to it


class Reading(NamedTuple):
    """What the classifier reads in images."""

    values: Tensor  # (B, attributes) int64
    recognisable: Tensor  # (B,) bool
    features: Tensor  # (B, feature_dim)


class SceneClassifier(nn.Module):
    """Reads the attributes of scenes, and tells images in which a person would not know the object.

    Called with images (B, 3, H, W) in [-1, 1] it returns a list of logits, one of each attribute (B, values), the logit
    of being recognisable (B,) and features (B, feature_dim). It has plain convolutions with group normalisation, unlike
    the encoder that generators are trained against.
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
        size = self.config.resolution
        if images.shape[-1] != size:
            images = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
        features = self.features(self.convolutions(images).flatten(1))  # (B, feature_dim)
        hidden = F.relu(features)
        logits = self.attributes(hidden).split(self.config.num_values, dim=1)
        return list(logits), self.recognisable(hidden).squeeze(1), features

    @torch.inference_mode()
    def read(self, images: Tensor, batch_size: int = 256) -> Reading:
        """The likeliest value of every attribute, and whether a person would know the object; also of no pictures."""
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
    """The classifier of a file, in evaluation mode; raises UserError where there is none."""
    if not path.is_file():
        raise UserError(f"{path}: the scene classifier's weights are not there; train them with `cgan judge`")
    with safe_open(path, "pt") as file:
        classifier = SceneClassifier(SceneClassifierConfig(**json.loads(file.metadata()["judge"])))
        classifier.load_state_dict({name: file.get_tensor(name).float() for name in file.keys()})  # noqa: SIM118
    return classifier.eval().requires_grad_(False)


class SceneAccuracy(Metric):
    """Share of recognisable pictures in which every mentioned attribute is right."""

    higher_is_better = True
    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("right", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, reading: Reading, mentioned: Tensor) -> None:
        """mentioned (B, attributes): the value that the caption names, -1 where it names none."""
        self.right += right(reading, mentioned).sum()
        self.total += len(mentioned)

    def compute(self) -> Tensor:
        return self.right.double() / self.total


def right(reading: Reading, mentioned: Tensor) -> Tensor:
    """For each picture (B,), bool: recognisable, and every mentioned attribute as the caption says."""
    return ((reading.values == mentioned) | (mentioned < 0)).all(dim=1) & reading.recognisable


def distances_within(features: Tensor) -> Tensor:
    """Mean distance of two pictures of each caption, (captions,), from features (captions, pictures of each, F)."""
    if len(features) == 0:
        return features.new_zeros(0, dtype=torch.float64)
    return torch.stack([F.pdist(pictures.double()).mean() for pictures in features])


class IntraCaptionDiversity(Metric):
    """Mean distance of two pictures of the same caption, by their features."""

    higher_is_better = True
    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sum", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, features: Tensor) -> None:
        """Add features (captions, pictures of each, F)."""
        self.sum += distances_within(features).sum()
        self.total += len(features)

    def compute(self) -> Tensor:
        return self.sum / self.total
