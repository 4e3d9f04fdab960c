"""What the scripts call; a user's mistake ends here as one line."""

import ctypes
import sys
from collections.abc import Callable
from io import TextIOWrapper

from cgan.errors import UserError

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of glibc's mallopt(3)


def run(command: Callable[[list[str]], None]) -> None:
    """Run a command on the process's arguments; a UserError is printed and ends the process with status 1."""
    keep_freed_memory()
    print_any_name()
    try:
        command(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")


def print_any_name() -> None:
    """Names of files may hold bytes that are no UTF-8: what a stream can't take is escaped, and ends no command."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def keep_freed_memory() -> None:
    """Large tensors come and go with every layer: have glibc keep their memory, for fresh pages cost a sixth of all."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(MMAP_MAX, 0)
        mallopt(TRIM_THRESHOLD, 2**31 - 1)
