"""Conversion of pictures between bytes, as data sets and users have them, and the floats that networks take."""

from torch import Tensor


def as_floats(images: Tensor) -> Tensor:
    """Returns uint8 pictures as floats in [-1, 1].

    Float pictures are returned unchanged, as they are in that range already.
    """
    return images if images.is_floating_point() else images.float().div_(127.5).sub_(1)


def as_bytes(images: Tensor) -> Tensor:
    """Returns pictures in [-1, 1] as uint8, rounded to the nearest value."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).byte()
