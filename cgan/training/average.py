"""Averages the generator's weights along its training (Karras et al. 2020)."""

from typing import NamedTuple

import torch
from torch import Tensor

from cgan.config import GANConfig
from cgan.models.generators.base import Generator

# of the latent prior while it is trained alone: the half-life is at most so many times that of all else, and at most
# this share of the images since then
PRIOR_HALF_LIFE, PRIOR_RAMP_UP = 3, 0.25


class Weights(NamedTuple):
    """The averaged weights that move, and the trained ones which they follow."""

    averaged: list[Tensor]
    trained: list[Tensor]
    prior_alone: bool  # whether these are those of the latent prior alone


class GeneratorAverage:
    """Moves averaged weights towards trained ones, with a half-life in images.

    It is short at first. Where the latent prior alone is trained, the prior's averages alone move, more slowly.
    """

    def __init__(self, config: GANConfig) -> None:
        self.config = config
        self.weights: Weights | None = None  # None where they have to be looked up
        self.prior_alone_since: int | None = None  # images seen before the latent prior alone was trained

    @torch.no_grad()
    def follow(
        self, averaged: Generator, trained: Generator, num_images: int, images_seen: int, prior_alone: bool
    ) -> None:
        """Moves the averages after a step of num_images; images_seen counts these as well."""
        if self.weights is None or self.weights.prior_alone != prior_alone:
            mine, theirs = (x.latent_prior if prior_alone else x for x in (averaged, trained))
            self.weights = Weights(list(mine.parameters()), list(theirs.parameters()), prior_alone)
        share = 1 - 0.5 ** (num_images / self.half_life(num_images, images_seen, prior_alone))
        torch._foreach_lerp_(self.weights.averaged, self.weights.trained, share)  # pyright: ignore[reportPrivateImportUsage]  # private in torch; one kernel for all

    def half_life(self, num_images: int, images_seen: int, prior_alone: bool) -> float:
        """Returns the half-life of a step of num_images, in images."""
        config = self.config
        found = min(config.ema_half_life, config.ema_ramp_up * max(images_seen, 1))
        if not prior_alone:
            return found
        if self.prior_alone_since is None:
            self.prior_alone_since = images_seen - num_images
        since = images_seen - self.prior_alone_since
        return max(found, min(PRIOR_HALF_LIFE * config.ema_half_life, PRIOR_RAMP_UP * since))
