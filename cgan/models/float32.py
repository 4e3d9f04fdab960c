"""Float32 within autocast, where bfloat16 is too coarse: scores divided by a temperature of 0.01 would err by 0.2."""

import torch
from torch import Tensor


def in_float32(x: Tensor) -> torch.autocast:
    """Returns a context that turns off autocast on the device of x; `widened` has to convert the inputs."""
    return torch.autocast(x.device.type, enabled=False)


def widened(x: Tensor) -> Tensor:
    """Returns x in float32, or unchanged if it is float64."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def inner_products(rows: Tensor, columns: Tensor) -> Tensor:
    """Returns the inner products (B, N) of rows (B, E) and columns (N, E), in float32 at least."""
    with in_float32(rows):
        return widened(rows) @ widened(columns).t()
