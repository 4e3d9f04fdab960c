"""Differentiable augmentation of what a discriminator sees, real and fake alike (DiffAugment, Zhao et al. 2020)."""

from typing import Literal, assert_never

import torch
from torch import Tensor
from torch.nn import functional as F

from cgan.sharding import sharded_rand

Augmentation = Literal["colour", "translation", "cutout"]


def augment(images: Tensor, kinds: list[Augmentation]) -> Tensor:
    """Each picture of (B, 3, H, W) changed at random, in a way that gradients pass through."""
    for kind in kinds:
        match kind:
            case "colour":
                images = jitter_colour(images)
            case "translation":
                images = translate(images)
            case "cutout":
                images = cut_out(images)
            case unknown:
                assert_never(unknown)
    return images


def jitter_colour(images: Tensor) -> Tensor:
    """Brightness by up to a half, saturation up to twofold, contrast from a half to one and a half."""
    brightness, saturation, contrast = sharded_rand(len(images), 3, 1, 1, 1, device=images.device).unbind(1)
    images = images + (brightness - 0.5)
    mean = images.mean(dim=1, keepdim=True)
    images = mean + (images - mean) * 2 * saturation
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (images - mean) * (contrast + 0.5)


def translate(images: Tensor, share: float = 0.125) -> Tensor:
    """Shifted by whole pixels, up to a share of the size; what comes in from outside is grey."""
    size = images.shape[-1]
    reach = round(size * share)
    chance = sharded_rand(len(images), 2, 1, device=images.device)
    shift = (chance * (2 * reach + 1)).long() - reach
    places = torch.arange(size, device=images.device) + shift + 1  # (B, 2, H), 0 and size + 1 are the border
    rows, columns = places.clamp(0, size + 1).unbind(dim=1)
    padded = F.pad(images, (1, 1, 1, 1)).permute(0, 2, 3, 1)  # (B, H + 2, W + 2, 3)
    index = torch.arange(len(images), device=images.device)[:, None, None]
    return padded[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cut_out(images: Tensor, share: float = 0.5) -> Tensor:
    """A square of half the size turned grey."""
    size = images.shape[-1]
    half = round(size * share) // 2
    centre = (sharded_rand(len(images), 2, 1, device=images.device) * (size + 1)).long()
    inside = (torch.arange(size, device=images.device) - centre).abs() < half  # (B, 2, H)
    return images * ~(inside[:, 0, :, None] & inside[:, 1, None, :])[:, None]
