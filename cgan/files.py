"""Writes files atomically: under a unique temporary name, synced to the disk, then renamed; and locks files.

A temporary name contains the host, the process and a random part, so that two writers of one file never share it. The
file is locked while it is written; `remove_abandoned` deletes leftovers of killed processes. `one_at_a_time` lets one
process do work that several processes need, by a lock file that exists only during the work.
"""

import errno
import fcntl
import json
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import RawIOBase
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from cgan.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, a quota, or what a file may hold
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # errors of file systems without locks
TEMPORARY = re.compile(r"^\..*\.(?P<host>[\w.]*)-(?P<pid>\d+)-[0-9a-f]{8}\.(tmp|old)$")
DAY = 24 * 3600  # seconds after which a temporary file of another host counts as abandoned


class Busy(UserError):
    """Raised if another process holds a lock."""


class CannotWrite(UserError):
    """Raised if a file or folder can't be written; `errno` is the system's error number, as in OSError."""

    def __init__(self, path: Path, number: int | None, reason: str, hint: str = "") -> None:
        what = f"the disk is full ({reason})" if number in FULL else reason
        super().__init__(f"{path} can't be written: {what}{hint and f'; {hint}'}")
        self.path, self.errno, self.reason, self.given = path, number, what, (path, number, reason, hint)

    def __reduce__(self) -> tuple:
        """Returns the arguments of this error, so that it can be pickled and passed to another process."""
        return type(self), self.given


def cannot_write(path: Path, error: BaseException, hint: str = "") -> CannotWrite:
    """Returns the error for a path that can't be written, with the system's reason and a hint."""
    number = errno_of(error)
    return CannotWrite(path, number, os.strerror(number) if number else str(error).splitlines()[0], hint)


def errno_of(error: BaseException) -> int | None:
    """Returns the error number of an OSError, or of an error of a Rust library whose text contains it.

    None otherwise.
    """
    if isinstance(error, OSError):
        return error.errno
    quoted = re.search(r"os error (\d+)", str(error))
    return int(quoted[1]) if quoted else None


# ---------------------------------------------------------------------------------------------- writing


def temporary_name(path: Path) -> Path:
    """Returns a hidden, unique name in the folder of `path`: .NAME.HOST-PROCESS-RANDOM.tmp."""
    host = re.sub(r"[^\w.]", "_", platform.node())[:40]
    return path.with_name(f".{path.name[:100]}.{host}-{os.getpid()}-{secrets.token_hex(4)}.tmp")


@contextmanager
def replacing(path: Path, hint: str = "") -> Iterator[Path]:
    """Yields a temporary path, an empty file, which replaces `path` if the block ends without an error.

    Raises CannotWrite with the hint, and leaves `path` as it was, if the system refuses to write.
    """
    make_folder(path.parent, hint)
    unfinished = temporary_name(path)
    try:
        with unfinished.open("xb") as held:
            with suppress(OSError):  # some file systems know no locks
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield unfinished
            sync(unfinished)
            os.replace(unfinished, path)
        sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        if errno_of(error) is not None and getattr(error, "filename", None) in (None, str(unfinished)):
            raise cannot_write(path, error, hint) from error
        raise  # of something else, such as a file that was read meanwhile


class Stream(RawIOBase):
    """A binary file that keeps the first error of the system, which torch.save would replace by an error of its own."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.error = file, None

    def writable(self) -> bool:
        """Returns True: the file is open for writing."""
        return True

    def write(self, data: bytes) -> int:
        """Writes bytes and returns their number; an OSError is raised again, and the first one is kept in `error`."""
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        """Passes buffered bytes to the system."""
        self.file.flush()

    def tell(self) -> int:
        """Returns the position in the file, in bytes."""
        return self.file.tell()


@contextmanager
def replacing_stream(path: Path, hint: str = "") -> Iterator[Stream]:
    """Yields an open binary file, which replaces `path` if the block ends without an error; raises CannotWrite."""
    with replacing(path, hint) as unfinished:
        with unfinished.open("wb") as file:
            stream = Stream(file)
            try:
                yield stream
            except Exception as error:
                raise stream.error or error from error


def write_bytes(path: Path, content: bytes, hint: str = "") -> None:
    """Writes a file as a whole; raises CannotWrite, and leaves the previous file unchanged, if that fails."""
    with replacing_stream(path, hint) as stream:
        stream.write(content)


def write_text(path: Path, content: str, hint: str = "") -> None:
    """Writes a file in UTF-8 as a whole; raises CannotWrite, and leaves the previous file unchanged, if that fails."""
    write_bytes(path, content.encode("utf-8", errors="surrogateescape"), hint)


def write_json(path: Path, content: object, indent: int | None = 2, hint: str = "") -> None:
    """Writes a JSON file as a whole; raises CannotWrite, and leaves the previous file unchanged, if that fails."""
    write_text(path, json.dumps(content, indent=indent) + "\n", hint)


def sync(path: Path) -> None:
    """Waits until the content of a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk, if the file system supports that."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


