"""Float32 within autocast, where bfloat16 is too coarse: over a temperature of 0.01 a score would err by 0.2."""

import torch
from torch import Tensor


def in_float32(x: Tensor) -> torch.autocast:
    """A context without autocast on the device of x; what comes in has to be widened as well."""
    return torch.autocast(x.device.type, enabled=False)


def widened(x: Tensor) -> Tensor:
    """x in float32, or in float64 if it is that."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def inner_products(rows: Tensor, columns: Tensor) -> Tensor:
    """Scores of every vector of rows (B, E) with every one of columns (N, E): (B, N), in float32 at least."""
    with in_float32(rows):
        return widened(rows) @ widened(columns).t()
