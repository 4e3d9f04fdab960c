"""What a run logs to W&B, step by step: one row for each number of images seen, and none a second time."""

import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

SEEN = "images_seen"


class History:
    """Collects all that is logged at one number of images seen into a row.

    first: the least images_seen of a row that W&B lacks. A training that was killed goes on from its last checkpoint
    and logs the steps since then once more, with the same values; those rows are left out: images_seen only grows.
    """

    def __init__(self, first: int = 0) -> None:
        self.first, self.seen = first, 0
        self.row: dict[str, object] = {}

    def add(self, values: Mapping[str, object]) -> dict[str, object]:
        """Adds values to the row of their images_seen, or of the last one; returns the row before, if that is ready."""
        seen = values.get(SEEN, self.seen)
        assert isinstance(seen, int | float)  # a count
        ready = self.take() if int(seen) > self.seen else {}
        self.seen = max(self.seen, int(seen))
        self.row = {**self.row, **values}
        return ready

    def take(self) -> dict[str, object]:
        """Returns the collected row, and starts a new one; empty where W&B has it, or where it has no values."""
        row, self.row = self.row, {}
        return {**row, SEEN: self.seen} if row.keys() - {SEEN} and self.seen >= self.first else {}


def first_missing(last: int, num_images: int) -> int:
    """Returns the least images_seen of a row to send to a W&B run that has rows up to `last`, -1 for none.

    A training that goes on after num_images may log more at that very number: an evaluation that a signal interrupted.
    """
    return last if last == num_images else last + 1


def last_on_disk(folder: Path, run_id: str) -> int:
    """Returns the last images_seen in the files of a W&B run, which lie in a folder; -1 where there is none.

    wandb keeps the newest rows in memory for a while, so a machine that fails takes some of them with it.
    """
    runs = sorted(folder.glob(f"*run-*-{run_id}"), key=lambda path: path.name.rpartition("run-")[2])  # by their times
    for path in reversed(runs):
        found = images_seen_in(path)
        if found:
            return max(found)
    return -1


def images_seen_in(run: Path) -> list[int]:
    """Returns images_seen of each row in the folder of a W&B run, by wandb's own reader; none where that fails."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(run)]
    found = []
    with suppress(OSError, subprocess.SubprocessError):
        output = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL).stdout
        for line in output.splitlines():
            with suppress(ValueError, KeyError, TypeError):  # other kinds of records
                found.append(int(json.loads(line)["history"]["item"][SEEN]))
    return found