# ---------------------------------------------------------------------------------------------- folders


def make_folder(folder: Path, hint: str = "") -> None:
    """Creates a folder and its parents; raises CannotWrite if that is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise CannotWrite(folder, errno.ENOTDIR, "it is a file, not a folder", hint) from error
    except OSError as error:
        raise cannot_write(folder, error, hint) from error


def check_writable(folder: Path, hint: str = "") -> None:
    """Creates a folder and a file in it, which is deleted again; raises CannotWrite before any work is done in vain."""
    make_folder(folder, hint)
    probe = temporary_name(folder / "probe")
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise cannot_write(folder, error, hint) from error


def check_writable_file(path: Path, hint: str = "") -> None:
    """Raises CannotWrite if `path` is a folder, or if no file can be written in its folder."""
    if path.is_dir():
        raise CannotWrite(path, errno.EISDIR, os.strerror(errno.EISDIR), hint)
    check_writable(path.parent, hint)


def check_room(path: Path, num_bytes: int, hint: str = "") -> None:
    """Raises CannotWrite if the disk of path's folder, which must exist, has fewer than num_bytes free bytes."""
    disk = shutil.disk_usage(path.parent)
    if 0 < disk.total and disk.free < num_bytes:  # some file systems report a size of 0
        needed = f"{num_bytes / 1e6:,.1f} MB are needed, {disk.free / 1e6:,.1f} MB are free"
        raise CannotWrite(path, errno.ENOSPC, needed, hint)


def remove_abandoned(folder: Path) -> None:
    """Deletes temporary files and folders in a folder that no process writes any more."""
    for path in folder.glob(".*.tmp"):
        with suppress(OSError):
            if is_abandoned(path):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def is_abandoned(path: Path) -> bool:
    """Returns whether no process locks a temporary file, and its process on this host has ended or it is a day old."""
    name = TEMPORARY.match(path.name)
    if name is None:
        return False
    own = TEMPORARY.match(temporary_name(path).name)
    here = own is not None and name["host"] == own["host"]
    gone = here and not is_alive(int(name["pid"]))
    return (gone or time.time() - path.stat().st_mtime > DAY) and not is_locked(path)


def is_alive(process: int) -> bool:
    """Returns whether a process of this host is running."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is another user's
    return True


# ---------------------------------------------------------------------------------------------- locks


def is_locked(path: Path) -> bool:
    """Returns whether any process holds a lock on a file; False if the file system does not support locks."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def hold_lock(path: Path, busy: str, patience: float = 1.0) -> FileLock:
    """Locks a file until `release` is called or this process ends, for whatever reason.

    Waits up to `patience` seconds, as `is_locked` holds a lock for a moment too, then raises Busy with the message
    `busy`. If the file system does not support locks, nothing is locked. Raises CannotWrite if the file can't be
    created.
    """
    lock = FileLock(path, mode=0o644, thread_local=False)
    try:
        lock.acquire(timeout=patience, poll_interval=0.05)
    except Timeout:
        raise Busy(busy) from None
    except NotImplementedError:
        pass  # what filelock makes of a file system without locks
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise cannot_write(path, error) from error
    return lock


@contextmanager
def one_at_a_time(lock: Path, when_taken: Callable[[], None], hint: str = "", patience: float = 1.0) -> Iterator[None]:
    """Holds a lock file during the block; the file exists only while it is locked, and a process that ends releases it.

    If another process holds it, this one waits. After `patience` seconds, the time in which workers of a killed process
    end, `when_taken` is called once, to report the wait or to raise an error. If the file system does not support
    locks, no process waits. Raises CannotWrite with the hint if the file can't be created.
    """
    start, is_reported = time.monotonic(), False
    while (number := taken(lock, hint)) is None:
        if not is_reported and time.monotonic() - start >= patience:
            when_taken()
            is_reported = True
        time.sleep(0.05)
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink()  # before it is free; who has opened it meanwhile notices that it is gone
        os.close(number)


def taken(lock: Path, hint: str = "") -> int | None:
    """Returns the file descriptor of the locked file; None if another process holds the lock. Raises CannotWrite."""
    try:
        number = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise cannot_write(lock, error, hint) from error
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(number).st_ino == lock.stat().st_ino:
            return number
    except (BlockingIOError, FileNotFoundError):  # held, or its holder has just ended
        pass
    except OSError as error:
        if error.errno in NO_LOCKS:
            return number
        os.close(number)
        raise cannot_write(lock, error, hint) from error
    os.close(number)
    return None
