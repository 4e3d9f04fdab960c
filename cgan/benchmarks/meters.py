"""Measures a piece of work: the seconds of its parts, its floating-point operations and its memory."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from statistics import median

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

Meter = Callable[[], float]  # a number that grows with the work done


def clock(device: torch.device) -> Meter:
    """Returns a function that returns seconds, after a GPU has finished its work."""

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    return now


def seconds_side_by_side(works: list[Callable[[], object]], rounds: int, device: torch.device) -> list[float]:
    """Returns the median seconds of each work; they take turns, so that a machine that slows down slows all of them."""
    now, seconds = clock(device), [[] for _ in works]
    for number in range(rounds + 1):
        for work, mine in zip(works, seconds, strict=True):
            start = now()
            work()
            if number > 0:  # the first time warms up
                mine.append(now() - start)
    return [median(mine) for mine in seconds]


def replace(owner: object, name: str, method: Callable) -> Callable[[], None]:
    """Set a method of one object in place of its class's; returns a function that undoes it."""
    before = vars(owner).get(name)
    setattr(owner, name, method)
    return partial(delattr, owner, name) if before is None else partial(setattr, owner, name, before)


class Parts:
    """Divides a meter's growth among nested parts of a work: a part gets what none of its inner parts gets."""

    def __init__(self, meter: Meter) -> None:
        self.meter, self.totals, self.inside, self.mark, self.undo = meter, defaultdict(float), [], 0.0, []

    def enter(self, name: str) -> None:
        """Begin a part, inside those that have begun and not ended."""
        self.charge()
        self.inside.append(name)

    def leave(self) -> None:
        """End the part that began last."""
        self.charge()
        self.inside.pop()

    def charge(self) -> None:
        """Add what the meter has grown since the last call to the innermost part."""
        now = self.meter()
        if self.inside:
            self.totals[self.inside[-1]] += now - self.mark
        self.mark = now

    def watch(self, owner: object, method: str, name: str | Callable[..., str]) -> None:
        """Make each call of an object's method a part; its name may be a function of the arguments."""
        original = getattr(owner, method)

        @wraps(original)
        def watched(*arguments, **named):
            self.enter(name if isinstance(name, str) else name(*arguments, **named))
            try:
                return original(*arguments, **named)
            finally:
                self.leave()

        self.undo.append(replace(owner, method, watched))

    def unwatch(self) -> None:
        """Give all watched objects their own methods back."""
        while self.undo:
            self.undo.pop()()


@contextmanager
def flops_counted() -> Iterator[Meter]:
    """Yields a function that returns the floating-point operations since then; a multiply-add counts as two."""
    with FlopCounterMode(display=False) as counter:
        yield counter.get_total_flops


class Kept:
    """Holds a tensor that autograd keeps for a backward pass, and calls let_go when autograd frees it."""

    def __init__(self, tensor: Tensor, let_go: Callable[[], None]) -> None:
        self.tensor, self.let_go = tensor, let_go

    def __del__(self) -> None:
        self.let_go()


class KeptMemory:
    """Bytes that autograd keeps for backward passes while this is entered, each storage once; weights do not count."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self.weights = {weight.untyped_storage()._cdata for weight in weights}
        self.users, self.bytes, self.peak = Counter(), 0, 0
        self.hooks = saved_tensors_hooks(self.pack, lambda kept: kept.tensor)

    def __enter__(self) -> "KeptMemory":
        self.hooks.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self.hooks.__exit__(*error)

    def pack(self, tensor: Tensor) -> Kept:
        """Count the storage of a tensor that autograd is about to keep."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, 0 if storage._cdata in self.weights else storage.nbytes()
        self.users[key] += 1
        if self.users[key] == 1:
            self.bytes += size
            self.peak = max(self.peak, self.bytes)
        return Kept(tensor, partial(self.release, key, size))

    def release(self, key: int, size: int) -> None:
        """Stop counting a storage when the last tensor on it is let go."""
        self.users[key] -= 1
        if self.users[key] == 0:
            self.bytes -= size


def nbytes(tensors: Iterable[Tensor]) -> int:
    """Returns the bytes of all elements of some tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
