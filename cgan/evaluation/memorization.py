"""Measures memorization: the pictures of a generator against those that it was trained on, and its seeds' diversity."""

from typing import NamedTuple

import torch

from cgan.evaluation.loop import Pictures, device_of, loaded, of_generator, placed, real_features
from cgan.interfaces import TextEncoder
from cgan.metrics.features import FeatureNetwork
from cgan.metrics.memorization import Memorization, Thumbnails, seed_diversity, space_of
from cgan.metrics.quality import named
from cgan.models.generators.base import Generator
from cgan.workers import Progress, silent

MOST_PICTURES = 20_000  # of a training; a larger one is compared only on request
NO_TRAINING = "scenes are drawn anew, so that none of them is a copy of a training picture"
NUM_CAPTIONS, NUM_SEEDS = 24, 4  # of which the seeds' diversity is measured


class Training(NamedTuple):
    """The pictures that a generator was trained on."""

    pictures: Pictures
    held_out: bool  # whether the real pictures of the evaluation set are others


def networks_for(network: FeatureNetwork | None) -> list[FeatureNetwork]:
    """Returns what pictures are compared by: pixels, and the features of a network where there is one."""
    return [Thumbnails(), *([] if network is None else [network])]


def described(network: FeatureNetwork | None) -> str:
    """Returns by what pictures are compared, for messages."""
    return "pixels" if network is None else f"pixels and {network.describe()}"


def memorization_of(
    training: Training,
    reference: Pictures,
    network: FeatureNetwork | None,
    device: torch.device | str,
    progress: Progress = silent,
) -> Memorization:
    """Returns the metric; features of training pictures and of reference pictures are computed, unless cached."""
    spaces = []
    for chosen in networks_for(network):
        features = real_features(chosen, training.pictures, device, progress)
        held_out = real_features(chosen, reference, device, progress) if training.held_out else None
        spaces.append(space_of(chosen, features, held_out))
    return Memorization(spaces)


@torch.no_grad()
def diversity_of(
    generator: Generator,
    text_encoder: TextEncoder,
    captions: list[str],
    reference: Pictures,
    network: FeatureNetwork | None,
    seed: int,
    truncation: float = 1.0,
) -> dict[str, float]:
    """Returns how much pictures of a caption differ from seed to seed, relative to real pictures, by name.

    Every process generates all of these few pictures, and gets the same values.
    """
    network, device = network or Thumbnails(), device_of(generator)
    repeated = [caption for caption in captions[:NUM_CAPTIONS] for _ in range(NUM_SEEDS)]
    pictures = of_generator(generator, text_encoder, repeated, seed, truncation)
    real = real_features(network, reference, device)
    with placed(network, device):
        places = torch.arange(pictures.count).split(NUM_SEEDS * 8)
        features = torch.cat([network.once(loaded(pictures, some, device)).cpu() for some in places])
    value = seed_diversity(features.unflatten(0, (-1, NUM_SEEDS)), real, network)
    return {named("seed_diversity", network): float(value)}
