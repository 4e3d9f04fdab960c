"""One training at a time writes into a run directory, and each finds the one that is its own."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cgan.config import load_config
from cgan.errors import FirstProcessReports
from cgan.files import Busy
from cgan.interfaces import UserError
from cgan.training.resume import chosen_run
from cgan.training.run import train
from cgan.training.run_directory import patience_of, taken, write_settings
from cgan.training.run_lock import (
    found_by_first,
    give_back,
    holder,
    is_under_way,
    take,
    take_new,
    wait_for_first,
)
from helpers import ROOT
from helpers.runs import files_in, run_of, settings

pytestmark = pytest.mark.usefixtures("place")


# ---------------------------------------------------------------------------------------------- one writer


def test_a_second_training_ends_with_one_line_and_touches_nothing():
    run, lock = run_of("first"), take(Path("r"))
    before = {name: (run / name).stat().st_mtime_ns for name in files_in(run)}
    config = load_config(settings("nowhere", "run_dir=r"))
    with pytest.raises(Busy, match=r"^r: another training is under way in it \(process \d+ on .*\); wait") as caught:
        train(config)
    assert "\n" not in str(caught.value)
    assert {name: (run / name).stat().st_mtime_ns for name in files_in(run)} == before
    give_back(run, lock)
    with pytest.raises(UserError, match="no such folder"):  # now its own mistake is found
        train(config)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["resume=r"], ["resume=auto", "run_dir=r"], ["resume=auto"]])
def test_a_run_under_way_is_not_gone_on_with(arguments):
    run = run_of("first", Path("runs/scenes-1") if arguments == ["resume=auto"] else Path("r"))
    lock = take(run)
    with pytest.raises(Busy, match="another training is under way"):
        train(load_config(arguments))
    give_back(run, lock)


def test_a_lock_is_free_when_its_process_has_been_killed_even_if_it_has_forked():
    code = """if True:
        import os, sys, time
        from pathlib import Path
        from cgan.training.run_lock import take
        lock = take(Path("r"))
        if os.fork() == 0:
            print("taken, and forked", flush=True)
        time.sleep(600)"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=-1, text=True, env=environment, start_new_session=True
    ) as p:
        assert p.stdout.readline() == "taken, and forked\n"
        with pytest.raises(Busy, match=rf"process {p.pid} on"):
            take(Path("r"), patience=0.0)
        p.kill()
        p.wait()
        give_back(Path("r"), take(Path("r"), patience=0.0))
        os.killpg(p.pid, 9)


def test_new_runs_that_begin_at_once_have_directories_of_their_own():
    found = []
    threads = [threading.Thread(target=lambda: found.append(take_new(Path("runs/a")))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(str(path) for path, _ in found) == ["runs/a", *(f"runs/a-{i}" for i in range(2, 6))]
    for path, lock in found:
        give_back(path, lock)


def test_a_directory_in_which_nothing_was_written_is_used_again_and_a_run_is_not():
    first, lock = take_new(Path("runs/a"))
    give_back(first, lock)
    again, lock = take_new(Path("runs/a"))
    give_back(again, lock)
    run_of("first", first)
    other, lock = take_new(Path("runs/a"))
    give_back(other, lock)
    assert (str(first), str(again), str(other)) == ("runs/a", "runs/a", "runs/a-2")


def test_a_mistake_leaves_no_new_directory_behind():
    config = load_config(settings("nowhere"))
    with pytest.raises(UserError, match="no such folder"):
        train(config)
    assert list(Path("runs").iterdir()) == []


def test_in_one_job_each_training_has_a_directory_and_finds_it_again(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "77")

    def chosen(*arguments: str) -> Path:
        arguments = ["trainer.images=64", *arguments]
        config, run_dir = chosen_run(load_config(arguments), "20261126-120000")
        with taken(config, run_dir) as run_dir:
            write_settings(config, run_dir)
            return run_dir

    assert [str(chosen(f"seed={seed}")) for seed in (1, 2)] == ["runs/scenes-77", "runs/scenes-77-2"]
    for seed, end in ((1, ""), (2, "-2"), (3, "-3")):  # as a requeued job does, and with one more
        assert str(chosen(f"seed={seed}", "resume=auto")) == f"runs/scenes-77{end}"


def test_in_a_job_the_runs_of_others_that_are_under_way_are_passed_over(monkeypatch):
    run = run_of("first", Path("runs/scenes-76"))
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    config = load_config(["resume=auto"])
    assert chosen_run(config, "now")[1] == run  # what an earlier job left
    lock = take(run)
    monkeypatch.setattr("cgan.training.run_lock.ALONE", "another process")
    assert chosen_run(config, "now")[1] == Path("runs/scenes-77")
    give_back(run, lock)


# ---------------------------------------------------------------------------------------------- several processes


def test_the_other_processes_of_a_training_go_on_and_those_of_a_refused_one_end(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "one")
    lock = take(Path("r"))
    wait_for_first(Path("r"), seconds=0.0)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "two")
    with pytest.raises(FirstProcessReports):
        wait_for_first(Path("r"), seconds=0.0)
    give_back(Path("r"), lock)
    wait_for_first(Path("r"), seconds=0.0)


def test_the_other_processes_of_a_job_find_the_directory_of_the_first(monkeypatch):
    for name, value in (("SLURM_NTASKS", "2"), ("SLURM_PROCID", "1"), ("SLURM_JOB_ID", "7"), ("SLURM_STEP_ID", "0")):
        monkeypatch.setenv(name, value)
    run_of("of another step", Path("runs/scenes-7"))
    run_dir, lock = take_new(Path("runs/scenes-7"))
    assert found_by_first("runs/scenes-*", seconds=1.0) == run_dir == Path("runs/scenes-7-2")
    monkeypatch.setenv("SLURM_STEP_ID", "1")
    with pytest.raises(UserError, match="the first process has taken no directory"):
        found_by_first("runs/scenes-*", seconds=0.1)
    give_back(run_dir, lock)


def test_processes_that_lightning_starts_know_the_directory_of_the_first(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    config = load_config(["trainer.devices=2"])
    with taken(config, Path("runs/a")) as run_dir:
        assert os.environ["CGAN_RUN_DIR"] == str(run_dir) and holder(run_dir)["launch"] == os.environ["CGAN_LAUNCH"]
        (run_dir / "config.yaml").touch()
    assert "CGAN_RUN_DIR" not in os.environ and "CGAN_LAUNCH" not in os.environ and not is_under_way(run_dir)


def test_a_job_that_goes_on_waits_for_the_lock_of_a_node_that_has_died(monkeypatch):
    assert patience_of(load_config(["resume=r"])) < 5
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    assert patience_of(load_config(["resume=r"])) > 90 and patience_of(load_config([])) < 5
