"""Operations, waits, launches and graphs of a step are counted."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.autograd import DeviceType

from cgan.benchmarks.counts import StepCounts, counted, counts_of, counts_report, covered, graphs_of

CPU = torch.device("cpu")


def test_operations_inside_others_are_told_apart_and_a_value_that_python_reads_is_a_wait():
    layer, x = nn.Linear(3, 2), torch.randn(4, 3)

    def step() -> None:
        y = layer(x)  # linear, and inside it at least a transposition and a product
        assert y.sum().item() != 1e9 and bool(x[0, 0] < 1e9)

    found = counted(step, CPU)
    assert found.host_syncs == 2 and found.launches is None and found.device_seconds is None
    names = ["linear", "sum", "item", "select", "select", "lt", "is_nonzero"]
    assert found.outer_operations == len(names) and found.operations >= len(names) + 5


def test_what_an_optimizer_reads_on_a_cpu_is_no_wait():
    weight = nn.Parameter(torch.randn(5))
    weight.grad = torch.ones(5)
    adam = torch.optim.Adam([weight], fused=True)
    adam.step()
    assert counted(adam.step, CPU).host_syncs == 0


def event(name: str, start: float = 0, end: float = 0, device=DeviceType.CPU, parent=None, annotation=False):
    times = SimpleNamespace(start=start, end=end)
    return SimpleNamespace(
        name=name, device_type=device, cpu_parent=parent, time_range=times, is_user_annotation=annotation
    )


def test_launches_waits_and_work_of_a_gpu_are_those_of_its_events():
    product = event("aten::mm")
    host = [product, event("cudaLaunchKernel", parent=product), event("cuLaunchKernelEx"), event("cudaGraphLaunch")]
    host += [event("cudaStreamSynchronize"), event("cudaMemcpyAsync"), event("cudaDeviceSynchronize")]
    host += [event("aten::_local_scalar_dense", parent=event("aten::item"))]  # its wait is the stream's
    kernels = [event("gemm", 0, 300, DeviceType.CUDA), event("copy", 200, 500, DeviceType.CUDA)]
    kernels += [event("Optimizer.step#Muon.step", 0, 10_000, DeviceType.CUDA, annotation=True)]
    found = counts_of([*host, *kernels], 2, on_gpu=True)
    assert found == StepCounts(1.0, 0.5, 0.5, 1.5, pytest.approx(250e-6))
    assert counts_report(found, 1e-3)["gpu_busy"] == pytest.approx(0.25)


def test_times_of_several_streams_count_once_where_they_overlap():
    assert covered([(5, 7), (0, 3), (1, 2), (2, 4)]) == 6 and covered([]) == 0


def test_graphs_breaks_and_recompilations_are_counted():
    sizes = iter([2, 2, 2, 2, 3, 4])

    def step(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        torch._dynamo.graph_break()
        return y + 1

    compiled = torch.compile(step, backend="eager", dynamic=False)
    found = graphs_of(lambda: compiled(torch.zeros(next(sizes))))
    assert found == (2, 4, found.breaks) and found.breaks >= 1
