"""Small trainings as processes, and run directories as trainings leave them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from cgan.config import load_config
from cgan.training.run_directory import write_settings
from cgan.training.run_lock import HOLDER, MARK
from helpers import ROOT
from helpers.forked import Forked, state_of

NETWORKS = """data.num_images=64 data.resolution=32 gan.generator.width=4 gan.generator.max_channels=16
    gan.discriminator.width=4 joint.image.width=8 joint.decoder.width=4 joint.decoder.max_channels=16
    joint.decoder.hidden_dim=32 gan.adversarial_from=0 trainer.precision=32-true"""
TINY = f"""{NETWORKS} trainer.joint_images=128 trainer.joint_batch_size=32 trainer.batch_size=16
    trainer.joint_minutes=null trainer.minutes=null trainer.sample_every=96 trainer.evaluate_every=0
    trainer.checkpoint_every=48 trainer.wandb=disabled""".split()
EVALUATED = f"""{NETWORKS} trainer.joint_images=256 trainer.images=1600 trainer.batch_size=32 trainer.sample_every=800
    trainer.wandb=offline trainer.evaluate_every=800 trainer.evaluation_images=64""".split()

# ---------------------------------------------------------------------------------------------- processes


def environment_in(cwd: Path) -> dict[str, str]:
    """For a command in this folder: a cache of its own, no GPU, one thread."""
    environment = {**os.environ, "CGAN_CACHE": str(cwd / "cache"), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    environment.pop("WANDB_SERVICE", None)  # of a run in this process, which would hold on to the run's id
    return environment


def script(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    """train.py, sample.py or cgan/__main__.py, run to its end in another folder than the source tree."""
    process = Forked(ROOT / name, *arguments, cwd=cwd, environment=environment_in(cwd))
    status, stdout, stderr = ended(process)
    return subprocess.CompletedProcess([name, *arguments], status, stdout, stderr)


def fresh(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    """The same, by a new interpreter, which imports all that the script needs."""
    command = [sys.executable, str(ROOT / name), *arguments]
    settings = {"env": environment_in(cwd), "capture_output": True, "text": True, "timeout": 900}
    return subprocess.run(command, cwd=cwd, **settings)


def start(*arguments: str, cwd: Path) -> Forked:
    """train.py in a session of its own, so that all of its processes can be killed at once."""
    return Forked(ROOT / "train.py", *arguments, cwd=cwd, environment=environment_in(cwd))


def ended(process: Forked, timeout: float = 900) -> tuple[int, str, str]:
    """Status, stdout and stderr."""
    stdout, stderr = process.communicate(timeout=timeout)
    assert process.returncode is not None
    return process.returncode, stdout, stderr


def kill(process: Forked) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def killed_in_training(
    images: int, delay: float, *arguments: str, cwd: Path, kill: Callable[[int, int], None] = os.killpg
) -> None:
    """train.py, killed where it has stopped: so many seconds after its GAN has seen so many images."""
    moment = {"STOP_AFTER": str(images), "STOP_DELAY": str(delay)}
    program = ROOT / "tests/helpers/stopped.py"
    process = Forked(program, *arguments, cwd=cwd, environment=environment_in(cwd) | moment)
    while state_of(process.pid) != "T":
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    kill(process.pid, signal.SIGKILL)
    process.communicate()


def wait_for(paths: Path, pattern: str, process: Forked, seconds: float = 900) -> None:
    deadline = time.monotonic() + seconds
    while not list(paths.glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


# ---------------------------------------------------------------------------------------------- run directories

FOLDER = str(ROOT / "configs/gan/folder.yaml")
RUN_FILES = (
    "last.ckpt", "last-1.ckpt", "best.ckpt", "joint.safetensors", "metrics.csv", "progress.json", "wandb-id",
    "retrieval.json", "data.json", "config.yaml", "samples/images_000000064.png", "joint/metrics.csv", "wandb/run-1/x",
)  # fmt: skip


def settings(root: str, *more: str) -> list[str]:
    """Of a training on a folder of pictures."""
    return [FOLDER, f"data.root={root}", "data.resolution=32", *more]


def run_of(content: str, run_dir: Path = Path("r")) -> Path:
    """A directory with all that a training may leave."""
    for name in RUN_FILES:
        path = run_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}" if name.endswith(".json") else content)
    write_settings(load_config([]), run_dir)
    return run_dir


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {MARK, HOLDER}


def state(run: Path) -> dict:
    """The newest checkpoint of a run."""
    return torch.load(run / "last.ckpt", map_location="cpu", weights_only=True)
