"""Chooses where the pictures of a training lie, and how many processes read them if trainer.num_workers is not set."""

import os
import shutil
import sys
from typing import Literal

import torch

from cgan.data.loading import num_bytes_of
from cgan.interfaces import ImageTextDataset, StoredPictures, UserError

MOST = 8  # for each process that trains
HELD = 4  # batches of a reader in shared memory: two that wait, as torch.utils.data has it, and as much room again

SHARE = 0.25  # of a GPU's free memory that all pictures of a data set may take


def device_of_pictures(
    choice: Literal["auto", "always", "never"], dataset: ImageTextDataset, device: torch.device
) -> torch.device | None:
    """Returns the device that holds all pictures during a training; None where they are read from memory or files.

    They may lie on a device where the data set is one of StoredPictures. By itself that is chosen on a GPU where they
    take at most SHARE of the memory that is free before the training. Raises UserError where it is asked for in vain.
    """
    if choice == "never":
        return None
    if not isinstance(dataset, StoredPictures):
        if choice == "always":
            raise UserError("trainer.pictures_on_device=always: the pictures of shards, and of a data set without "
                            "images_at, are made when they are asked for; use auto")  # fmt: skip
        return None
    if choice == "always":
        return device
    return device if device.type == "cuda" and num_bytes_of(dataset) <= SHARE * free_memory(device) else None


def free_memory(device: torch.device) -> int:
    """Returns the bytes that are free on a GPU; those that this process has freed, and keeps for later, are free."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def num_readers(given: int | None, batch_bytes: int, num_trainers: int, light: bool = False) -> int:
    """Returns the number that is given; otherwise none without a GPU, and else one for each core that training leaves.

    None are needed where the work is light: pictures lie on the GPU, and captions are rows of a table.

    batch_bytes are those of one process's share of a batch; num_trainers are the processes that train on this machine.
    Their batches travel through /dev/shm, which is small in many containers: there fewer readers are taken.
    """
    if given is not None:
        return given
    if light or not torch.cuda.is_available() or not sys.platform.startswith("linux"):
        return 0
    room = shutil.disk_usage("/dev/shm").free // (HELD * batch_bytes * num_trainers)
    return max(0, min(MOST, cores_of_one(num_trainers) - 1, room))


def cores_of_one(num_trainers: int) -> int:
    """Returns the CPU cores that each training process may use; SLURM gives every task its own."""
    task = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return int(task) if task.isdigit() else len(os.sched_getaffinity(0)) // num_trainers
