"""Augmentation of training pictures, which keeps what their captions say: mirroring, small crops, shifts and colours.

Unlike that of cgan.models.augment, it changes pictures before any network sees them, so that a generator which
reconstructs them learns it: nothing here leaves a border or a colour that a real picture would not have.
"""

from collections.abc import Sequence
from typing import Literal, assert_never

import torch
from torch import Tensor
from torch.nn import functional as F

from cgan.sharding import sharded_rand

PictureAugmentation = Literal["flip", "translation", "crop", "colour"]
SMALLEST_CROP = 0.8  # side of a crop, as a share of the picture's
LARGEST_SHIFT = 1 / 16  # of a translation, as a share of the picture's side


def augment_pictures(images: Tensor, kinds: Sequence[PictureAugmentation]) -> Tensor:
    """Returns images (B, 3, H, W) in [-1, 1], each changed at random by each of the kinds; unchanged without kinds."""
    for kind in kinds:
        match kind:
            case "flip":
                images = flip(images, drawn(images, 1))
            case "translation":
                images = shift(images, drawn(images, 2))
            case "crop":
                images = crop(images, drawn(images, 3))
            case "colour":
                images = tint(images, drawn(images, 3))
            case unknown:
                assert_never(unknown)
    return images


def drawn(images: Tensor, count: int) -> Tensor:
    """Returns `count` random numbers in [0, 1) for each of the images, (B, count)."""
    return sharded_rand(len(images), count, device=images.device)


def flip(images: Tensor, chance: Tensor) -> Tensor:
    """Mirrors left and right where the random number (B, 1) is below a half."""
    return torch.where(chance[:, :, None, None] < 0.5, images.flip(3), images)


def shift(images: Tensor, chance: Tensor) -> Tensor:
    """Shifts images by whole pixels, up to LARGEST_SHIFT each way; the pixels of the border are repeated."""
    size = images.shape[-1]
    reach = round(size * LARGEST_SHIFT)
    positions = torch.arange(size, device=images.device) + (chance[:, :, None] * (2 * reach + 1)).long() - reach
    rows, columns = positions.clamp(0, size - 1).unbind(dim=1)  # each (B, H)
    index = torch.arange(len(images), device=images.device)[:, None, None]
    return images.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def crop(images: Tensor, chance: Tensor) -> Tensor:
    """Cuts out a square of SMALLEST_CROP to all of the side at a random place, and resizes it to the whole size."""
    side = SMALLEST_CROP + (1 - SMALLEST_CROP) * chance[:, 0]  # (B,)
    x, y = ((1 - side) * (2 * place - 1) for place in chance[:, 1:].unbind(dim=1))  # of the centre, in [-1, 1]
    zero = torch.zeros_like(side)
    affine = torch.stack([torch.stack([side, zero, x], dim=1), torch.stack([zero, side, y], dim=1)], dim=1)
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid.to(images.dtype), padding_mode="border", align_corners=False)


def tint(images: Tensor, chance: Tensor) -> Tensor:
    """Changes brightness by up to 0.1, saturation by up to a fifth and contrast by up to a tenth; hues stay.

    Captions may name colours, so that red must stay red.
    """
    brightness, saturation, contrast = (2 * chance - 1)[:, :, None, None, None].unbind(dim=1)  # each (B, 1, 1, 1)
    mean = images.mean(dim=1, keepdim=True)
    images = mean + (images - mean) * (1 + 0.2 * saturation)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (mean + (images - mean) * (1 + 0.1 * contrast) + 0.1 * brightness).clamp(-1, 1)
