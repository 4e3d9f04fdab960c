"""Spectral normalisation (Miyato et al. 2018), computed for all layers of one shape at once.

The numbers are those of torch.nn.utils.parametrizations.spectral_norm, whose state dicts load as well.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from cgan.models.autocast import in_type
from cgan.models.float32 import in_float32

EPS = 1e-12  # the smallest length that a vector is divided by
FIRST_ITERATIONS = 16  # of the power method, on the initial weights: 15, and the one of a use, as torch takes

# Weights of one shape are stacked as (N, H, W), or as (N, H, C, K, K) where they are kernels; left singular vectors are
# then (N, H, 1) or (N, H, 1, 1, 1), and right ones (N, 1, W) or (N, 1, C, K, K). Multiplication and sums take the place
# of matrix products, which may round to TF32 on a GPU.


def units(vectors: Sequence[Tensor]) -> list[Tensor]:
    """Returns stacks of vectors, each (N, ...), scaled to length 1."""
    lengths = [torch.linalg.vector_norm(x, dim=tuple(range(1, x.dim())), keepdim=True) for x in vectors]
    torch._foreach_clamp_min_(lengths, EPS)  # pyright: ignore[reportPrivateImportUsage]  # private in torch; one kernel for all
    return [x / length for x, length in zip(vectors, lengths, strict=True)]


def sums(vectors: list[Tensor], others: list[Tensor]) -> list[Tensor]:
    """Returns the inner products (N, 1, ...) of stacks of vectors with others, each (N, ...)."""
    products = torch._foreach_mul(vectors, others)  # pyright: ignore[reportPrivateImportUsage]
    return [x.sum(dim=tuple(range(1, x.dim())), keepdim=True) for x in products]


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
        return None, None, None, None, *(torch.addcmul(gradient, left * along, right, value=-1) / sigma).unbind()


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
                return normalised([norms.row(weight, self.row)])[0][0]
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
            (left,) = units([left_product(weight[None], right)])
            (right,) = units([right_product(weight[None], left)])
        self.left, self.right = torch.cat([self.left, left.view(1, -1)]), torch.cat([self.right, right[0]])
        norm = SpectralNorm(self, len(self.names))
        parametrize.register_parametrization(layer, "weight", norm, unsafe=True)
        self.weights.append(cast(Any, layer.parametrizations).weight)
        self.names.append(name)

    def all_of_them(self) -> "Rows":
        """Returns all weights with their vectors."""
        return Rows([cast(Tensor, weight.original) for weight in self.weights], self.left, self.right, self.training)

    def row(self, weight: Tensor, row: int) -> "Rows":
        """Returns one weight with its vectors."""
        return Rows([weight], self.left[row : row + 1], self.right[row : row + 1], self.training)

    def rename(self, state_dict: dict, own: str, network: str) -> None:
        """Gives vectors of torch's parametrizations, by the prefix of the network, the names below the own prefix."""
        for name, buffer, theirs in (("left", self.left, "_u"), ("right", self.right, "_v")):
            keys = [f"{network}{layer}.parametrizations.weight.0.{theirs}" for layer in self.names]
            if all(key in state_dict for key in keys):
                state_dict[own + name] = torch.stack([state_dict.pop(key) for key in keys]).view(buffer.shape)


class Rows(NamedTuple):
    """Weights of one shape, and the singular vectors of each, which a step of the power method writes over."""

    weights: list[Tensor]  # N of them, each (H, W) or (H, C, K, K)
    left: Tensor  # (N, H)
    right: Tensor  # (N, W) or (N, C, K, K)
    moving: bool  # whether a use is a step of the power method


def normalised(groups: Sequence[Rows]) -> list[Tensor]:
    """Returns the stacked normalised weights (N, H, ...) of each group; all of them move or none. Autocast is off.

    What the groups have in common is computed by one kernel for all of them, as their shapes allow.
    """
    with torch.no_grad():
        stacks = [torch.stack(group.weights) for group in groups]  # each (N, H, ...)
        lefts = [x.left.view(*y.shape[:2], *[1] * (y.dim() - 2)) for x, y in zip(groups, stacks, strict=True)]
        rights = [group.right.unsqueeze(1) for group in groups]
        if groups[0].moving:
            kept = lefts + rights
            lefts = units([left_product(x, right) for x, right in zip(stacks, rights, strict=True)])
            products = [right_product(x, left) for x, left in zip(stacks, lefts, strict=True)]
            rights = units(products)
            torch._foreach_copy_(kept, lefts + rights)  # pyright: ignore[reportPrivateImportUsage]
            sigmas = sums(products, rights)
        else:
            sigmas = sums([left_product(x, right) for x, right in zip(stacks, rights, strict=True)], lefts)
    return [divided(group.weights, *each) for group, *each in zip(groups, stacks, lefts, rights, sigmas, strict=True)]


def divided(weights: list[Tensor], stacked: Tensor, left: Tensor, right: Tensor, sigma: Tensor) -> Tensor:
    """Returns stacked weights over sigma; weights get the gradient where they want one."""
    if not (torch.is_grad_enabled() and any(weight.requires_grad for weight in weights)):
        return stacked / sigma  # also as torch.compile can't trace a Function that nothing asks a gradient of
    return cast(Tensor, Divided.apply(stacked, left, right, sigma, *weights))


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
        found = normalised([group.all_of_them() for group in groups])
        lowered = [None] * len(groups) if dtype is None else in_type(found, dtype)
    for group, exact, coarse in zip(groups, found, lowered, strict=True):
        group.normalised, group.lowered = exact.unbind(), None if coarse is None else coarse.unbind()
    try:
        yield
    finally:
        for group in groups:
            group.normalised = group.lowered = None


def rename_vectors(network: nn.Module, state_dict: dict, prefix: str, *_: object) -> None:
    """Renames singular vectors in a state dict that torch's parametrizations wrote: a hook of the network."""
    for i, group in enumerate(cast("Sequence[SpectralNorms]", network.spectral_norms)):
        group.rename(state_dict, f"{prefix}spectral_norms.{i}.", prefix)
