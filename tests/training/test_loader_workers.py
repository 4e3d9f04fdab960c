import os
import shutil
from types import SimpleNamespace

import pytest
import torch

from cgan.training.loader_workers import num_readers


@pytest.fixture
def gpu_machine(monkeypatch) -> None:
    """With 16 cores and 1 GB of shared memory."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)


@pytest.mark.parametrize(("num_trainers", "expected"), [(1, 8), (4, 3), (16, 0)])
def test_readers_share_the_cores_that_training_leaves(num_trainers, expected, gpu_machine):
    assert num_readers(None, 3 * 10**6, num_trainers) == expected


def test_slurm_gives_each_process_its_cores(gpu_machine, monkeypatch):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "6")
    assert num_readers(None, 3 * 10**6, 4) == 5


@pytest.mark.parametrize(("free", "expected"), [(64 * 2**20, 0), (300 * 10**6, 3)])
def test_small_shared_memory_is_not_overrun(free, expected, gpu_machine, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert num_readers(None, 25 * 10**6, 1) == expected


@pytest.mark.parametrize("given", [0, 12])
def test_a_number_that_is_given_stays(given, gpu_machine):
    assert num_readers(given, 10**12, 4) == given


def test_without_a_gpu_the_process_that_trains_reads(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert num_readers(None, 1, 1) == 0
