"""kill -9 at random moments of drawing, decoding and preparing: of all processes, and of a single worker.

    PYTHONPATH=. python tests/stress/kill_data.py [ROUNDS] [SEED]

Each round (default: 20) kills each activity twice. After all processes were killed, the next start must end in the same
bytes, with no temporary file left. After a worker was killed, the activity must end with one line, and leave none.
"""

import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from activities import (
    ACTIVITIES,
    Activity,
    begin,
    check_next_start,
    ended,
    kill_group,
    make_pictures,
    passing,
    references,
    workers_of,
)


def kill_all(activity: Activity, folder: Path, pictures: Path, log: Path, moment: float) -> str:
    process = begin(activity, folder, pictures, log)
    time.sleep(moment)
    was_running = process.is_alive()
    kill_group(process)
    return f"{'killed' if was_running else 'ended before'}, left {passing(folder) if folder.is_dir() else 'nothing'}"


def kill_worker(activity: Activity, folder: Path, pictures: Path, log: Path, moment: float) -> str:
    """Kill the first worker at a moment after it was started."""
    process = begin(activity, folder, pictures, log)
    while not (workers := workers_of(process)) and process.is_alive():
        time.sleep(0.005)
    time.sleep(moment / 2)
    try:
        os.kill(workers[0], signal.SIGKILL)
    except (IndexError, ProcessLookupError):
        assert ended(process) == 0, log.read_text()
        return "ended before"
    status, lines = ended(process), log.read_text().splitlines()
    said = len(lines) == 1 and lines[0].startswith("error: a worker was killed, out of memory perhaps")
    assert (status == 1 and said) or (status == 0 and not lines), (status, lines)  # 0: it had nothing left to do
    assert passing(folder) == [], passing(folder)
    return f"status {status}"


def main(rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as root:
        root = Path(root)
        pictures = make_pictures(root / "pictures")
        expected = references(root, pictures)
        for number in range(rounds):
            for activity in ACTIVITIES:
                result, seconds = expected[activity.name]
                for kill in (kill_all, kill_worker):
                    folder = root / f"{number}-{activity.name}-{kill.__name__}"
                    moment = chance.uniform(0, seconds)
                    what = kill(activity, folder, pictures, root / "log", moment)
                    check_next_start(activity, folder, pictures, root / "log", result)
                    when = f"{number} {activity.name}, {kill.__name__} at {moment:.2f} of {seconds:.2f} s"
                    print(f"{when}: {what}; whole again", flush=True)


if __name__ == "__main__":
    main(*[int(argument) for argument in [*sys.argv[1:], *["20", "0"][len(sys.argv) - 1 :]]])
