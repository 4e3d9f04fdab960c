"""Differentiable augmentation of what a discriminator sees, real and fake alike (DiffAugment, Zhao et al. 2020)."""

from typing import Literal, assert_never

import torch
from torch import Tensor
from torch.nn import functional as F

from cgan.sharding import sharded_rand

Augmentation = Literal["colour", "translation", "cutout"]
SHAPES = {"colour": (3, 1, 1, 1), "translation": (2, 1), "cutout": (2, 1)}  # of the random numbers of an image


def draw_augmentation(
    kinds: list[Augmentation], num_images: int, device: torch.device, probability: Tensor | None = None
) -> list[Tensor]:
    """Returns what `augment` needs for num_images images: random numbers in [0, 1), one tensor for each kind.

    With a probability, a scalar on the device, a last tensor (num_images, kinds) of booleans says which images each
    kind changes (ADA, Karras et al. 2020, section 2.2); otherwise each kind changes all of them.
    """
    draws = [sharded_rand(num_images, *SHAPES[kind], device=device) for kind in kinds]
    if probability is not None:
        draws.append(sharded_rand(num_images, len(kinds), device=device) < probability)
    return draws


def augment(images: Tensor, kinds: list[Augmentation], draws: list[Tensor]) -> Tensor:
    """Returns images (B, 3, H, W) augmented by what draw_augmentation has drawn; differentiable."""
    gates = draws[len(kinds)] if len(draws) > len(kinds) else None  # (B, kinds)
    for place, kind in enumerate(kinds):
        changed = augmented_by(kind, images, draws[place])
        images = changed if gates is None else torch.where(gates[:, place, None, None, None], changed, images)
    return images


def augmented_by(kind: Augmentation, images: Tensor, chance: Tensor) -> Tensor:
    """Returns images (B, 3, H, W) changed by one kind of augmentation and its random numbers."""
    match kind:
        case "colour":
            return jitter_colour(images, chance)
        case "translation":
            return translate(images, chance)
        case "cutout":
            return cut_out(images, chance)
        case unknown:
            assert_never(unknown)


def jitter_colour(images: Tensor, chance: Tensor) -> Tensor:
    """Changes brightness by -0.5 to 0.5, saturation by a factor of 0 to 2 and contrast by a factor of 0.5 to 1.5."""
    brightness, saturation, contrast = chance.unbind(1)  # each (B, 1, 1, 1)
    images = images + (brightness - 0.5)
    mean = images.mean(dim=1, keepdim=True)
    images = mean + (images - mean) * 2 * saturation
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (images - mean) * (contrast + 0.5)


def translate(images: Tensor, chance: Tensor, share: float = 0.125) -> Tensor:
    """Shifts images by whole pixels, up to a share of their size; pixels from outside the image are grey."""
    size = images.shape[-1]
    reach = round(size * share)
    shift = (chance * (2 * reach + 1)).long() - reach
    positions = torch.arange(size, device=images.device) + shift + 1  # (B, 2, H), 0 and size + 1 are the border
    rows, columns = positions.clamp(0, size + 1).unbind(dim=1)
    padded = F.pad(images, (1, 1, 1, 1)).permute(0, 2, 3, 1)  # (B, H + 2, W + 2, 3)
    index = torch.arange(len(images), device=images.device)[:, None, None]
    return padded[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cut_out(images: Tensor, chance: Tensor, share: float = 0.5) -> Tensor:
    """Greys out a square at a random place; its side is a share of the image size."""
    size = images.shape[-1]
    half = round(size * share) // 2
    centre = (chance * (size + 1)).long()
    inside = (torch.arange(size, device=images.device) - centre).abs() < half  # (B, 2, H)
    return images * ~(inside[:, 0, :, None] & inside[:, 1, None, :])[:, None]
