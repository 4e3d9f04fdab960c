"""The disk of a run directory fills at random moments of a training; with more room the same command goes on.

    sudo python tests/stress/full_disk_training.py [ROUNDS] [SEED]

Each round mounts a small disk in memory (tmpfs), for which it must be root. The training must end with one line that
says that the disk is full, all that is under its name must be whole, and after the disk has grown the same command must
end well and leave no temporary file.
"""

import random
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[level]) for level in range(3)]

from kill_training import inventory, lost  # noqa: E402

from helpers.disks import small_disk  # noqa: E402
from helpers.runs import TINY, ended, start  # noqa: E402

ENOUGH = 256_000  # kB, for a whole training
SETTINGS = [*TINY, "trainer.images=480", "trainer.keep_checkpoints=3", "run_dir=disk/run", "resume=auto"]


def grow(folder: Path) -> None:
    subprocess.run(["mount", "-o", f"remount,size={ENOUGH}k", str(folder)], check=True)


def used(folder: Path) -> int:
    """kB that the files of a folder take."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) // 1024


def temporary_files(run: Path) -> list[Path]:
    return [path for path in run.rglob(".*.tmp")]


def one_round(folder: Path, kilobytes: int) -> str:
    """A training on a disk of this size, then on one that is large enough; returns what came of it."""
    run = folder / "disk" / "run"
    with small_disk(folder / "disk", 1024 * kilobytes):
        status, stdout, stderr = ended(start(*SETTINGS, cwd=folder))
        if status == 0:
            return "there was room enough"
        lines = stderr.splitlines()
        assert status == 1 and len(lines) == 1 and "the disk is full" in lines[0], (status, stdout, stderr)
        assert not temporary_files(run), temporary_files(run)
        before = inventory(run)
        grow(folder / "disk")
        status, _, stderr = ended(start(*SETTINGS, cwd=folder))
        assert status == 0 and not temporary_files(run), stderr
        assert not lost(before, inventory(run))
    return lines[0]


def main(rounds: int = 10, seed: int = 0) -> None:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        with small_disk(Path(name) / "disk", 1024 * ENOUGH):
            status, _, stderr = ended(start(*SETTINGS, cwd=Path(name)))
            assert status == 0, stderr
            whole = used(Path(name) / "disk")
        (Path(name) / "disk").rmdir()
        for number in range(rounds):
            kilobytes = max(4, round(chance.random() ** 3 * whole))
            result = one_round(Path(name), kilobytes)
            (Path(name) / "disk").rmdir()
            print(f"round {number + 1} of {rounds}, {kilobytes} of {whole} kB: {result}", flush=True)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
