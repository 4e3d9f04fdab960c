"""The disk is full at random moments of drawing, decoding and preparing.

    PYTHONPATH=. python tests/stress/full_disk.py [ROUNDS] [SEED]

As root, on a small tmpfs that something else fills meanwhile; otherwise by a limit to the size of files. Each activity
must end with one line that names the full disk, and leave no temporary file; the next start, on a disk with room, must
end in the same bytes, and write nothing again that was whole. Default: 10 rounds.
"""

import os
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from activities import (  # noqa: E402
    ACTIVITIES,
    Activity,
    begin,
    check_next_start,
    ended,
    make_pictures,
    passing,
    references,
)

from helpers.disks import small_disk  # noqa: E402

SIZE = 40_000_000  # bytes of the small disk


def fill(file: Path) -> None:
    """Take all that is free, and what becomes free for a moment."""
    with file.open("ab") as content:
        for size in (1_000_000, 4096, 1):
            try:
                while True:
                    os.write(content.fileno(), bytes(size))
            except OSError:
                pass


def fill_meanwhile(activity: Activity, folder: Path, pictures: Path, log: Path, moment: float) -> int:
    """Run an activity on a disk that is filled at a moment; returns its status."""
    process = begin(activity, folder, pictures, log)
    time.sleep(moment)
    fill(folder.parent / "filler")
    return ended(process)


def limit_files(activity: Activity, folder: Path, pictures: Path, log: Path, share: float) -> int:
    """Run an activity that may write files of a share of its largest file's size at most; returns its status."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = max(file.stat().st_size for file in (pictures.parent / activity.name).iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(200, int(share * largest)), before[1]))
    try:
        process = begin(activity, folder, pictures, log)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    return ended(process)


def check_said(activity: Activity, status: int, folder: Path, log: Path) -> str:
    """What the activity said: nothing where it had ended before, otherwise one line about the disk."""
    lines = log.read_text().splitlines()
    assert not folder.is_dir() or passing(folder) == [], passing(folder)
    if status == 0:
        return "ended before"
    assert status == 1 and len(lines) == 1 and "the disk is full" in lines[0], (activity.name, status, lines)
    assert activity.name == "preparing" or "CGAN_CACHE" in lines[0], lines
    return lines[0]


def main(rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as root:
        root = Path(root)
        pictures = make_pictures(root / "pictures")
        expected = references(root, pictures)
        for number in range(rounds):
            for activity in ACTIVITIES:
                result, seconds = expected[activity.name]
                moment = chance.uniform(0, seconds)
                what = one_round(activity, root, pictures, moment, seconds, result)
                print(f"{number} {activity.name} at {moment:.2f} of {seconds:.2f} s: {what}; whole again", flush=True)


def one_round(activity: Activity, root: Path, pictures: Path, moment: float, seconds: float, result: dict) -> str:
    place, log = Path(tempfile.mkdtemp(dir=root)), root / "log"
    if os.geteuid() != 0:
        folder = place / "out"
        what = check_said(activity, limit_files(activity, folder, pictures, log, moment / seconds), folder, log)
        check_next_start(activity, folder, pictures, log, result)
        return what
    with small_disk(place / "disk", SIZE):
        folder = place / "disk" / "out"
        status = fill_meanwhile(activity, folder, pictures, log, moment)
        what = check_said(activity, status, folder, log)
        (folder.parent / "filler").unlink()
        check_next_start(activity, folder, pictures, log, result)
    return what


if __name__ == "__main__":
    main(*[int(argument) for argument in [*sys.argv[1:], *["10", "0"][len(sys.argv) - 1 :]]])
