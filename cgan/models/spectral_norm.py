"""Spectral normalisation (Miyato et al. 2018), computed for all layers of one shape at once.

The numbers are those of torch.nn.utils.parametrizations.spectral_norm, whose state dicts load as well.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from cgan.models.float32 import in_float32

EPS = 1e-12  # the smallest length that a vector is divided by
FIRST_ITERATIONS = 16  # of the power method, on the initial weights: 15, and the one of a use, as torch takes

# Weights of one shape are stacked as (N, H, W), or as (N, H, C, K, K) where they are kernels; left singular vectors are
# then (N, H, 1) or (N, H, 1, 1, 1), and right ones (N, 1, W) or (N, 1, C, K, K). Multiplication and sums take the place
# of matrix products, which may round to TF32 on a GPU.


def unit(vectors: Tensor) -> Tensor:
    """Returns stacked vectors (N, ...) scaled to length 1."""
    dims = tuple(range(1, vectors.dim()))
    return vectors / torch.linalg.vector_norm(vectors, dim=dims, keepdim=True).clamp_min_(EPS)


def left_product(weights: Tensor, right: Tensor) -> Tensor:
    """Returns W v, shaped as left singular vectors, of stacked weights W and right vectors v."""
    return (weights * right).sum(dim=tuple(range(2, weights.dim())), keepdim=True)


def right_product(weights: Tensor, left: Tensor) -> Tensor:
    """Returns W^T u, shaped as right singular vectors, of stacked weights W and left vectors u."""
    products = weights * left
    if products.dim() == 3:
        return products.sum(dim=1, keepdim=True)
    rows = products.movedim(2, 4)  # (N, H, K, K, C), as weights lie in memory: the sum is four times as fast
    return rows.flatten(2).sum(dim=1).view(len(rows), 1, *rows.shape[2:]).movedim(4, 2)


class Divided(torch.autograd.Function):
    """W / (u^T W v) of weights; its gradient flows through the divisor, with u and v as constants."""

    @staticmethod
    def forward(ctx: Any, stacked: Tensor, left: Tensor, right: Tensor, sigma: Tensor, *weights: Tensor) -> Tensor:
        """Returns stacked weights divided by sigma (N, 1, ...); the same weights one by one get the gradient."""
        normalised = stacked / sigma
        ctx.save_for_backward(normalised, left, right, sigma)
        return normalised

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradient of each weight."""
        normalised, left, right, sigma = ctx.saved_tensors
        along = (gradient * normalised).sum(dim=tuple(range(1, gradient.dim())), keepdim=True)  # (N, 1, ...)
        return None, None, None, None, *(torch.addcmul(gradient, left * -along, right) / sigma).unbind()


class SpectralNorm(nn.Module):
    """The parametrization of one layer's weight, which is a row of `SpectralNorms`."""

    def __init__(self, norms: "SpectralNorms", row: int) -> None:
        super().__init__()
        self.norms, self.row = [norms], row  # in a list, so that its vectors are in state dicts once

    def forward(self, weight: Tensor) -> Tensor:
        """Returns the normalised weight, inside autocast in its type where that was computed too."""
        (norms,) = self.norms
        if norms.normalised is None:  # outside of `normalised_once`
            with in_float32(weight):
                return norms.normalise([weight], self.row)[0]
        if norms.lowered is None or autocast_dtype(weight) is None:
            return norms.normalised[self.row]
        return norms.lowered[self.row]


