"""Averages gradients over all processes while a backward pass still computes others."""

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, distributed
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from cgan.sharding import num_processes

MOST_BUCKETS, LEAST_NUMBERS = 12, 2**18  # of one optimizer; gradients of a bucket, 1 MB, but for the last one


class UnderWay(NamedTuple):
    """Gradients whose sum over all processes is being computed."""

    gradients: list[Tensor]
    flat: Tensor  # all of them
    work: distributed.Work


class OverlappedAverage:
    """Averages the gradients of an optimizer's weights in buckets, each as soon as all of its gradients are there.

    Which weights share a bucket is fixed, so that sums are rounded alike in each step. The buckets start in the order
    in which the first step's backward pass of the first process completed them, alike in all processes. A bucket in
    which a weight has no gradient starts in `finish`. All processes must compute gradients of the same weights.
    """

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self.weights = [weight for weight in weights if weight.requires_grad]
        self.buckets = divided(self.weights[::-1])  # a backward pass reaches the last layers first
        self.active = False  # whether the present backward pass is the last one before a step
        self.order: list[int] | None = None  # of buckets; None in the first step
        self.num_early = 0  # buckets of the last step that started during its backward pass
        self.hooks = [
            weight.register_post_accumulate_grad_hook(partial(self.on_gradient, number))
            for number, bucket in enumerate(self.buckets)
            for weight in bucket
        ]
        self.reset()

    def reset(self) -> None:
        """Begins a step."""
        self.missing = [len(bucket) for bucket in self.buckets]  # gradients
        self.completed: list[int] = []  # buckets, in the order of their last gradients
        self.under_way: list[UnderWay] = []
        self.active = False

    def on_gradient(self, number: int, _: Tensor) -> None:
        """Notes that the gradient of a weight of a bucket is there, and starts the buckets whose turn has come."""
        if not self.active:
            return
        self.missing[number] -= 1
        if self.missing[number] > 0:
            return
        self.completed.append(number)
        if self.order is not None:
            turns = self.order[len(self.under_way) :]
            for turn in turns:
                if self.missing[turn] > 0:
                    break
                self.start(turn)

    def start(self, number: int) -> None:
        """Start the sum of a bucket's gradients over all processes; none of it is waited for."""
        gradients = [weight.grad for weight in self.buckets[number] if weight.grad is not None]
        flat = _flatten_dense_tensors(gradients) if gradients else torch.zeros(1, device=self.weights[0].device)
        work = distributed.all_reduce(flat, async_op=True)
        assert work is not None  # it is asynchronous
        self.under_way.append(UnderWay(gradients, flat, work))

    def finish(self) -> None:
        """Replaces all gradients by their means over all processes; all processes must call it before a step."""
        self.num_early = len(self.under_way)
        order = range(len(self.buckets)) if self.order is None else self.order
        for number in order[self.num_early :]:
            self.start(number)
        for gradients, flat, work in self.under_way:
            work.wait()
            flat /= num_processes()
            if gradients:
                parts = _unflatten_dense_tensors(flat, gradients)
                torch._foreach_copy_(gradients, parts)  # pyright: ignore[reportPrivateImportUsage]  # private in torch; one kernel for all
        if self.order is None and self.active:
            rest = [number for number in range(len(self.buckets)) if number not in self.completed]
            agreed = [[*self.completed, *rest]]
            distributed.broadcast_object_list(agreed)
            self.order = agreed[0]
        self.reset()

    def remove(self) -> None:
        """Removes the hooks from the weights."""
        for hook in self.hooks:
            hook.remove()


def divided(weights: list[Tensor]) -> list[list[Tensor]]:
    """Returns weights in at most MOST_BUCKETS buckets of about equal size, in their order; none of them is empty."""
    size = max(LEAST_NUMBERS, sum(weight.numel() for weight in weights) / MOST_BUCKETS)
    buckets: list[list[Tensor]] = [[]]
    for weight in weights:
        if sum(other.numel() for other in buckets[-1]) >= size:
            buckets.append([])
        buckets[-1].append(weight)
    return buckets if weights else []
