import pytest
import torch

from cgan.training.loss_scaling import ScalerForEach
from cgan.training.trainer import plugins_of
from helpers.gan import fit, moved, tiny_gan


def test_an_overflow_of_one_player_leaves_the_other_ones_scale_and_steps_alone(tmp_path):
    gan, scaler = tiny_gan(mismatched_weight=1e30), ScalerForEach("cpu")
    before = {name: dict(network.named_parameters()) for name, network in gan.named_children()}
    before = {name: {n: p.detach().clone() for n, p in weights.items()} for name, weights in before.items()}
    fit(gan, tmp_path, max_steps=3, plugins=[scaler])
    generator, discriminator = (scaler.of(number).get_scale() for number in (0, 1))
    assert discriminator == 2.0**16 / 2**3 < generator
    assert moved(before["generator"], gan.generator) and not moved(before["discriminator"], gan.discriminator)


def test_a_checkpoint_brings_back_the_scales_of_both_players(tmp_path):
    scaler, path = ScalerForEach("cpu"), tmp_path / "last.ckpt"
    trainer = fit(tiny_gan(mismatched_weight=1e30), tmp_path, max_steps=3, plugins=[scaler])
    trainer.save_checkpoint(path)
    again = ScalerForEach("cpu")
    fit(tiny_gan(mismatched_weight=1e30), tmp_path, max_steps=4, ckpt_path=path, plugins=[again])
    assert again.of(1).get_scale() == 2.0**16 / 2**4


@pytest.mark.parametrize(("present", "device"), [(False, "cpu"), (True, "cuda")])
def test_the_scale_is_kept_where_the_training_takes_place(present, device, monkeypatch):
    made = []
    monkeypatch.setattr("cgan.training.trainer.torch.cuda.is_available", lambda: present)
    monkeypatch.setattr("cgan.training.trainer.ScalerForEach", made.append)
    plugins_of("16-mixed", several_gpus=False)
    assert made == [device]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_scale_on_a_gpu_is_of_the_gpu():
    assert ScalerForEach("cuda").of(1).scale(torch.ones(1, device="cuda")).device.type == "cuda"
