"""Chooses how many processes read pictures for each training process when trainer.num_workers is not set."""

import os
import shutil
import sys

import torch

MOST = 8  # for each process that trains
HELD = 4  # batches of a reader in shared memory: two that wait, as torch.utils.data has it, and as much room again


def num_readers(given: int | None, batch_bytes: int, num_trainers: int) -> int:
    """Returns the number that is given; otherwise none without a GPU, and else one for each core that training leaves.

    batch_bytes are those of one process's share of a batch; num_trainers are the processes that train on this machine.
    Their batches travel through /dev/shm, which is small in many containers: there fewer readers are taken.
    """
    if given is not None:
        return given
    if not torch.cuda.is_available() or not sys.platform.startswith("linux"):
        return 0
    room = shutil.disk_usage("/dev/shm").free // (HELD * batch_bytes * num_trainers)
    return max(0, min(MOST, cores_of_one(num_trainers) - 1, room))


def cores_of_one(num_trainers: int) -> int:
    """Returns the CPU cores that each training process may use; SLURM gives every task its own."""
    task = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return int(task) if task.isdigit() else len(os.sched_getaffinity(0)) // num_trainers