class SpectralNorms(nn.Module):
    """The singular vectors of weights of one shape. In training mode each use is one iteration of the power method."""

    left: Tensor
    right: Tensor

    def __init__(self, shape: torch.Size) -> None:
        super().__init__()
        self.register_buffer("left", torch.empty(0, shape[0]))  # (N, H)
        self.register_buffer("right", torch.empty(0, *shape[1:]))  # (N, W) or (N, C, K, K)
        self.weights: list[parametrize.ParametrizationList] = []
        self.names: list[str] = []  # of the layers
        self.normalised: Sequence[Tensor] | None = None  # the weights, within `normalised_once`
        self.lowered: Sequence[Tensor] | None = None  # the same in the type of autocast, if that is on

    @torch.no_grad()
    def add(self, layer: nn.Conv2d | nn.Linear, name: str) -> None:
        """Normalises the weight of one more layer, which has the name in the network's state dict."""
        weight = layer.weight
        left = weight.new_empty(len(weight)).normal_()
        right = weight.new_empty(weight[0].numel()).normal_().view(1, 1, *weight.shape[1:])
        for _ in range(FIRST_ITERATIONS):
            left = unit(left_product(weight[None], right))
            right = unit(right_product(weight[None], left))
        self.left, self.right = torch.cat([self.left, left.view(1, -1)]), torch.cat([self.right, right[0]])
        norm = SpectralNorm(self, len(self.names))
        parametrize.register_parametrization(layer, "weight", norm, unsafe=True)
        self.weights.append(cast(Any, layer.parametrizations).weight)
        self.names.append(name)

    def normalise(self, weights: Sequence[Tensor], row: int | None = None) -> Tensor:
        """Returns stacked normalised weights of all rows or of one. Autocast has to be off."""
        kept = (self.left, self.right) if row is None else (self.left[row : row + 1], self.right[row : row + 1])
        with torch.no_grad():
            stacked = torch.stack(list(weights))  # (N, H, ...)
            left, right = kept[0].view(*stacked.shape[:2], *[1] * (stacked.dim() - 2)), kept[1].unsqueeze(1)
            if self.training:
                left = unit(left_product(stacked, right))
                product = right_product(stacked, left)
                right = unit(product)
                kept[0].copy_(left.view_as(kept[0]))
                kept[1].copy_(right.squeeze(1))
                sigma = (product * right).sum(dim=tuple(range(1, stacked.dim())), keepdim=True)
            else:
                sigma = (left_product(stacked, right) * left).sum(dim=1, keepdim=True)
        if not (torch.is_grad_enabled() and any(weight.requires_grad for weight in weights)):
            return stacked / sigma  # also as torch.compile can't trace a Function that nothing asks a gradient of
        return cast(Tensor, Divided.apply(stacked, left, right, sigma, *weights))

    def normalise_all(self, dtype: torch.dtype | None) -> None:
        """Has each layer use its normalised weight, which is computed here, and within autocast in the type given."""
        normalised = self.normalise([cast(Tensor, weight.original) for weight in self.weights])
        self.normalised = normalised.unbind()
        self.lowered = None if dtype is None else normalised.to(dtype).unbind()

    def rename(self, state_dict: dict, own: str, network: str) -> None:
        """Gives vectors of torch's parametrizations, by the prefix of the network, the names below the own prefix."""
        for name, buffer, theirs in (("left", self.left, "_u"), ("right", self.right, "_v")):
            keys = [f"{network}{layer}.parametrizations.weight.0.{theirs}" for layer in self.names]
            if all(key in state_dict for key in keys):
                state_dict[own + name] = torch.stack([state_dict.pop(key) for key in keys]).view(buffer.shape)


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """Returns the type that autocast computes in on the device of x; None outside of autocast."""
    kind = x.device.type
    on = kind != "meta" and torch.is_autocast_enabled(kind)  # torch.compile of torch 2.11 traces no question beyond it
    return torch.get_autocast_dtype(kind) if on else None


def add_spectral_norm(network: nn.Module) -> nn.ModuleList:
    """Bounds the largest singular value of every convolution and linear layer by 1; returns a ModuleList by shape."""
    groups: dict[torch.Size, SpectralNorms] = {}
    for name, layer in list(network.named_modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            shape = layer.weight.shape
            groups.setdefault(shape, SpectralNorms(shape)).add(layer, name)
    return nn.ModuleList(groups.values())


@contextmanager
def normalised_once(groups: Sequence[SpectralNorms]) -> Iterator[None]:
    """Normalises all weights once, for every use of them within the block; inside another block it does nothing."""
    if len(groups) == 0 or groups[0].normalised is not None:
        yield
        return
    dtype = autocast_dtype(groups[0].left)
    with in_float32(groups[0].left):
        for group in groups:
            group.normalise_all(dtype)
    try:
        yield
    finally:
        for group in groups:
            group.normalised = group.lowered = None


def rename_vectors(network: nn.Module, state_dict: dict, prefix: str, *_: object) -> None:
    """Renames singular vectors in a state dict that torch's parametrizations wrote: a hook of the network."""
    for i, group in enumerate(cast("Sequence[SpectralNorms]", network.spectral_norms)):
        group.rename(state_dict, f"{prefix}spectral_norms.{i}.", prefix)
