"""Several processes train as one: real ones, over gloo."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


def train_in(processes: int, folder: Path) -> list[dict]:
    """What each process found: the gradients of each player's steps, and the weights at the end."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tests/two_processes.py"), str(processes), str(folder)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return [torch.load(folder / f"{processes}-{rank}.pt", weights_only=True) for rank in range(processes)]


def flat(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([value.flatten() for value in tensors.values() if value.is_floating_point()])


@pytest.mark.slow
def test_two_processes_give_the_gradients_and_the_weights_of_one(tmp_path):
    (alone,), (first, second) = train_in(1, tmp_path), train_in(2, tmp_path)
    assert len(alone["gradients"]) == len(first["gradients"]) == 6  # of both players, three steps each
    for one, two in zip(alone["gradients"], first["gradients"], strict=True):
        assert one.keys() == two.keys() and len(one) > 20
        assert (flat(one) - flat(two)).norm() < 1e-5 * flat(one).norm()
    away = (flat(alone["weights"]) - flat(first["weights"])).abs()
    assert (away > 1e-5).float().mean() < 1e-4 and away.max() < 1e-3  # Adam makes a step of any gradient's rounding
    assert all(torch.equal(value, second["weights"][name]) for name, value in first["weights"].items())
