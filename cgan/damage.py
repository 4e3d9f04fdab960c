"""Tells a damaged file from a system that can't read it: no memory, too many open files, a disk that fails."""

import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EINVAL
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError

from cgan.errors import UserError

CONTENT = (
    zipfile.BadZipFile, zlib.error, struct.error, UnpicklingError, SafetensorError, RuntimeError, NotImplementedError,
    KeyError, TypeError, ValueError, EOFError, AttributeError, IndexError, OSError,
)  # fmt: skip
NO_MEMORY = re.compile(r"out of memory|allocate memory")
NUMBERED = re.compile(r"os error (\d+)|errno:? (\d+)|[a-z] \((\d+)\)$", re.IGNORECASE)  # as Rust and torch quote them


class Damaged(UserError):
    """The content of a file is damaged, or something else than was expected."""


def system_fault(error: BaseException) -> str | None:
    """What the system lacks or fails in, where it and not the content of a file is at fault; None otherwise.

    torch and Rust's libraries report errors of the system as errors of their own, so their text is looked at too.
    """
    if isinstance(error, OSError):
        number = error.errno  # EINVAL: a damaged archive points in front of itself
        return None if number is None or number == EINVAL else os.strerror(number)
    text = first_line(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or NO_MEMORY.search(text):
        return "out of memory" if isinstance(error, MemoryError) else text[:200]
    if isinstance(error, RuntimeError | SafetensorError):
        number = next((int(n) for found in NUMBERED.finditer(text) for n in found.groups() if n), None)
        if number is not None or "CUDA error" in text:
            return text[:200] if number is None else os.strerror(number)
    return None


def first_line(error: BaseException) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def unreadable(path: str | Path, error: BaseException, otherwise: str) -> UserError:
    """What to raise where a file could not be loaded: the fault of the system, or `otherwise`, that of its content."""
    fault = system_fault(error)
    return UserError(otherwise if fault is None else f"{path} can't be read: {fault}")


@contextmanager
def reading(path: str | Path, damaged: str) -> Iterator[None]:
    """For reading a file, and for looking whether all is in it that must be.

    Raises Damaged with the message `damaged` where the content is at fault, UserError where the system is; both keep
    their cause. Other errors pass.
    """
    try:
        with open(path, "rb"):
            pass  # safetensors calls each file missing that can't be opened
        yield
    except UserError:
        raise
    except Exception as error:
        fault = system_fault(error)
        if fault is not None:
            raise UserError(f"{path} can't be read: {fault}") from error
        if isinstance(error, CONTENT):
            raise Damaged(f"{path}: {damaged}") from error
        raise


@contextmanager
def building(path: str | Path, damaged: str) -> Iterator[None]:
    """For making networks of what a file holds.

    Raises Damaged where the weights do not fit them. Any other error is not called damage: it may be another version's
    file, or a mistake of cgan; UserError names it, and keeps it as its cause.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        fault = system_fault(error)
        if fault is not None:
            raise UserError(f"{path} can't be loaded: {fault}") from error
        if isinstance(error, RuntimeError) and "in loading state_dict" in str(error):
            raise Damaged(f"{path}: {damaged}") from error
        what = f"{type(error).__name__}: {first_line(error)[:200]}"
        raise UserError(f"{path}: nothing can be built from it ({what}); CGAN_DEBUG=1 shows where") from error
