"""A hash of weights, equal if and only if two networks hold the same numbers."""

from collections.abc import Mapping
from hashlib import sha256

import torch
from torch import Tensor, nn


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256 of the names, dtypes, shapes and values of tensors, as 64 hexadecimal digits."""
    result = sha256()
    for name, value in sorted(tensors.items()):
        result.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        result.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return result.hexdigest()


def hash_weights(network: nn.Module) -> str:
    """Returns the SHA-256 of all saved weights and buffers of a network, as 64 hexadecimal digits."""
    return hash_tensors(network.state_dict())
