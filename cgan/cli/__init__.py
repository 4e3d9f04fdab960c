"""Runs a command; a user's mistake ends it with one line."""

import ctypes
import os
import sys
import traceback
from collections.abc import Callable
from io import TextIOWrapper

from cgan.errors import CTRL_C, UserError

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of glibc's mallopt(3)


def run(command: Callable[[list[str]], None]) -> None:
    """Run a command on the process's arguments; a UserError ends it with one line and status 1, Ctrl-C with 130.

    With CGAN_DEBUG=1 in the environment the errors that it stands for are printed first, with their tracebacks.
    """
    keep_freed_memory()
    print_any_text()
    try:
        command(sys.argv[1:])
    except UserError as error:
        if os.environ.get("CGAN_DEBUG", "0") not in ("", "0"):
            print_causes(error)
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(CTRL_C)


def print_any_text() -> None:
    """Makes output print characters that a terminal can't display, and file names that are not UTF-8, as escapes.

    Otherwise one such name would end a command with UnicodeEncodeError, perhaps after hours. If Python is set to be
    lenient already, by PYTHONIOENCODING or the locale C, nothing changes.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def print_causes(error: BaseException) -> None:
    """Print the traceback of an error and of its causes, including those hidden by `from None`."""
    each = error
    while each is not None:
        each.__suppress_context__ = each.__cause__ is not None
        each = each.__cause__ or each.__context__
    traceback.print_exception(error)


def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors: fresh pages for every layer cost a sixth of the time."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(MMAP_MAX, 0)
        mallopt(TRIM_THRESHOLD, 2**31 - 1)
