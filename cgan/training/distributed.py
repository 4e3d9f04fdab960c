"""Several processes that train as one, each on its part of every batch.

The random numbers of a step are drawn for the whole batch, alike in every process, and each takes the rows of its own
part; what a loss needs of the whole batch is gathered. So any number of processes draws the same batch.
"""

import math
from collections.abc import Callable

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.overrides.distributed import _sync_module_states
from pytorch_lightning.plugins.layer_sync import LayerSync
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, distributed, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from torch.optim import Optimizer

LARGEST_DRAW = 2**24  # random numbers, 64 MB, that each process draws for all
BLOCK = 2**22  # of a larger draw, that are drawn at once


def num_processes() -> int:
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def process_number() -> int:
    return distributed.get_rank() if num_processes() > 1 else 0


def own_rows(x: Tensor) -> Tensor:
    """This process's part of x (N, ...), which holds the rows of all in the order of processes: (B, ...)."""
    return x.chunk(num_processes())[process_number()]


def random_rows(draw: Callable[..., Tensor], num_rows: int, *shape: int, device: torch.device | None = None) -> Tensor:
    """torch.rand or randn for the whole batch, of which this process has num_rows: (num_rows, *shape)."""
    start = num_rows * process_number()
    return rows_of_draw(draw, num_rows * num_processes(), start, start + num_rows, shape, device)


def rows_of_draw(
    draw: Callable[..., Tensor],
    num_rows: int,
    start: int,
    stop: int,
    shape: tuple[int, ...],
    device: torch.device | None = None,
) -> Tensor:
    """Rows from start to stop of a random draw of num_rows, the same whatever part of it is asked for.

    A draw of up to LARGEST_DRAW numbers is made whole, in every process. A larger one has a generator for each block of
    rows, seeded by one number from torch's own; only the blocks that hold wanted rows are drawn.
    """
    if num_rows * math.prod(shape) <= LARGEST_DRAW:
        return draw(num_rows, *shape, device=device)[start:stop]
    seed, size = int(torch.randint(2**31, ())), max(1, BLOCK // math.prod(shape))
    found, generator = torch.empty(stop - start, *shape, device=device), torch.Generator(device or "cpu")
    for first in range(start // size * size, stop, size):
        generator.manual_seed(seed * 1_000_003 + first)
        block = draw(min(size, num_rows - first), *shape, device=device, generator=generator)
        begin, end = max(first, start), min(first + len(block), stop)
        found[begin - start : end - start] = block[begin - first : end - first]
    return found


def largest(number: int, device: torch.device) -> int:
    """The largest that any process has; all must ask. Tensors of this device are exchanged."""
    if num_processes() == 1:
        return number
    found = torch.tensor(number, device=device)
    distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return int(found)


def rows_of_all(module: LightningModule, x: Tensor) -> Tensor:
    """x (B, ...) of every process in their order, with its gradient: (N, ...)."""
    if num_processes() == 1:
        return x
    return module.all_gather(x, sync_grads=x.requires_grad).flatten(0, 1)  # (processes, B, ...) before


def own_first(module: LightningModule, x: Tensor) -> Tensor:
    """Like rows_of_all, but starting from this process's, so that row i of its own is row i of all."""
    return rows_of_all(module, x).roll(-process_number() * len(x), dims=0)


class SyncTrainedBatchNorm(LayerSync):
    """Batch normalisation by the statistics of all processes, where its weights are trained.

    torch's own conversion takes frozen layers as well, which normalise by statistics that are fixed, and those of other
    classes that do more: timm's BatchNormAct2d would lose its activation.
    """

    def __init__(self) -> None:
        self.replaced: list[tuple[nn.Module, str, nn.Module]] = []  # the network, the layer's name in it, and the layer

    def apply(self, model: nn.Module) -> nn.Module:
        for network in list(model.modules()):
            for name, layer in list(network.named_children()):
                plain = type(layer) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
                if plain and any(weight.requires_grad for weight in layer.parameters()):
                    self.replaced.append((network, name, layer))
                    setattr(network, name, nn.SyncBatchNorm.convert_sync_batchnorm(layer))
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """The layers from before, with what was learned since."""
        while self.replaced:
            network, name, layer = self.replaced.pop()
            learned = getattr(network, name)
            for key, value in (*learned.named_parameters(), *learned.named_buffers()):
                setattr(layer, key, value)
            setattr(network, name, layer.train(learned.training))
        return model


class SharedGradients(DDPStrategy):
    """For two players in one module: before each step the stepping player's gradients are averaged, all at once.

    DistributedDataParallel would walk the graph of every backward for the player who does not step.
    """

    def configure_ddp(self) -> None:
        _sync_module_states(self.model)  # all start from the first process's weights

    def pre_backward(self, closure_loss: Tensor) -> None:
        """There is no reducer to prepare."""

    def post_backward(self, closure_loss: Tensor) -> None:
        """Nor to wait for."""

    def optimizer_step(self, optimizer: Optimizer, closure: Callable[[], object], *others, **settings) -> object:
        weights = (weight for group in optimizer.param_groups for weight in group["params"])
        average([weight.grad for weight in weights if weight.grad is not None])
        return super().optimizer_step(optimizer, closure, *others, **settings)


def average(gradients: list[Tensor]) -> None:
    """Over all processes, in place."""
    flat = _flatten_dense_tensors(gradients)
    distributed.all_reduce(flat)
    flat /= num_processes()
    torch._foreach_copy_(gradients, _unflatten_dense_tensors(flat, gradients))
