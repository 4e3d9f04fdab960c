"""Mixes noise: on an arc, as normal noise lies near a sphere."""

import torch
from torch import Tensor


def turned(one: Tensor, other: Tensor, share: float) -> Tensor:
    """Returns noise (B, Z) between two, on the arc of nearly constant length (slerp, White 2016).

    Normal noise lies near a sphere, and so does the arc between two points of it. A straight line passes inside, where
    the generator has seen nothing.
    """
    angle = torch.acos(torch.nn.functional.cosine_similarity(one, other).clamp(-1, 1))[:, None]  # (B, 1)
    arc = (((1 - share) * angle).sin() * one + (share * angle).sin() * other) / angle.sin()
    return torch.where(angle.sin() < 1e-4, torch.lerp(one, other, share), arc)


def mixed(noise: Tensor, found: Tensor, keep: float) -> Tensor:
    """Returns noise (B, Z) of which `keep` in [0, 1] is what was found in pictures; 0 and 1 give either exactly."""
    return turned(noise, found, keep) if 0 < keep < 1 else (found if keep else noise)
