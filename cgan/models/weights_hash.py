"""A hash of weights, which tells whether two networks hold the same numbers."""

from collections.abc import Mapping
from hashlib import sha256

import torch
from torch import Tensor, nn


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors as 64 hexadecimal digits: of their names, kinds, shapes and values."""
    result = sha256()
    for name, value in sorted(tensors.items()):
        result.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        result.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return result.hexdigest()


def hash_weights(network: nn.Module) -> str:
    """Return the SHA-256 of all weights and buffers of a network, wherever they came from."""
    return hash_tensors(network.state_dict())
