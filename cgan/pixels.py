"""Pictures as bytes, as data sets hold them and users get them, and as the floats that networks work on."""

import numpy as np
import torch
from torch import Tensor


def as_floats(images: Tensor) -> Tensor:
    """uint8 pictures in [-1, 1]; floats are taken to be there already."""
    return images if images.is_floating_point() else images.float().div_(127.5).sub_(1)


def as_bytes(images: Tensor) -> Tensor:
    """Pictures in [-1, 1] as users get them, uint8: rounded, not cut off."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).byte()


def rows_at(pictures: np.ndarray, rows: list[int]) -> Tensor:
    """Returns some rows of pictures (N, H, W, 3) uint8 as a new tensor (n, 3, H, W), which lies channels last."""
    return torch.from_numpy(np.take(np.asarray(pictures), rows, axis=0)).permute(0, 3, 1, 2)
