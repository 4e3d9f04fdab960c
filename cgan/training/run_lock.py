"""Locks a run directory so that only one training at a time writes into it; the lock ends with the training.

The first process holds the lock. A file beside it names the holder, and lets the other processes of a training know
that it is their own.
"""

import json
import os
import platform
import secrets
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from cgan.errors import FirstProcessReports, UserError
from cgan.files import Busy, cannot_write, hold_lock, is_locked, make_folder, write_json

MARK = ".under-way"  # the lock
HOLDER = ".under-way.json"
AGREED = "CGAN_RUN_DIR"  # by which the processes that Lightning starts know the run directory of the first
LAUNCH = "CGAN_LAUNCH"  # by which the processes that Lightning starts know that they belong to the first
HINT = "give another run_dir"


def take(run_dir: Path, patience: float = 1.0) -> FileLock:
    """Locks a run directory, which is created if it does not exist.

    Raises Busy after `patience` seconds, or CannotWrite.
    """
    make_folder(run_dir, HINT)
    try:
        lock = hold_lock(run_dir / MARK, "", patience)
    except Busy:
        raise Busy(busy_line(run_dir)) from None
    write_json(run_dir / HOLDER, {"launch": launch(), "host": platform.node(), "process": os.getpid()})
    return lock


def give_back(run_dir: Path, lock: FileLock) -> None:
    """Unlocks a run directory, and deletes the file that names the holder."""
    with suppress(OSError):
        (run_dir / HOLDER).unlink()
    lock.release()


def take_new(path: Path) -> tuple[Path, FileLock]:
    """Creates and locks a run directory of this name, and returns it with its lock.

    If the name is taken, a number is appended. Raises CannotWrite.
    """
    make_folder(path.parent, HINT)
    number = 1
    while True:
        run_dir = path if number == 1 else path.with_name(f"{path.name}-{number}")
        number += 1
        try:
            run_dir.mkdir()  # only one process can make it
        except FileExistsError:
            pass
        except OSError as error:
            raise cannot_write(run_dir, error, HINT) from error
        if not is_unused(run_dir):
            continue
        with suppress(Busy):
            lock = take(run_dir, patience=0.0)
            if is_unused(run_dir):
                return run_dir, lock
            give_back(run_dir, lock)


def is_unused(run_dir: Path) -> bool:
    """Returns whether a directory holds only the lock's own files."""
    try:
        return all(path.name.startswith((MARK, f".{MARK}")) for path in run_dir.iterdir())
    except OSError:
        return False


def is_under_way(run_dir: Path) -> bool:
    """Returns whether a training writes into a run directory now, on this machine or one that shares its locks."""
    return is_locked(run_dir / MARK)


def is_of_others(run_dir: Path) -> bool:
    """Returns whether a training to which this process does not belong writes into a run directory now."""
    return is_under_way(run_dir) and holder(run_dir).get("launch") != launch()


def holder(run_dir: Path) -> dict:
    """Returns the launch, host and process of the lock's holder; an empty dict if they are not known."""
    try:
        found = json.loads((run_dir / HOLDER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def busy_line(run_dir: Path) -> str:
    """Returns the message of Busy: the directory, the process that holds it if that is known, and what to do."""
    found = holder(run_dir)
    by = f" (process {found['process']} on {found['host']})" if {"process", "host"} <= set(found) else ""
    return f"{run_dir}: another training is under way in it{by}; wait for its end, or give another run_dir"


# ---------------------------------------------------------------------------------------------- several processes


def launch() -> str:
    """Returns an identifier that is equal in all processes of one launch, and different from every other launch."""
    found = os.environ
    if LAUNCH in found:
        return found[LAUNCH]
    if "TORCHELASTIC_RUN_ID" in found:
        names = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT")
        return "torchrun " + " ".join(found.get(name, "") for name in names)
    if int(found.get("SLURM_NTASKS", 1)) > 1 and "SLURM_PROCID" in found:
        names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
        return "slurm " + " ".join(found.get(name, "") for name in names)
    return ALONE


ALONE = secrets.token_hex(8)


def job_name() -> str:
    """Returns the name that a cluster gives to this job; empty outside of one."""
    return os.environ.get("SLURM_JOB_ID") or os.environ.get("TORCHELASTIC_RUN_ID", "none").replace("none", "")


def wait_for_first(run_dir: Path, seconds: float = 180.0) -> None:
    """Waits, in a process that is not the first, until the first process has locked the run directory.

    Raises FirstProcessReports if another training still holds the directory after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while is_of_others(run_dir):
        if time.monotonic() > deadline:
            raise FirstProcessReports(f"{run_dir}: another training is under way in it")
        time.sleep(0.2)


def found_by_first(pattern: str, seconds: float = 120.0) -> Path:
    """Returns the run directory, of those that match a pattern, which the first process has locked.

    Raises UserError if there is none after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for path in Path().glob(f"{pattern}/{HOLDER}"):
            if holder(path.parent).get("launch") == launch() and is_under_way(path.parent):
                return path.parent
        time.sleep(0.2)
    raise UserError(f"the first process has taken no directory {pattern}: give run_dir, on a disk that all share")
