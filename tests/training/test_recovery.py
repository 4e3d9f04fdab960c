"""Trainings that are killed, stopped, short of disk, or fed with nonsense: real ones, as python train.py."""

import csv
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from helpers.forked import cpu_seconds
from helpers.runs import TINY, ended, killed_in_training, start, state, wait_for

TIMED = "images_per_second", "data_wait"


def test_forked_workers_die_by_a_signal_that_the_training_would_take():
    program = """
import os, signal
from cgan.cli.signals import leave_when_asked
leave_when_asked()
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    os.write(writing, b"ready")
    while True:
        signal.pause()
os.read(reading, 5)
os.kill(child, signal.SIGTERM)
assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


def images_in(run: Path) -> int:
    return int(state(run)["images_seen"]) if (run / "last.ckpt").exists() else 0


def losses(run: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv, but for what a clock says."""
    rows = csv.DictReader((run / "metrics.csv").open())
    return [{name: value for name, value in row.items() if name not in TIMED and value} for row in rows]


def assert_same(one: object, two: object, place: str = "") -> None:
    """Two checkpoints, to the last bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two), place
    elif isinstance(one, dict):
        assert one.keys() == two.keys(), place
        for name in one:
            assert_same(one[name], two[name], f"{place}/{name}")
    elif isinstance(one, list):
        for number, pair in enumerate(zip(one, two, strict=True)):
            assert_same(*pair, f"{place}/{number}")
    else:
        assert one == two, place


def killed_again_and_again(folder: Path, devices: int, num_kills: int, images: int, seed: int) -> None:
    """A run in run_dir=killed that kill -9 ends num_kills times, each time some steps on, and that is resumed."""
    chance, run = random.Random(seed), folder / "killed"
    arguments = [*TINY, f"trainer.images={images}", f"trainer.devices={devices}"]
    for attempt in range(num_kills + 1):
        before = images_in(run)
        resumed = ["--resume", "killed"] if attempt else [*arguments, "run_dir=killed"]
        if attempt == num_kills:
            status, _, stderr = ended(start(*resumed, cwd=folder))
            assert status == 0, stderr
            continue
        goal = min(before + 16 * chance.randint(3, 12), images - 48) if attempt else 0  # before the first checkpoint
        killed_in_training(goal, chance.uniform(0, 0.1), *resumed, cwd=folder)
        assert images_in(run) >= before, "a checkpoint is lost"
        assert images_in(run) < images, "it was killed too late"


@pytest.mark.slow
def test_a_run_of_two_processes_killed_twice_ends_as_if_never_stopped(tmp_path):
    whole = start(*TINY, "trainer.images=640", "trainer.devices=2", "run_dir=whole", cwd=tmp_path)
    status, _, stderr = ended(whole)
    assert status == 0, stderr
    killed_again_and_again(tmp_path, devices=2, num_kills=2, images=640, seed=0)
    one, two = (state(tmp_path / name) for name in ("whole", "killed"))
    assert one["global_step"] == two["global_step"] == 40
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert_same(one[part], two[part], part)
    assert losses(tmp_path / "whole") == losses(tmp_path / "killed")
    grids = [sorted((tmp_path / name / "samples").glob("*.png")) for name in ("whole", "killed")]
    assert [path.name for path in grids[0]] == [path.name for path in grids[1]]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(*grids, strict=True))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> tuple[Path, float, tuple[int, str, str]]:
    """A folder with a run, in the middle of which SIGTERM came; what it computed until its end, and what it left."""
    folder = tmp_path_factory.mktemp("stopped")
    process = start(*TINY, "trainer.images=1000000", "run_dir=run", cwd=folder)
    wait_for(folder / "run", "last-1.ckpt", process)
    begin, deadline = cpu_seconds(process.pid), time.monotonic() + 300
    last = begin
    process.send_signal(signal.SIGTERM)
    while process.poll() is None:
        assert time.monotonic() < deadline
        last = max(last, cpu_seconds(process.pid))
        time.sleep(0.02)
    return folder, last - begin, ended(process)


@pytest.mark.slow
def test_sigterm_leaves_a_checkpoint_and_the_status_to_requeue_on_within_ten_seconds_of_a_core(stopped):
    folder, seconds, (status, stdout, stderr) = stopped
    assert status == 75 and seconds < 10 and "cgan train --resume run" in stdout and "Traceback" not in stderr
    assert (folder / "run/last.ckpt").stat().st_mtime > (folder / "run/last-1.ckpt").stat().st_mtime


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes_until_it_is_finished(stopped):
    folder, _, _ = stopped
    (folder / "run/last.ckpt").write_bytes(b"")
    steps = torch.load(folder / "run/last-1.ckpt", weights_only=True)["global_step"]
    images = 16 * (steps + 6)
    settings = ["resume=auto", "run_dir=run", f"trainer.images={images}", "trainer.devices=2"]
    status, stdout, stderr = ended(start(*TINY, *settings, cwd=folder))
    assert status == 0, stderr
    assert "run/last.ckpt is damaged (it is empty); passed over" in stdout
    assert f"going on from run/last-1.ckpt, after {16 * steps:,} images" in stdout
    assert f"trainer.images: {images} from now on, 1000000 before" in stdout
    assert images_in(folder / "run") == images
    status, stdout, stderr = ended(start("--resume", "run", cwd=folder))
    assert status == 0 and stdout.splitlines() == [
        "run is finished; more of it: cgan train --resume run trainer.images=..."
    ]
    status, stdout, stderr = ended(start("--resume", "run", "gan.learning_rate=1", cwd=folder))
    assert status == 1 and "gan.learning_rate can't change on the way" in stderr


@pytest.mark.slow
def test_sigterm_in_the_joint_stage_starts_that_stage_again(tmp_path):
    process = start(*TINY, "trainer.joint_images=1000000", "trainer.images=64", "run_dir=run", cwd=tmp_path)
    wait_for(tmp_path / "run", "joint/metrics.csv", process)  # which the first steps have been logged to
    process.send_signal(signal.SIGTERM)
    status, stdout, stderr = ended(process)
    assert status == 75 and "the joint encoder starts again" in stdout, stderr
    assert not (tmp_path / "run/joint.safetensors").exists()
    status, _, stderr = ended(start("--resume", "run", "trainer.joint_images=64", cwd=tmp_path))
    assert status == 0 and images_in(tmp_path / "run") == 64, stderr
