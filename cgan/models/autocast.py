"""Weights in autocast's type: of frozen networks once for all, and of trained ones all at once in each step."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from cgan.sharding import num_processes

CONVERTED = nn.Conv2d, nn.Linear  # exactly these: a subclass may compute with its weight before autocast converts it


class AutocastCopy:
    """Keeps a copy of a frozen network whose convolutions and linear layers have weights in autocast's type.

    Autocast keeps converted weights only where they are trained, and converts those of a frozen network at each use.
    The copy gives the same results bit for bit. It is no part of the module that holds it, so that checkpoints have the
    network once, in float32.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        # going through these takes far less time than through network.parameters()
        self.tables = [layer._parameters for layer in network.modules() if layer._parameters]
        self.copy: nn.Module | None = None
        self.made_of: tuple | None = None  # what the copy depends on, as it was then

    def under_autocast(self, device_type: str) -> nn.Module | None:
        """Returns the copy for the autocast that is on for a device type, such as "cuda"; None where it is off."""
        if device_type == "meta" or not torch.is_autocast_enabled(device_type):
            return None
        dtype = torch.get_autocast_dtype(device_type)
        weights = (weight for table in self.tables for weight in table.values() if weight is not None)
        now = dtype, *((id(weight), weight.device, weight._version) for weight in weights)
        if self.copy is None or self.made_of != now:
            self.copy, self.made_of = converted(self.network, dtype), now
        return self.copy


@torch.no_grad()
def converted(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Returns a copy of a network with float32 weights and biases of CONVERTED layers in another type."""
    found = copy.deepcopy(network).requires_grad_(False)
    for layer in found.modules():
        if type(layer) in CONVERTED:
            for weight in layer.parameters(recurse=False):
                weight.data = weight.data.to(dtype) if weight.dtype == torch.float32 else weight.data
    return found


class Converted(torch.autograd.Function):
    """The autograd function of converted_together: all weights in one kernel each way, not one for each weight."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *weights: Tensor) -> tuple[Tensor, ...]:
        """Returns the weights in another type."""
        ctx.set_materialize_grads(False)
        ctx.dtypes = [weight.dtype for weight in weights]
        return copied(weights, [dtype] * len(weights))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        """Returns the gradients in the weights' types; None for a weight that was not used."""
        given = {i: gradient for i, gradient in enumerate(gradients) if gradient is not None}
        found = dict(zip(given, copied(list(given.values()), [ctx.dtypes[i] for i in given]), strict=True))
        return None, *(found.get(i) for i in range(len(gradients)))


def copied(tensors: Sequence[Tensor], dtypes: Sequence[torch.dtype]) -> tuple[Tensor, ...]:
    """Returns tensors in other types, copied by one kernel."""
    found = tuple(torch.empty_like(x, dtype=dtype) for x, dtype in zip(tensors, dtypes, strict=True))
    if found:
        torch._foreach_copy_(found, tuple(tensors))  # pyright: ignore[reportPrivateImportUsage]  # private in torch
    return found


def in_type(tensors: Sequence[Tensor], dtype: torch.dtype) -> Sequence[Tensor]:
    """Returns tensors in another type, by one kernel.

    Several processes take one for each, since they start to average gradients while others are still computed, and so
    does torch.compile, which joins such kernels itself.
    """
    if torch.compiler.is_compiling() or num_processes() > 1:
        return [x.to(dtype) for x in tensors]
    return Converted.apply(dtype, *tensors)


def layers_converted(network: nn.Module) -> list[nn.Module]:
    """Returns the CONVERTED layers of a network."""
    return [layer for layer in network.modules() if type(layer) in CONVERTED]


@contextmanager
def converted_together(layers: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """Within autocast, gives layers their weights in its type within the block, for every use of them there.

    Results and gradients are those of autocast bit for bit, which converts weight by weight. Outside of autocast, and
    for torch.compile, which joins such conversions itself, it does nothing.
    """
    on = len(layers) > 0 and device.type != "meta" and not torch.compiler.is_compiling()
    if not on or not torch.is_autocast_enabled(device.type):
        yield
        return
    tables = [cast(dict[str, Tensor | None], layer._parameters) for layer in layers]
    named = [(table, name, weight) for table in tables for name, weight in table.items() if weight is not None]
    kept = [(table, name, weight) for table, name, weight in named if weight.dtype == torch.float32]
    lowered = in_type([weight for _, _, weight in kept], torch.get_autocast_dtype(device.type))
    try:
        for (table, name, _), weight in zip(kept, lowered, strict=True):
            table[name] = weight
        yield
    finally:
        for table, name, weight in kept:
            table[name] = weight
