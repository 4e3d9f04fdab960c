"""The cache: arrays that are made once, written row by row, and mapped into memory by every process that needs them.

One of several processes makes a file while the others wait for it. When a new file is made, files that nobody has used
for CGAN_CACHE_DAYS (30) are removed, and what killed processes have left behind. A file that is mapped stays readable
after its removal, as Linux and macOS keep it until the last process lets go.
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
    """Where drawn and decoded pictures are kept: $CGAN_CACHE, or ~/.cache/cgan; raises UserError without a home."""
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
    """What `find` finds of a file of the cache, or what `make` returns after writing it, in one process at a time.

    Raises CannotWrite, before `make` is called, where the cache can't be written.
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
    """Logs that another process makes a file."""
    log.warning("waiting for another process that makes %s", path)


def mapped(path: Path, dtype: DTypeLike, shape: tuple[int, ...] | None = None) -> np.ndarray | None:
    """An array as a memory map, or None where the file is missing, damaged, or of another kind or shape."""
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return array if array.dtype == dtype and shape in (None, array.shape) else None


def write_array(
    path: Path, dtype: DTypeLike, shape: tuple[int, ...], parts: Iterable[np.ndarray], before_end: Callable = list
) -> np.ndarray:
    """Write an array (N, ...), of which parts (n, ...) come one after the other, and map it; raises CannotWrite.

    `before_end` is called when all parts are written, and the file has not its name yet.
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
    """How many pictures of a size a worker should make at a time, so that those under way take little memory."""
    return max(1, min(64, 2_000_000 // max(1, row_bytes)))


# ---------------------------------------------------------------------------------------------- what is kept


def mark_used(path: Path) -> None:
    """Note that the files of a name, such as pictures-X.npy and .txt, were used now; they are kept from here on."""
    for file in path.parent.glob(f"{path.stem}.*"):
        with suppress(OSError):  # a cache of someone else
            os.utime(file)


def tidy(cache: Path) -> None:
    """Remove what killed processes have left in the cache, and what nobody has used for a long time."""
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
    """Whether it is a lock that nobody holds, or an unfinished file of an earlier version that nobody writes."""
    if LOCK.fullmatch(file.name):
        return not is_locked(file)
    name = EARLIER.fullmatch(file.name)
    return name is not None and (not is_alive(int(name["pid"])) or time.time() - stat.st_mtime > DAY)


def days_kept() -> float:
    """After how many days without use a file is removed, 0 for never; raises UserError for what is no number."""
    given = os.environ.get("CGAN_CACHE_DAYS") or "30"
    try:
        days = float(given)
    except ValueError:
        days = -1
    if not 0 <= days < float("inf"):
        raise UserError(f"CGAN_CACHE_DAYS={given}: give a number of days, or 0 to keep all")
    return days
