"""Counts what decides the speed of a training step on any device.

Operations, launches of kernels, waits of the host for the device, and graphs of torch.compile are counted, so that the
numbers do not depend on what else a machine does.
"""

import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from torch.autograd import DeviceType  # pyright: ignore[reportPrivateImportUsage]  # public in its documentation
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from cgan.interfaces import Batch
from cgan.training.gan import TextToImageGAN

READ = "aten::_local_scalar_dense"  # of the value of a tensor, by item, float, int or bool
READERS = {"aten::item", "aten::is_nonzero"}  # by which Python asks for it; other operations read what is at hand
WAITS = {"cudaStreamSynchronize", "cudaEventSynchronize", "cudaMemcpy"}
LAUNCHES = {"cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx", "cudaGraphLaunch"}


class StepCounts(NamedTuple):
    """The counts of one training step. What a GPU alone has is None on a CPU."""

    operations: float  # that PyTorch dispatches, those inside others counted as well
    outer_operations: float  # those that are not inside another one
    host_syncs: float  # times that the host waits for a GPU; on a CPU, that Python reads a tensor's value
    launches: float | None  # of kernels, and of whole CUDA graphs
    device_seconds: float | None  # in which the GPU works


class Counter:
    """Counts from start() to stop(), on the CPU and on a GPU where the work is there."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would print when it starts and stops
        on_gpu = [ProfilerActivity.CUDA] if device.type == "cuda" else []
        self.profiler = profile(activities=[ProfilerActivity.CPU, *on_gpu])

    def start(self) -> None:
        """Begins to count."""
        self.profiler.start()

    def stop(self, num_steps: int) -> StepCounts:
        """Ends, and returns the counts of one of num_steps steps."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # not among WAITS
        self.profiler.stop()
        return counts_of(self.profiler.events() or [], num_steps, self.device.type == "cuda")


def counts_of(events: Iterable[FunctionEvent], num_steps: int, on_gpu: bool) -> StepCounts:
    """Returns the counts of a profiler's events, divided by the number of steps."""
    host, device = [], []
    for event in events:
        if not event.is_user_annotation:
            (host if event.device_type == DeviceType.CPU else device).append(event)
    operations = [event for event in host if event.name.startswith("aten::")]
    outer = sum(not callers(event) for event in operations)
    reads = sum(event.name == READ and set(callers(event)) <= READERS for event in operations)
    waits, launches = (sum(event.name in names for event in host) for names in (WAITS, LAUNCHES))
    work = covered([(event.time_range.start, event.time_range.end) for event in device]) / 1e6
    of_gpu = (launches / num_steps, work / num_steps) if on_gpu else (None, None)
    syncs = waits if on_gpu else reads
    return StepCounts(len(operations) / num_steps, outer / num_steps, syncs / num_steps, *of_gpu)


def callers(event: FunctionEvent) -> list[str]:
    """Returns the names of the operations inside which an operation was called, the nearest first."""
    found, parent = [], event.cpu_parent
    while parent is not None:
        if parent.name.startswith("aten::"):
            found.append(parent.name)
        parent = parent.cpu_parent
    return found


def covered(ranges: list[tuple[float, float]]) -> float:
    """Returns the length of the union of ranges (start, end): kernels of several streams may overlap."""
    total, reached = 0.0, -float("inf")
    for start, end in sorted(ranges):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def counts_report(counts: StepCounts, seconds: float) -> dict[str, float]:
    """Returns counts by their names, without those that this device does not have; seconds are those of a step.

    gpu_busy is the share of a step in which the GPU works, in [0, 1].
    """
    found = counts._asdict()
    work = found.pop("device_seconds")
    if work is not None:
        found["gpu_busy"] = work / seconds
    return {name: count for name, count in found.items() if count is not None}


def counted(work: Callable[[], object], device: torch.device, num_steps: int = 2) -> StepCounts:
    """Returns the counts of a step that has been run before."""
    counter = Counter(device)
    counter.start()
    for _ in range(num_steps):
        work()
    return counter.stop(num_steps)


class CountedSteps(pl.Callback):
    """Counts num_steps steps of a training by Lightning, from the one of index `first` on; none of them is logged."""

    def __init__(self, first: int, num_steps: int = 2) -> None:
        self.first, self.num_steps = first, num_steps
        self.counts: StepCounts | None = None  # None until they are over

    def on_train_batch_start(self, trainer: pl.Trainer, gan: TextToImageGAN, batch: Batch, batch_idx: int) -> None:
        """Begins before the first of the steps, and ends before the step after the last."""
        if batch_idx == self.first:
            self.counter = Counter(gan.device)
            self.counter.start()
        if batch_idx == self.first + self.num_steps:
            self.counts = self.counter.stop(self.num_steps)

    def report(self, seconds: float) -> dict[str, float]:
        """Returns counts_report of the counted steps."""
        assert self.counts is not None  # the training has had more steps than those that are counted
        return counts_report(self.counts, seconds)


class Graphs(NamedTuple):
    """What torch.compile has made of a step: graphs by the first steps and by later ones, and breaks between graphs."""

    first: int
    later: int
    breaks: int


def graphs_of(work: Callable[[], object], first_steps: int = 3, later_steps: int = 3) -> Graphs:
    """Runs a compiled step, which must not have run before, and returns its graphs; later ones are recompilations."""
    from torch._dynamo.utils import counters

    def made() -> tuple[int, int]:
        return counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())

    (before, breaks), numbers = made(), []
    for count in (first_steps, later_steps):
        for _ in range(count):
            work()
        numbers.append(made())
    (first, _), (later, breaks_later) = numbers
    return Graphs(first - before, later - first, breaks_later - breaks)
