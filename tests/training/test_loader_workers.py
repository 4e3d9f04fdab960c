import os
import shutil
from types import SimpleNamespace

import pytest
import torch

from cgan.config import load_config
from cgan.data.scenes.dataset import Scenes
from cgan.interfaces import UserError
from cgan.training import loader_workers
from cgan.training.loader_workers import device_of_pictures, num_readers
from cgan.training.run import train


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


def test_light_work_needs_no_readers(gpu_machine):
    assert num_readers(None, 3 * 10**6, 1, light=True) == 0 and num_readers(2, 3 * 10**6, 1, light=True) == 2


# ------------------------------------------------------------------------------------------ where pictures lie


@pytest.fixture
def scenes(tmp_path) -> Scenes:
    """Of 3 x 32 x 32 bytes each, 12,288 in all."""
    return Scenes(4, 32, cache=tmp_path)


@pytest.mark.parametrize(("free", "fits"), [(4 * 12_288, True), (4 * 12_288 - 4, False)])
def test_pictures_lie_on_a_gpu_where_they_take_a_quarter_of_its_free_memory(free, fits, scenes, monkeypatch):
    monkeypatch.setattr(loader_workers, "free_memory", lambda device: free)
    cuda = torch.device("cuda", 1)
    assert device_of_pictures("auto", scenes, cuda) == (cuda if fits else None)
    assert device_of_pictures("never", scenes, cuda) is None and device_of_pictures("always", scenes, cuda) == cuda


def test_pictures_stay_in_their_map_where_there_is_no_gpu(scenes):
    cpu = torch.device("cpu")
    assert device_of_pictures("auto", scenes, cpu) is None and device_of_pictures("always", scenes, cpu) == cpu


def test_pictures_that_are_made_when_asked_for_can_not_lie_on_a_device(scenes):
    samples, cuda = [scenes[0]], torch.device("cuda")
    assert device_of_pictures("auto", samples, cuda) is None
    with pytest.raises(UserError, match="pictures_on_device=always: the pictures of shards"):
        device_of_pictures("always", samples, cuda)


SMALL = """data.resolution=32 data.num_images=24 gan.generator.noise_dim=8 gan.generator.width=4 joint.image.width=4
    gan.generator.max_channels=16 gan.discriminator.width=4 gan.discriminator.max_channels=16
    gan.discriminator.head_dim=8 joint.image.embedding_dim=16 joint.text.dim=16 joint.decoder.width=4
    trainer.joint_images=48 trainer.joint_batch_size=24 trainer.images=96 trainer.batch_size=8 trainer.evaluate_every=0
    trainer.sample_every=0 trainer.wandb=disabled trainer.precision=32-true""".split()


@pytest.mark.slow
def test_a_training_is_the_same_bit_for_bit_wherever_its_pictures_lie(tmp_path, monkeypatch):
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path / "cache"))
    weights, messages = {}, []
    for choice in ("never", "always"):
        more = [f"trainer.pictures_on_device={choice}", f"run_dir={tmp_path / choice}"]
        result = train(load_config([*SMALL, *more]), report=messages.append)
        weights[choice] = torch.load(result.checkpoint, weights_only=True)["state_dict"]
    assert sum("the pictures lie on cpu: 0 MB" in message for message in messages) == 2  # of both stages
    assert all(torch.equal(value, weights["always"][name]) for name, value in weights["never"].items())
