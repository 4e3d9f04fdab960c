"""Checkpoint files that survive crashes: written whole or not at all, the last few kept, and verified when read."""

import os
import re
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple, cast

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import CheckpointIO
from torch import Tensor, nn

from cgan.damage import Damaged, first_line, reading, system_fault
from cgan.files import CannotWrite, cannot_write, replacing_stream, sync_folder, temporary_name
from cgan.interfaces import UserError
from cgan.training.processes import end_all

NAME = re.compile(r"last(-[1-9]\d*)?\.ckpt")  # of the checkpoints that a training goes on from


class PlainFiles(CheckpointIO):
    """Writes Lightning's checkpoint files whole and synced, and reads only those that hold plain values."""

    def save_checkpoint(self, checkpoint: dict, path: str | Path, storage_options: None = None) -> None:
        """Writes a checkpoint whole and synced to the disk; raises CannotWrite if that fails."""
        with replacing_stream(Path(path)) as stream:
            torch.save(checkpoint, cast(IO[bytes], stream))

    def load_checkpoint(self, path: str | Path, map_location: str | None = "cpu", weights_only: bool = True) -> dict:
        """Returns the content of a checkpoint, which may hold tensors and plain values only."""
        return torch.load(path, map_location=map_location, weights_only=True)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Removes a checkpoint, if it exists."""
        Path(path).unlink(missing_ok=True)


def save_checkpoint(trainer: pl.Trainer, path: Path, num_kept: int = 1) -> None:
    """Write a checkpoint of the training; every process has to call it.

    The previous checkpoint stays intact until the new one is written, and num_kept - 1 of them after that. Raises
    UserError in the first process, and FirstProcessReports in the others, where the disk is full or weights are not
    finite; the checkpoints that were there before stay.
    """
    if not is_finite(trainer.lightning_module):
        end_all(f"weights are not finite after step {trainer.global_step}; {resume_hint(path.parent)}")
    unfinished, fault = temporary_name(path), None
    try:
        trainer.save_checkpoint(unfinished)
        if trainer.is_global_zero:
            put_in_place(unfinished, path, num_kept)
    except CannotWrite as error:  # in the first process, which alone writes
        fault = f"{path} can't be written: {error.reason}; {resume_hint(path.parent)}"
        trainer.strategy.barrier()  # where the other processes wait
    fault = trainer.strategy.broadcast(fault)
    if fault is not None:
        end_all(fault)


def put_in_place(unfinished: Path, path: Path, num_kept: int) -> None:
    """Rename a new checkpoint to its name, after the older ones have moved on; raises CannotWrite."""
    try:
        make_room(path, num_kept)
        unfinished.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        unfinished.unlink(missing_ok=True)


def make_room(path: Path, num_kept: int) -> None:
    """Rename last.ckpt to last-1.ckpt, that to last-2.ckpt and so on; the oldest is overwritten.

    last.ckpt keeps its name as well where the file system has hard links, so that there is one at any time.
    """
    for number in range(num_kept - 1, 1, -1):
        newer = numbered(path, number - 1)
        if newer.exists():
            newer.replace(numbered(path, number))
    if num_kept > 1 and path.exists():
        second = temporary_name(path)
        with suppress(OSError):
            os.link(path, second)
        (second if second.exists() else path).replace(numbered(path, 1))


def numbered(path: Path, number: int) -> Path:
    """Returns last-2.ckpt for last.ckpt and 2; the path itself for 0."""
    return path.with_stem(f"{path.stem}-{number}") if number else path


def is_finite(network: nn.Module) -> bool:
    """Returns whether all trained weights of a network are finite."""
    with torch.no_grad():
        trained: list[Tensor] = [weight for weight in network.parameters() if weight.requires_grad]
        norms = torch._foreach_norm(trained, ord=1)  # pyright: ignore[reportPrivateImportUsage]  # private in torch; one kernel for all
        return bool(torch.stack([norm.float() for norm in norms]).sum().isfinite())


def resume_hint(run_dir: Path) -> str:
    """Returns the end of an error message: what to resume from, and by which command."""
    if not (run_dir / "last.ckpt").exists():
        return f"there is no checkpoint in {run_dir} yet"
    return f"{run_dir / 'last.ckpt'} is whole: cgan train --resume {run_dir}"


class Found(NamedTuple):
    """An intact checkpoint, its content, and the damaged checkpoints that are newer."""

    path: Path
    content: dict
    damaged: list[str]


def checkpoints_in(run_dir: Path) -> list[Path]:
    """Returns last.ckpt, last-1.ckpt and so on, the newest first; raises UserError if the folder can't be read."""
    try:
        names = os.listdir(run_dir)  # from Python 3.13 on Path.glob passes over a folder that it can't read
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"{run_dir} can't be read: {system_fault(error)}") from error
    paths = [run_dir / name for name in names if NAME.fullmatch(name)]
    return sorted(paths, key=lambda path: int(path.stem.partition("-")[2] or 0))


def newest_intact(run_dir: Path) -> Found | None:
    """Returns the newest checkpoint that is whole; None where there is none at all.

    Raises UserError where all are damaged, or where one can't be read for another reason than its content.
    """
    damaged = []
    for path in checkpoints_in(run_dir):
        try:
            return Found(path, intact(path), damaged)
        except Damaged as error:
            damaged.append(f"{path} is damaged ({first_line(error.__cause__ or error)[:200]})")
    if damaged:
        raise UserError(f"{'; '.join(damaged)}; no checkpoint of this run is left to go on from")
    return None


def intact(path: Path) -> dict:
    """Returns the content of a checkpoint, as written: a torch file is a zip file whose every record has a checksum.

    torch itself does not look at these. Nothing in the file is executed. Raises Damaged, or UserError where the system
    can't read it.
    """
    with reading(path, "damaged"):
        if path.stat().st_size == 0:
            raise ValueError("it is empty")
        with zipfile.ZipFile(path) as records:
            changed = records.testzip()
        if changed is not None:
            raise ValueError(f"the checksum of {changed} is wrong")
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if {"state_dict", "optimizer_states", "global_step", "loops"} - set(content):
            raise ValueError("it holds no state of a training")
        return content
