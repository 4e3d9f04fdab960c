"""Drawing, decoding and preparing, each as a process of its own that can be killed, on data made for the purpose."""

import hashlib
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from cgan.cli import run
from cgan.data.pictures import CaptionedPictures
from cgan.data.preparation import ShardOptions, write_shards
from cgan.data.readers.folder import read_folder
from cgan.data.scenes.dataset import Scenes

PASSING = ("*.tmp", ".*.tmp", "*.part", ".*.lock", "*.tmp.npy")  # files that must not stay


class Activity(NamedTuple):
    """What writes into a folder, given that folder and one of pictures."""

    name: str
    work: Callable[[Path, Path], object]
    is_whole: Callable[[Path], bool]  # of a file that must never be written again


def draw(folder: Path, pictures: Path) -> None:
    Scenes(600, 64, cache=folder)


def decode(folder: Path, pictures: Path) -> None:
    CaptionedPictures(read_folder(pictures), 64, folder, "here")


def make_shards(folder: Path, pictures: Path) -> None:
    write_shards(read_folder(pictures), folder, ShardOptions(64, shard_size=20), 2, lambda *_: None)


ACTIVITIES = (
    Activity("drawing", draw, lambda file: file.suffix == ".npy"),
    Activity("decoding", decode, lambda file: file.suffix == ".npy"),
    Activity("preparing", make_shards, lambda file: file.suffix == ".tar" and file.with_suffix(".json").exists()),
)


def make_pictures(root: Path, number: int = 100) -> Path:
    """Photographs large enough that decoding all of them takes about half a second."""
    root.mkdir(parents=True)
    for i in range(number):
        coarse = np.random.default_rng(i).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((1000, 800), Image.Resampling.BICUBIC).save(root / f"{i:03d}.jpg")
        (root / f"{i:03d}.txt").write_text(f"number {i}")
    (root / "007.jpg").write_bytes(b"damaged")
    return root


def begin(activity: Activity, folder: Path, pictures: Path, log: Path) -> BaseProcess:
    """Start an activity in a group of processes of its own; what it prints goes into log."""
    process = get_context("fork").Process(target=lead, args=(activity, folder, pictures, log))
    process.start()
    return process


def lead(activity: Activity, folder: Path, pictures: Path, log: Path) -> None:
    os.setsid()
    number = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(number, 1)
    os.dup2(number, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    run(lambda arguments: activity.work(folder, pictures))


def workers_of(process: BaseProcess) -> list[int]:
    """The worker processes of an activity."""
    with suppress(OSError):
        return [int(n) for n in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    return []


def kill_group(process: BaseProcess) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.join()


def ended(process: BaseProcess, seconds: float = 120) -> int:
    """The exit status; a process that hangs is killed, and is an error."""
    process.join(seconds)
    if process.is_alive():
        kill_group(process)
        raise AssertionError(f"{process}: hung for {seconds} s")
    return process.exitcode


def contents(folder: Path) -> dict[str, str]:
    """A hash of each file."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def whole(activity: Activity, folder: Path) -> dict[str, int]:
    """The inodes of the files that are whole, which stay the same where nothing is written again."""
    files = folder.iterdir() if folder.is_dir() else ()
    return {file.name: file.stat().st_ino for file in files if activity.is_whole(file)}


def passing(folder: Path) -> list[str]:
    """Names of temporary files and locks."""
    return sorted({file.name for pattern in PASSING for file in folder.glob(pattern)})


def check_next_start(activity: Activity, folder: Path, pictures: Path, log: Path, expected: dict[str, str]) -> None:
    """After whatever happened: the next start ends well, what was whole is the same file, nothing else is left."""
    before = whole(activity, folder)
    assert ended(begin(activity, folder, pictures, log)) == 0, log.read_text()
    after = whole(activity, folder)
    assert before.items() <= after.items(), f"{activity.name}: whole files were written again: {before} {after}"
    assert contents(folder) == expected, f"{activity.name}: {sorted(contents(folder))} instead of {sorted(expected)}"
    assert passing(folder) == []


def references(root: Path, pictures: Path) -> dict[str, tuple[dict[str, str], float]]:
    """For each activity what it ends in when nothing happens, and the seconds that it takes."""
    import time

    found = {}
    for activity in ACTIVITIES:
        start = time.monotonic()
        assert ended(begin(activity, root / activity.name, pictures, root / "log")) == 0, (root / "log").read_text()
        found[activity.name] = contents(root / activity.name), time.monotonic() - start
    return found
