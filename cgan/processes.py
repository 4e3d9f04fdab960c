"""Several processes that train as one, each on its part of every batch.

The random numbers of a step are drawn for the whole batch, alike in every process, and each takes the rows of its own
part; what a loss needs of the whole batch is gathered. So any number of processes draws the same batch.
"""

from collections.abc import Callable

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, distributed


def num_processes() -> int:
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def process_number() -> int:
    return distributed.get_rank() if num_processes() > 1 else 0


def own_rows(x: Tensor) -> Tensor:
    """This process's part of x (N, ...), which holds the rows of all in the order of processes: (B, ...)."""
    return x.chunk(num_processes())[process_number()]


def random_rows(draw: Callable[..., Tensor], num_rows: int, *shape: int, device: torch.device | None = None) -> Tensor:
    """torch.rand or randn for the whole batch, of which this process has num_rows: (num_rows, *shape)."""
    return own_rows(draw(num_rows * num_processes(), *shape, device=device))


def rows_of_all(module: LightningModule, x: Tensor) -> Tensor:
    """x (B, ...) of every process in their order, with its gradient: (N, ...)."""
    if num_processes() == 1:
        return x
    return module.all_gather(x, sync_grads=x.requires_grad).flatten(0, 1)  # (processes, B, ...) before


def own_first(module: LightningModule, x: Tensor) -> Tensor:
    """Like rows_of_all, but starting from this process's, so that row i of its own is row i of all."""
    return rows_of_all(module, x).roll(-process_number() * len(x), dims=0)
