"""What test_overlap.py starts: two processes that average the gradients of a small network over gloo."""

from pathlib import Path

import torch
from torch import distributed, nn

from cgan.training import overlap
from helpers.forked import meet


def network() -> nn.ModuleList:
    """Five layers of which the third is not used."""
    torch.manual_seed(0)
    return nn.ModuleList([nn.Linear(6, 6) for _ in range(5)])


def losses(layers: nn.ModuleList, rank: int, step: int, num_parts: int) -> list[torch.Tensor]:
    """The loss of each part of a step's batch, which is another one in each process."""
    x = torch.randn(4 * num_parts, 6, generator=torch.Generator().manual_seed(10 * step + rank))
    used = [layer for number, layer in enumerate(layers) if number != 2]
    return [nn.Sequential(*used)(part).square().mean() for part in x.chunk(num_parts)]


def train(rank: int, folder: Path) -> None:
    meet(rank, 2, folder)
    overlap.LEAST_NUMBERS = 40  # a bucket for each layer
    layers, found = network(), []
    average = overlap.OverlappedAverage(layers.parameters())
    for step, num_parts in enumerate([1, 1, 2, 3]):
        layers.zero_grad()
        for number, loss in enumerate(losses(layers, rank, step, num_parts)):
            average.active = number == num_parts - 1
            (loss / num_parts).backward()
        average.finish()
        gradients = [None if weight.grad is None else weight.grad.clone() for weight in layers.parameters()]
        found.append({"gradients": gradients, "early": average.num_early})
    average.remove()
    layers.zero_grad()
    losses(layers, rank, 0, 1)[0].backward()
    found.append({"gradients": [w.grad for w in layers.parameters()], "early": len(average.completed)})
    torch.save({"buckets": len(average.buckets), "steps": found}, folder / f"{rank}.pt")
    distributed.destroy_process_group()  # threads of gloo that outlive the interpreter abort the process now and then
