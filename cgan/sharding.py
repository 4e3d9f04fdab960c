"""Splits batches among the processes of one training, and draws random numbers that do not depend on their number.

Every process trains on its part of every batch. The random numbers of a step are drawn for the whole batch, with equal
results in every process, and each process takes the rows of its own part. So the whole batch gets the same numbers for
any number of processes. This module needs torch alone; cgan.training.distributed exchanges tensors and gradients.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, distributed

LARGEST_DRAW = 2**24  # random numbers, 64 MB, that each process draws for all
BLOCK = 2**22  # random numbers of a larger draw, that are drawn at once


def num_processes() -> int:
    """Returns the number of processes that train together; 1 where torch.distributed is not initialised."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def process_number() -> int:
    """Returns the number of this process, from 0 to num_processes() - 1."""
    return distributed.get_rank() if num_processes() > 1 else 0


def local_shard(x: Tensor) -> Tensor:
    """Returns the rows (B, ...) of this process from x (N, ...), which holds those of all processes in their order."""
    return x.chunk(num_processes())[process_number()]


def sharded_rand(num_rows: int, *shape: int, device: torch.device | None = None) -> Tensor:
    """Returns this process's rows (num_rows, *shape) of a uniform draw from [0, 1) for the whole batch."""
    return sharded_draw(torch.rand, num_rows, *shape, device=device)


def sharded_randn(num_rows: int, *shape: int, device: torch.device | None = None) -> Tensor:
    """Returns this process's rows (num_rows, *shape) of a standard normal draw for the whole batch."""
    return sharded_draw(torch.randn, num_rows, *shape, device=device)


def sharded_draw(draw: Callable[..., Tensor], num_rows: int, *shape: int, device: torch.device | None = None) -> Tensor:
    """Returns this process's rows (num_rows, *shape) of draw, which is torch.rand or torch.randn, for the whole batch.

    Every process must have as many rows as this one.
    """
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
    """Returns rows start to stop of a random draw of num_rows; a row does not depend on which other rows are requested.

    A draw of up to LARGEST_DRAW numbers is made whole, in every process. A larger one has a generator for each block of
    rows, seeded by one number from torch's own generator; only the blocks with requested rows are drawn.
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


def largest_of_all(number: int, device: torch.device) -> int:
    """Returns the largest number that any process passes. All processes must call it.

    `device` is that of the exchange.
    """
    if num_processes() == 1:
        return number
    found = torch.tensor(number, device=device)
    distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return int(found)
