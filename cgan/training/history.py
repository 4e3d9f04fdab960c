"""What a run logs, step by step: one row for each number of images seen, and none a second time after a resume."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from cgan.files import write_json

SEEN = "images_seen"


class History:
    """Collects all that is logged at one number of images seen into a row, and knows what has been sent before.

    A training that was killed goes on from its last checkpoint and logs the steps since then once more, with the same
    values. Those rows are left out, so that images_seen only grows. path: the file that notes what was sent, None for a
    run that is never resumed.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.sent_seen, self.sent_names = last_sent(path)
        self.seen, self.row = self.sent_seen, {}

    def add(self, values: Mapping[str, object]) -> dict[str, object]:
        """Adds values to the row of their images_seen, or of the last one; returns the row before, if that is ready."""
        seen = values.get(SEEN, self.seen)
        assert isinstance(seen, int | float)  # a count
        ready = self.take() if int(seen) != self.seen else {}
        self.seen = int(seen)
        self.row = {**self.row, **values}
        return ready

    def take(self) -> dict[str, object]:
        """Returns the row that has been collected, and starts a new one; empty if nothing of it is new."""
        row, self.row = self.row, {}
        if self.seen < self.sent_seen:
            return {}
        known = self.sent_names if self.seen == self.sent_seen else set()
        new = {name: value for name, value in row.items() if name != SEEN and name not in known}
        return {**new, SEEN: self.seen} if new else {}

    def note_sent(self, row: Mapping[str, object]) -> None:
        """Notes that a row of take() has been sent."""
        seen = row[SEEN]
        assert isinstance(seen, int)
        before = self.sent_names if seen == self.sent_seen else set()
        self.sent_seen, self.sent_names = seen, before | set(row)
        if self.path is not None:
            write_json(self.path, {SEEN: seen, "names": sorted(self.sent_names)})


def last_sent(path: Path | None) -> tuple[int, set[str]]:
    """Returns the images seen of the last row that was sent, and its names; -1 where nothing was sent."""
    with suppress(OSError, ValueError, KeyError, TypeError):  # a damaged file costs a repeated row at worst
        if path is not None:
            found = json.loads(path.read_text(encoding="utf-8"))
            return int(found[SEEN]), set(found["names"])
    return -1, set()
