"""A frozen network with weights in autocast's type, which autocast would convert anew at each use."""

import copy

import torch
from torch import nn

CONVERTED = nn.Conv2d, nn.Linear  # exactly these: a subclass may compute with its weight before autocast converts it


class AutocastCopy:
    """Keeps a copy of a frozen network whose convolutions and linear layers have weights in autocast's type.

    Autocast keeps converted weights only where they are trained, and converts those of a frozen network at each use.
    The copy gives the same results bit for bit. It is no part of the module that holds it, so that checkpoints have the
    network once, in float32.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.copy: nn.Module | None = None
        self.made_of: tuple | None = None  # what the copy depends on, as it was then

    def under_autocast(self, device_type: str) -> nn.Module | None:
        """Returns the copy for the autocast that is on for a device type, such as "cuda"; None where it is off."""
        if device_type == "meta" or not torch.is_autocast_enabled(device_type):
            return None
        dtype = torch.get_autocast_dtype(device_type)
        now = dtype, *((id(weight), weight.device, weight._version) for weight in self.network.parameters())
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
