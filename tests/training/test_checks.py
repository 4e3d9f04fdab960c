"""What is wrong with a training is told before anything is decoded or trained."""

import pytest

from cgan.cli.train import main
from cgan.config import load_config
from cgan.errors import UserError
from cgan.resources import STARTER_JOINT
from cgan.training.callbacks.checkpointing import Checkpoints
from cgan.training.callbacks.health import CollapseSigns
from cgan.training.callbacks.samples import ReconstructionSheet, SampleGridCallback
from cgan.training.checks import check_batches, check_before_training
from helpers.gan import fit, tiny_gan

TINY = """data.resolution=32 gan.generator.width=4 gan.generator.max_channels=16 gan.discriminator.width=4
    joint.image.width=8 joint.decoder.width=4 joint.decoder.max_channels=16 joint.decoder.hidden_dim=32
    trainer.wandb=disabled""".split()


def check(*settings: str) -> None:
    check_before_training(load_config([*TINY, *settings]), print)


@pytest.mark.parametrize(
    "settings",
    [
        "init=nowhere.ckpt",
        "joint.checkpoint=nowhere.safetensors",
        "joint.clip=nowhere joint.encoders=clip",
        "joint.image.weights=nowhere.pth joint.image.network=resnet50",
        "text.name=./nowhere text.encoder=pretrained",
        "gan.discriminator.imagenet_weights=nowhere.pth gan.discriminator.features=imagenet",
        "gan.discriminator.imagenet_weights=nowhere.pth gan.discriminator.features=efficientnet",
        "gan.discriminator.dino=/nowhere gan.discriminator.features=dino",
        "trainer.inception=nowhere.pth",
        "trainer.clip=~/nowhere",
        "trainer.eval_joint_encoder=nowhere.safetensors",
    ],
)
def test_what_a_training_reads_has_to_be_there(settings):
    key, _, value = settings.split()[0].partition("=")
    with pytest.raises(UserError, match=f"{key}={value}: no such f") as error:
        check(*settings.split())
    assert "\n" not in str(error.value)


def test_nothing_is_decoded_where_init_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr("cgan.cli.signals.leave_when_asked", lambda: None)
    monkeypatch.setattr("cgan.training.run.build_dataset", lambda *_: pytest.fail("decoded"))
    with pytest.raises(UserError, match="init=nowhere.ckpt"):
        main([*TINY, f"run_dir={tmp_path / 'run'}", "init=nowhere.ckpt"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ("text.name=/nowhere", "text.encoder=joint"),
        ("task=joint init=nowhere.ckpt", "task=joint"),
        ("task=joint joint.checkpoint=nowhere", "task=joint"),
        ("trainer.eval_joint_encoder=nowhere trainer.evaluate_every=0", "trainer.evaluate_every=0"),
        ("joint.clip=nowhere", "joint.encoders=own"),
    ],
)
def test_what_is_not_read_is_told(settings, why, capsys):
    check(*settings.split())
    assert f"is not read: {why}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("gan.generator.latent_prior=couplings gan.generator.noise_dim=1", "noise_dim=1"),
        ("gan.generator.word_attention=true gan.generator.patch=4", "no network can be built"),
        (f"gan.matching=attention joint.checkpoint={STARTER_JOINT}", "co-attention"),
        ("joint.text.dim=64", "must be equal"),
        (f"init={STARTER_JOINT.with_name('scenes-64.safetensors')}", "its generator is another one"),
    ],
)
def test_networks_are_tried_without_pictures(settings, said):
    with pytest.raises(UserError, match=said) as error:
        check(*settings.split())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("trainer.devices=1000", "trainer.devices=1000"),
        ("trainer.devices=two", "trainer.devices=two"),
        ("trainer.num_nodes=2 trainer.batch_size=3", "trainer.batch_size=3"),
        ("trainer.num_nodes=2 trainer.joint_batch_size=3", "trainer.joint_batch_size=3"),
        ("trainer.num_nodes=8 data.num_images=4", "4 pictures are too few for 8 processes"),
        ("gan.accumulate=3 trainer.batch_size=32", "trainer.batch_size=32"),
    ],
)
def test_batches_are_shared_out_before_anything_is_drawn(settings, said):
    with pytest.raises(UserError, match=said):
        check(*settings.split())


def test_fewer_pictures_than_processes_are_one_line():
    config = load_config([*TINY, "data.source=folder", "data.root=.", "trainer.num_nodes=2"])
    check_batches(config, num_images=2)
    with pytest.raises(UserError, match="1 pictures are too few for 2 processes"):
        check_batches(config, num_images=1)


def test_a_cadence_of_0_draws_and_writes_nothing_on_the_way(tmp_path):
    grid, signs = SampleGridCallback(tmp_path / "samples", ["a dog"], 8, 0), CollapseSigns("hinge", 0)
    signs.check_diversity = lambda *_: pytest.fail("compared")
    fit(tiny_gan(), tmp_path, max_steps=2, callbacks=[grid, signs, Checkpoints(tmp_path, 0, 1)])
    assert not (tmp_path / "samples").exists() and not list(tmp_path.glob("*.ckpt"))


def test_a_cadence_of_0_draws_no_sheets(tmp_path):
    sheet = ReconstructionSheet(tmp_path, 0, [])
    sheet.write = lambda *_: pytest.fail("drawn")
    fit(tiny_gan(), tmp_path, max_steps=2, callbacks=[sheet])
    sheet_often = ReconstructionSheet(tmp_path, 1, [])
    drawn = []
    sheet_often.write = lambda *_: drawn.append(1)
    fit(tiny_gan(), tmp_path, max_steps=2, callbacks=[sheet_often])
    assert len(drawn) == 3
