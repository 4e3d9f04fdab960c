"""Distinguishes damaged files from faults of the system: no memory, too many open files, a failing disk."""

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
    """Raised if the content of a file is damaged, or is not what was expected."""


def system_fault(error: BaseException) -> str | None:
    """Returns a description of the system's fault behind an error; None if the content of the file is at fault.

    torch and libraries in Rust raise their own errors for faults of the system, so the error's text is examined as
    well.
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
    """Returns the first line of an error's message; the name of its class if the message is empty."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def unreadable(path: str | Path, error: BaseException, otherwise: str) -> UserError:
    """Returns the UserError for a file that could not be loaded: the system's fault, or else the text `otherwise`."""
    fault = system_fault(error)
    return UserError(otherwise if fault is None else f"{path} can't be read: {fault}")


@contextmanager
def reading(path: str | Path, damaged: str) -> Iterator[None]:
    """A context in which a file is read and its content is checked.

    Raises Damaged with the message `damaged` if the content is at fault, and UserError if the system is; both have the
    original error as their cause. Other errors are passed on unchanged.
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
    """A context in which networks are built from the content of a file.

    Raises Damaged if the weights do not fit the networks. Any other error may be due to a file of another version or to
    a bug in cgan, so a UserError names it without calling the file damaged, and has it as its cause.
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
