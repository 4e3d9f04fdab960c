"""A mark on a run directory while a training writes into it: a lock, which ends with its process, however that ends."""

import fcntl
from contextlib import suppress
from pathlib import Path

MARK = ".under-way"
HELD = []  # open as long as this process lives


def mark_under_way(run_dir: Path) -> None:
    file = (run_dir / MARK).open("w")
    with suppress(OSError):  # some disks know no locks
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    HELD.append(file)


def is_under_way(run_dir: Path) -> bool:
    """Whether a training of this machine, or of one that shares the disk and its locks, writes there now."""
    try:
        with (run_dir / MARK).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
