"""Memorization: whether generated images repeat training images, by the distance to the nearest of them.

A real image that was kept out of training is as far from the nearest training image as an original one should be. So
the distances of generated images are compared with its distances (data-copying, Meehan et al. 2020), in pixels and in
the features of a network.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.wrappers.abstract import WrapperMetric

from cgan.metrics.features import FeatureNetwork
from cgan.metrics.quality import Collected, named

BLOCK = 1024  # rows of the matrix of distances that are formed at once
RARE = 0.05  # share of real images that are as near to a training image as what counts as a copy
THUMBNAIL = 16  # pixels each way of images whose pixels are compared: a shifted copy is still a near one
TOO_MANY = 0.25  # share of copies from which a model is said to copy: five times as many as of real images


class Thumbnails(FeatureNetwork):
    """Images of 16 x 16 pixels as features; no network at all."""

    name, num_features = "pixels", 3 * THUMBNAIL**2

    def forward(self, images: Tensor) -> Tensor:
        """Returns the pixels (B, 768) in [0, 1] of images, uint8 (B, 3, H, W), as small as that."""
        return F.adaptive_avg_pool2d(images.float() / 255, THUMBNAIL).flatten(1)

    def spec(self) -> dict[str, str]:
        """Returns the name and the size, as there are no weights."""
        return {"network": self.name, "size": str(THUMBNAIL)}


class Space(NamedTuple):
    """Features in which images are compared: those of training images, and distances of real ones to them."""

    network: FeatureNetwork
    training: Tensor  # (M, F)
    real_distances: Tensor  # (H,), of real images to the nearest training image that is another one


class Memorization(WrapperMetric):
    """Compares the distances of generated images to the nearest training image with those of real images.

    `copies` is the share of images that are nearer to a training image than all but 5 % of real ones are, in every
    space: at most about 0.05 for images as original as real ones. NAME/training_distance is the median distance in
    the space of a network over that of real images: 1 is right, 0 is a copy.
    """

    full_state_update = False

    def __init__(self, spaces: Sequence[Space], **settings) -> None:
        super().__init__()
        self.spaces = list(spaces)
        self.networks = nn.ModuleList(space.network for space in spaces)  # so that they move with the metric
        self.collected = [Collected(**settings) for _ in spaces]
        self.parts = nn.ModuleList(self.collected)

    def update(self, images: Tensor, ids: Tensor) -> None:
        """Adds generated images, uint8 (B, 3, H, W), with their ids (B,), all different; B may be 0."""
        for space, collected in zip(self.spaces, self.collected, strict=True):
            collected.update(space.network.once(images), ids)

    def compute(self) -> dict[str, Tensor]:
        """Returns the values by name, scalars."""
        found, near = {}, []
        for space, collected in zip(self.spaces, self.collected, strict=True):
            distances = nearest_distances(collected.compute(), space)
            real = space.real_distances.to(distances)
            near.append(distances < real.quantile(RARE))
            ratio = distances.median() / real.median().clamp(min=1e-12)
            found[named("training_distance", space.network)] = ratio
        return {"copies": torch.stack(near).all(dim=0).double().mean()} | found

    def reset(self) -> None:
        """Forgets the generated images; what is known of real ones is kept."""
        super().reset()
        for collected in self.collected:
            collected.reset()


def space_of(network: FeatureNetwork, training: Tensor, held_out: Tensor | None = None) -> Space:
    """Returns the Space of a network's features (M, F) of training images.

    held_out (H, F) are the features of real images that were not trained on; without them each training image is
    compared with all others, which tells as much where images are drawn independently.
    """
    space = Space(network, training, training.new_empty(0))
    if held_out is not None:
        return space._replace(real_distances=nearest_distances(held_out, space))
    return space._replace(real_distances=nearest_distances(training, space, others=True))


def nearest_distances(features: Tensor, space: Space, others: bool = False) -> Tensor:
    """Returns the distances (N,) of features (N, F) to the nearest training image; of the second nearest if `others`.

    Distances are Euclidean: of pixels as they are, of a network's features at length 1.
    """
    points, training = comparable(features, space.network), comparable(space.training, space.network)
    training = training.to(points.device)
    count = 2 if others else 1
    found = [torch.cdist(some, training).topk(count, largest=False).values[:, -1] for some in points.split(BLOCK)]
    return torch.cat(found)


def comparable(features: Tensor, network: FeatureNetwork) -> Tensor:
    """Returns features (N, F) in float64, at length 1 unless they are pixels."""
    points = features.double()
    return points if isinstance(network, Thumbnails) else F.normalize(points, dim=1)


def seed_diversity(features: Tensor, real: Tensor, network: FeatureNetwork) -> Tensor:
    """Returns the mean distance of two images of a caption over that of two real images, a scalar; 0 for equal ones.

    features (C, S, F) are of S images of each of C captions, real (M, F) of real images of any captions.
    """
    one = comparable(features.flatten(0, 1), network).unflatten(0, features.shape[:2])
    pairs = features.shape[1] * (features.shape[1] - 1)
    within = torch.cdist(one, one).sum(dim=(1, 2)).mean() / pairs
    points = comparable(real, network)
    return within / F.pdist(points[:BLOCK]).mean().clamp(min=1e-12)


def copying(values: dict[str, float]) -> str | None:
    """Returns one line of warning where a model copies its training images, None otherwise.

    Copies are TOO_MANY from a quarter of the images on. Real images have a twentieth by definition, and of a hundred
    of them more than 15 % are that near less often than once in ten thousand times; so a quarter is no chance.
    """
    share = values.get("copies")
    if share is None or not share > TOO_MANY:
        return None
    return (f"warning: the model copies training pictures: {100 * share:.0f} % of its pictures are nearer to one than "
            f"{100 - 100 * RARE:.0f} % of other real pictures are ({100 * RARE:.0f} % would be right); "
            "gan.picture_augmentation=[translation] trains against it")  # fmt: skip
