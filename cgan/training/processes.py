"""Counts the processes of one training, tells which is the first, and lets them agree on a run directory."""

from typing import NoReturn

import torch
from pytorch_lightning.utilities import rank_zero_only

from cgan.config import TrainerConfig
from cgan.errors import FirstProcessReports
from cgan.interfaces import Report, UserError
from cgan.workers import num_cores


def end_all(message: str) -> NoReturn:
    """End a training for a reason that all of its processes know.

    Raises UserError with the message in the first process, and FirstProcessReports in the others.
    """
    if is_first_process():
        raise UserError(message)
    raise FirstProcessReports(message)


def is_first_process() -> bool:
    """Returns whether this process is the one that reports and writes; it is known before the processes have met."""
    return rank_zero_only.rank == 0


def from_first_process(report: Report) -> Report:
    """Returns the same report function, called in the first process only."""

    def report_once(message: str) -> None:
        if is_first_process():
            report(message)

    return report_once


def num_devices(devices: str) -> int:
    """Returns the number of processes on this machine, one for each device of trainer.devices.

    Raises UserError where that is not a number, a list or auto, or more than this process may use.
    """
    present = torch.cuda.device_count() if torch.cuda.is_available() else num_cores()
    if devices in ("auto", "-1"):
        return present if torch.cuda.is_available() else 1
    listed = devices.strip("[]").split(",")
    if not all(part.strip().isdigit() for part in listed) or listed == ["0"]:
        raise UserError(f"trainer.devices={devices}: give a number, a list such as 0,1, or auto")
    count = len(listed) if len(listed) > 1 else int(devices)
    if count > present:
        raise UserError(f"trainer.devices={devices}: this process may use {present}")
    return count


def num_processes_of(settings: TrainerConfig) -> int:
    """Returns the number of processes on all machines together."""
    return num_devices(settings.devices) * settings.num_nodes


def whole_batch(settings: TrainerConfig, batch_size: int, num_images: int, key: str, parts: int = 1) -> int:
    """Returns the batch size of all processes together: at most num_images, and a multiple of processes times parts.

    `parts` are the micro-batches of gan.accumulate; `key` names the setting of batch_size in messages. Raises UserError
    where batch_size can't be divided so, or where there are fewer images than that.
    """
    processes = num_processes_of(settings)
    if parts < 1:
        raise UserError(f"gan.accumulate={parts}: must be at least 1")
    shared = f"{processes} processes that share each batch" + f" in {parts} parts each" * (parts > 1)
    if batch_size % (processes * parts):
        raise UserError(f"{key}={batch_size}: not a multiple of the {shared}")
    if num_images < processes * parts:
        raise UserError(f"{num_images} pictures are too few for {shared}; lower trainer.devices or gan.accumulate")
    return min(batch_size, num_images - num_images % (processes * parts))
