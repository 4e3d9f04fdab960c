"""metrics.csv: rows that stay, rows that are added, and a disk that is full."""

import csv
import os

import pytest
import torch

from cgan.files import CannotWrite
from cgan.training.metrics_file import MetricsFile
from helpers.disks import full_disk


def rows(path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(newline="")))


def written(path, num: int, first: int = 0, num_rows: int = 0, **more: float) -> MetricsFile:
    log = MetricsFile(path, num_rows)
    for step in range(first, first + num):
        log.log_metrics({"loss": torch.tensor(step / 2), **more}, step)
    log.finalize("success")
    return log


def test_rows_and_columns_that_come_later_are_all_there(tmp_path):
    path = tmp_path / "joint" / "metrics.csv"
    log = written(path, 7)
    log.log_metrics({"accuracy": 0.5}, 7)
    log.write()
    assert [row["step"] for row in rows(path)] == list("01234567") and log.num_rows == 8
    assert [row["loss"] for row in rows(path)[:3]] == ["0.0", "0.5", "1.0"]
    assert rows(path)[7] == {"accuracy": "0.5", "loss": "", "step": "7"} and not list(path.parent.glob(".*"))


def test_a_training_that_goes_on_keeps_the_rows_up_to_its_checkpoint(tmp_path):
    path = tmp_path / "metrics.csv"
    written(path, 9, old=1.0)
    with path.open("a") as file:
        file.write("1.0,3")  # of a killed process
    log = written(path, 2, first=5, num_rows=5)
    assert [row["step"] for row in rows(path)] == list("0123456") and log.num_rows == 7
    assert [row["old"] for row in rows(path)] == ["1.0"] * 5 + [""] * 2


def test_a_new_training_keeps_nothing(tmp_path):
    written(tmp_path / "metrics.csv", 9)
    written(tmp_path / "metrics.csv", 1)
    assert len(rows(tmp_path / "metrics.csv")) == 1


@pytest.mark.parametrize("column", ["loss", "new"])
def test_a_full_disk_leaves_the_rows_that_are_there(column, tmp_path):
    path = tmp_path / "metrics.csv"
    log = written(path, 9)
    before = path.read_bytes()
    for step in range(9, 12):
        log.log_metrics({column: 1.0}, step)
    with (
        full_disk(len(before) + 3),
        pytest.raises(CannotWrite, match=r"metrics.csv can't be written: the disk is full"),
    ):
        log.write()
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["metrics.csv"]
    log.write()
    assert len(rows(path)) == 12


def test_the_first_rows_are_not_lost_while_the_file_is_written_anew(tmp_path):
    path = tmp_path / "metrics.csv"
    written(path, 9)
    before = path.read_bytes()
    MetricsFile(path, num_rows=0)
    MetricsFile(path, num_rows=5).write()
    assert path.read_bytes() == before  # until there is something to write


def test_rows_wait_for_each_other_a_few_seconds(tmp_path, monkeypatch):
    now, path = [0.0], tmp_path / "metrics.csv"
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    log, seen = MetricsFile(path), []
    for step in range(8):
        now[0] = 2.0 * step
        log.log_metrics({"loss": 1.0}, step)
        log.save()  # as Lightning calls it after each row
        seen.append(len(rows(path)))
    assert seen == [1, 1, 1, 4, 4, 4, 7, 7]
    log.finalize("success")
    assert len(rows(path)) == 8
