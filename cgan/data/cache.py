"""The cache on disk: arrays that are computed once, written row by row, and memory-mapped by every process.

If several processes need the same file, one of them writes it while the others wait. Whenever a new file is written,
files that were not used for CGAN_CACHE_DAYS days (30 by default) and leftovers of killed processes are deleted. A
mapped file stays readable after its deletion, as Linux and macOS keep its content until the last process unmaps it.
"""

import logging
import os
import re
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import DTypeLike

from cgan.errors import UserError
from cgan.files import (
    DAY,
    check_room,
    check_writable,
    is_alive,
    is_locked,
    one_at_a_time,
    remove_abandoned,
    replacing_stream,
)

T = TypeVar("T")


def cache_folder() -> Path:
    """Returns the folder of the cache: $CGAN_CACHE, or else ~/.cache/cgan.

    Raises UserError if there is no home folder.
    """
    try:
        return Path(os.environ.get("CGAN_CACHE") or "~/.cache/cgan").expanduser()
    except RuntimeError:
        raise UserError("no home folder for the cache; set CGAN_CACHE to a folder that can be written") from None


HINT = "this is the cache; set CGAN_CACHE to a folder that can be written and has room"
NAME = r"(scenes|pictures|shards|features|index)-[0-9a-f]{12,16}"
OURS = re.compile(rf"{NAME}\.(npy|txt|safetensors)")
LOCK = re.compile(rf"\.{OURS.pattern}\.lock")
# earlier versions named unfinished files by the process alone
EARLIER = re.compile(rf"{NAME}(\.\w+)?\.(?P<pid>\d+)\.(tmp|part|tmp\.npy)")

log = logging.getLogger(__name__)


def made_once(path: Path, find: Callable[[], T | None], make: Callable[[], T]) -> T:
    """Returns what `find` reads from a cache file; if that is None, what `make` returns after it has written the file.

    Only one process at a time calls `make`; the others wait for it and then call `find` again. Raises CannotWrite,
    before `make` is called, if the cache can't be written.
    """
    found, lock = find(), path.with_name(f".{path.name}.lock")
    if found is None:
        check_writable(path.parent, HINT)
        tidy(path.parent)
        with one_at_a_time(lock, lambda: log_waiting(path), HINT):
            found = find()
            if found is None:
                found = make()
                remove_abandoned(path.parent)  # of workers that were still ending when this process began
                return found
    with suppress(OSError):
        if lock.exists() and not is_locked(lock):  # its maker was killed as soon as the file was whole
            lock.unlink()
    mark_used(path)
    return found


def log_waiting(path: Path) -> None:
    """Logs that this process waits for another one to write the file."""
    log.warning("waiting for another process that makes %s", path)


def mapped(path: Path, dtype: DTypeLike, shape: tuple[int, ...] | None = None) -> np.ndarray | None:
    """Returns the array of a .npy file as a read-only memory map.

    Returns None if the file is missing or damaged, or if its dtype differs, or its shape where `shape` is given.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return array if array.dtype == dtype and shape in (None, array.shape) else None


def write_array(
    path: Path, dtype: DTypeLike, shape: tuple[int, ...], parts: Iterable[np.ndarray], before_end: Callable = list
) -> np.ndarray:
    """Writes an array of `shape` (N, ...) from consecutive parts (n, ...), and returns it as a read-only memory map.

    `before_end` is called after the last part, while the file still has its temporary name. Raises CannotWrite, and
    ValueError if the parts do not have N rows together.
    """
    dtype, written = np.dtype(dtype), 0
    check_room(path, dtype.itemsize * int(np.prod(shape, dtype=np.int64)), HINT)
    with replacing_stream(path, HINT) as stream:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        for part in parts:
            stream.write(np.ascontiguousarray(part, dtype=dtype).tobytes())
            written += len(part)
        if written != shape[0]:
            raise ValueError(f"{written} rows instead of {shape[0]}")
        before_end()
    return np.lib.format.open_memmap(path, mode="r")


def num_rows_at_once(row_bytes: int) -> int:
    """Returns how many pictures of row_bytes bytes each a worker processes per chunk: 1 to 64, about 2 MB in all."""
    return max(1, min(64, 2_000_000 // max(1, row_bytes)))


# ---------------------------------------------------------------------------------------------- what is kept


def mark_used(path: Path) -> None:
    """Sets the access time of all files of a name, such as pictures-X.npy and pictures-X.txt, to now.

    This keeps them.
    """
    for file in path.parent.glob(f"{path.stem}.*"):
        with suppress(OSError):  # a cache of someone else
            os.utime(file)


def tidy(cache: Path) -> None:
    """Deletes leftovers of killed processes, and files that were not used for days_kept() days."""
    remove_abandoned(cache)
    days, num_files, num_bytes = days_kept(), 0, 0
    for file in cache.iterdir():
        with suppress(OSError):  # another process was faster, or it is someone else's
            stat = file.stat()
            if is_left_behind(file, stat):
                file.unlink()
            elif days and OURS.fullmatch(file.name) and time.time() - max(stat.st_atime, stat.st_mtime) > days * DAY:
                file.unlink()
                num_files, num_bytes = num_files + 1, num_bytes + stat.st_size
    if num_files:
        size = f"{num_files:,} files, {num_bytes / 1e6:,.1f} MB"
        log.warning("removed %s of the cache that were not used for %g days; CGAN_CACHE_DAYS=0 keeps all", size, days)


def is_left_behind(file: Path, stat: os.stat_result) -> bool:
    """Returns whether a file is a lock that no process holds, or an earlier version's file that no process writes."""
    if LOCK.fullmatch(file.name):
        return not is_locked(file)
    name = EARLIER.fullmatch(file.name)
    return name is not None and (not is_alive(int(name["pid"])) or time.time() - stat.st_mtime > DAY)


def days_kept() -> float:
    """Returns after how many days without use a file is deleted, from CGAN_CACHE_DAYS; 0 keeps all files.

    Raises UserError if the variable is not a number, negative or infinite.
    """
    given = os.environ.get("CGAN_CACHE_DAYS") or "30"
    try:
        days = float(given)
    except ValueError:
        days = -1
    if not 0 <= days < float("inf"):
        raise UserError(f"CGAN_CACHE_DAYS={given}: give a number of days, or 0 to keep all")
    return days
