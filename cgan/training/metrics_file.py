"""metrics.csv of a training, by Lightning's interface of loggers; Lightning's own CSVLogger deletes what it finds."""

import csv
import io
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from cgan.files import cannot_write, write_text

MOST_WAITING = 5  # rows that are not on the disk yet
Row = dict[str, object]


class MetricsFile(Logger):
    """A column for each metric, a row for each time that something is logged; the first num_rows that are there stay.

    Rows are appended all or none. A new column means a new file, which takes the place of the one before when it is
    whole. Only the first process writes; it raises CannotWrite where the disk is full.
    """

    def __init__(self, path: Path, num_rows: int = 0) -> None:
        super().__init__()
        self.path, self.num_rows = path, num_rows
        self.waiting: list[Row] = []
        self.names: list[str] | None = None  # of the columns; None until this training has written

    @property
    def name(self) -> str:
        """The name of the file without its suffix."""
        return self.path.stem

    @property
    def version(self) -> str:
        """Empty: a run directory has one file of metrics."""
        return ""

    @property
    def save_dir(self) -> str:
        """The folder of the file."""
        return str(self.path.parent)

    def log_hyperparams(self, *_, **__) -> None:
        """No-op: settings are in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float | Tensor], step: int | None = None) -> None:
        """Add a row; it is on the disk after save(), or once MOST_WAITING rows wait. Raises CannotWrite."""
        row = {name: value if isinstance(value, float | int) else value.item() for name, value in metrics.items()}
        self.waiting.append({**row, "step": self.num_rows if step is None else step})
        self.num_rows += 1
        if len(self.waiting) >= MOST_WAITING:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Put the rows that wait on the disk."""
        if not self.waiting:
            return
        found = set().union(*self.waiting)
        if self.names is not None and found <= set(self.names) and self.path.exists():
            append(self.path, as_csv(self.names, self.waiting))
        else:
            kept_names, kept = read_rows(self.path, self.num_rows - len(self.waiting))
            self.names = sorted(found | set(kept_names))
            write_text(self.path, as_csv(self.names, [*kept, *self.waiting], header=True))
            self.num_rows = len(kept) + len(self.waiting)
        self.waiting = []

    def finalize(self, status: str) -> None:
        """Writes the waiting rows at the end of a training; raises CannotWrite."""
        self.save()


def read_rows(path: Path, num_rows: int) -> tuple[list[str], list[Row]]:
    """Returns the columns of a metrics.csv and its first rows; fewer where it has fewer, or where a line is cut."""
    if num_rows <= 0 or not path.exists():
        return [], []
    lines = path.read_bytes().decode("utf-8", errors="replace").splitlines(keepends=True)
    reader = csv.DictReader(line for line in lines if line.endswith("\n"))
    rows: list[Row] = [dict(row) for row in reader if None not in row and None not in row.values()]
    return list(reader.fieldnames or ()), rows[:num_rows]


def as_csv(names: list[str], rows: Iterable[Row], header: bool = False) -> str:
    """Returns rows as CSV text with the columns of names; a row without one of them leaves its cell empty."""
    content = io.StringIO(newline="")
    writer = csv.DictWriter(content, names)
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return content.getvalue()


def append(path: Path, content: str) -> None:
    """Append a text, down to the disk, or with CannotWrite nothing of it."""
    try:
        with path.open("ab", buffering=0) as file:
            size, left = file.seek(0, os.SEEK_END), content.encode()
            try:
                while left:
                    left = left[file.write(left) :]
                os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):
                    file.truncate(size)
                raise
    except OSError as error:
        raise cannot_write(path, error) from error
