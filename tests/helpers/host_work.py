"""What a piece of code does on the host that a GPU would have to be waited for."""

import traceback
from pathlib import Path

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

READS = {Tensor.item, Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.__bool__, Tensor.__int__, Tensor.__float__}
READS |= {Tensor.nonzero, torch.nonzero, Tensor.__index__}
MADE = {torch.tensor, torch.as_tensor, torch.from_numpy, torch.scalar_tensor, torch.asarray}
VALUES = {"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select"}  # wait for the device to know


def place() -> str:
    """The last line of code that is neither torch's nor of this file."""
    frames = [frame for frame in traceback.extract_stack() if "/torch/" not in frame.filename]
    found = [frame for frame in frames if not frame.filename.endswith("host_work.py")][-1]
    return f"{Path(found.filename).name}:{found.lineno}"


class Calls(TorchFunctionMode):
    """Calls of torch from Python that read a tensor on the host, or make one there."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in READS or function in MADE:
            self.found.append(f"{function.__name__} in {place()}")
        return function(*args, **(kwargs or {}))


class Operations(TorchDispatchMode):
    """Operations, also from C++, that need the value of a tensor, or move one between devices."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name, target = function.overloadpacket.__name__, (kwargs or {}).get("device")
        moves = name == "_to_copy" and target is not None and torch.device(target).type != args[0].device.type
        if name in VALUES or moves:
            self.found.append(f"{name} in {place()}")
        return function(*args, **(kwargs or {}))


class HostWork:
    """A context in which calls and operations are noted that need the host; `found` has their names."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def __enter__(self) -> "HostWork":
        self.modes = Calls(self.found), Operations(self.found)
        for mode in self.modes:
            mode.__enter__()
        return self

    def __exit__(self, *error) -> None:
        for mode in reversed(self.modes):
            mode.__exit__(*error)
