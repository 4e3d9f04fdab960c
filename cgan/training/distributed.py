"""Exchanges tensors, gradients and batch statistics between the processes of one training."""

import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.overrides.distributed import _sync_module_states
from pytorch_lightning.plugins.layer_sync import LayerSync
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_gather
from torch.optim import Optimizer

from cgan.sharding import num_processes, process_number
from cgan.training.overlap import OverlappedAverage

T = TypeVar("T")


def all_gather_with_grad(x: Tensor) -> Tensor:
    """Returns x (B, ...) of every process in their order, (N, ...), through which gradients flow back to each process.

    All processes must call it with tensors of the same shape.
    """
    if num_processes() == 1:
        return x
    return torch.stack(all_gather(x.contiguous())).flatten(0, 1)  # (processes, B, ...) before


def all_gather_local_first(x: Tensor) -> Tensor:
    """Returns all_gather_with_grad(x) rolled so that row i of this process is row i of the result, (N, ...)."""
    return all_gather_with_grad(x).roll(-process_number() * len(x), dims=0)


def all_gather_values(value: T) -> list[T]:
    """Returns a picklable value of every process, in their order; all processes must call it."""
    found: list = [None] * num_processes()
    distributed.all_gather_object(found, value)
    return found


class Agreement:
    """Lets all processes of a training agree on numbers every few steps, about once in so many seconds.

    An exchange waits for the other processes and for the device, so it is not done in each step. In which step the next
    one comes is agreed on in each, by the slowest process; at most most_steps lie between.
    """

    def __init__(self, seconds: float = 1.0, most_steps: int = 50) -> None:
        self.seconds, self.most_steps = seconds, most_steps
        self.between = self.left = 1  # steps from the last exchange to the next one, and from now
        self.since: float | None = None  # the time of the last exchange

    def exchange(self, numbers: list[float], device: torch.device) -> list[float] | None:
        """Returns the largest of each number in any process; None in steps without an exchange.

        All processes must call it once in each step, with as many numbers.
        """
        self.left -= 1
        if self.left > 0:
            return None
        now = time.monotonic()
        pace = self.seconds if self.since is None else (now - self.since) / self.between  # seconds a step
        found = torch.tensor([*numbers, pace], dtype=torch.float64, device=device)
        distributed.all_reduce(found, distributed.ReduceOp.MAX)
        *agreed, slowest = found.tolist()
        self.between = self.left = min(max(1, int(self.seconds / max(slowest, 1e-9))), self.most_steps)
        self.since = time.monotonic()
        return agreed


class SyncTrainedBatchNorm(LayerSync):
    """Normalises by the batch statistics of all processes in layers whose weights are trained.

    torch.nn.SyncBatchNorm.convert_sync_batchnorm would also convert frozen layers, whose statistics are fixed, and
    subclasses that do more: timm's BatchNormAct2d would lose its activation.
    """

    def __init__(self) -> None:
        self.replaced: list[tuple[nn.Module, str, nn.Module]] = []  # the network, the layer's name in it, and the layer

    def apply(self, model: nn.Module) -> nn.Module:
        """Replaces trained batch normalisation layers by torch.nn.SyncBatchNorm, in place."""
        for network in list(model.modules()):
            for name, layer in list(network.named_children()):
                plain = type(layer) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
                if plain and any(weight.requires_grad for weight in layer.parameters()):
                    self.replaced.append((network, name, layer))
                    setattr(network, name, nn.SyncBatchNorm.convert_sync_batchnorm(layer))
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Puts the original layers back, with the weights and statistics learned since `apply`."""
        while self.replaced:
            network, name, layer = self.replaced.pop()
            learned = getattr(network, name)
            for key, value in (*learned.named_parameters(), *learned.named_buffers()):
                setattr(layer, key, value)
            setattr(network, name, layer.train(learned.training))
        return model


class SharedGradients(DDPStrategy):
    """Averages an optimizer's gradients over all processes before each of its steps, mostly during the backward pass.

    It serves a module with several optimizers, such as a generator's and a discriminator's: DistributedDataParallel
    would search the graph of every backward pass for the weights of the network that is not updated. The module's
    config.accumulate is the number of backward passes before a step; only the last one averages.
    """

    def __init__(self) -> None:
        super().__init__()
        self.averages: list[OverlappedAverage] = []  # one for each optimizer
        self.num_backward = 0  # passes since the last step of any optimizer

    def configure_ddp(self) -> None:
        """Copies the first process's weights to all; there is no DistributedDataParallel."""
        assert self.model is not None  # Lightning connects it before
        _sync_module_states(self.model)  # all start from the first process's weights

    def setup_optimizers(self, trainer: Trainer) -> None:
        """Makes the optimizers, and watches for the gradients of each one's weights."""
        super().setup_optimizers(trainer)
        groups = [[weight for group in one.param_groups for weight in group["params"]] for one in self.optimizers]
        self.averages = [OverlappedAverage(weights) for weights in groups]

    def pre_backward(self, closure_loss: Tensor) -> None:
        """Lets the last backward pass before a step average the gradients that it computes."""
        self.num_backward += 1
        last = self.num_backward == cast(Any, self.lightning_module).config.accumulate
        for average in self.averages:
            average.active = last

    def post_backward(self, closure_loss: Tensor) -> None:
        """No-op: there is no reducer that waits."""

    def optimizer_step(self, optimizer: Optimizer, closure: Callable[[], object], *others, **settings) -> object:
        """Waits until the gradients of the optimizer's weights are averages, then takes its step."""
        self.averages[self.optimizers.index(optimizer)].finish()
        self.num_backward = 0
        return super().optimizer_step(optimizer, closure, *others, **settings)

    def teardown(self) -> None:
        """Stops to watch for gradients."""
        for average in self.averages:
            average.remove()
        super().teardown()
