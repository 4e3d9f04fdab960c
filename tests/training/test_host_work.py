"""A training step needs nothing of the host: no value of a tensor, and no tensor that is made there."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from cgan.config import GANConfig
from cgan.data.caption_table import CaptionTable
from cgan.data.loading import Reading, endless_loader
from cgan.data.scenes.dataset import Scenes
from cgan.models.coattention import CoAttention
from cgan.models.encoders.resnet import SmallResNet
from cgan.models.joint import JointConfig, JointEncoder
from cgan.models.text.lstm import LSTMConfig, LSTMTextEncoder, Vocabulary
from cgan.training.adaptive import EVERY, HeldOut
from cgan.training.callbacks.captions import EncodeCaptions
from cgan.training.callbacks.seeding import SeededSteps
from cgan.training.gan import TextToImageGAN
from cgan.training.joint import JointTraining
from helpers.host_work import HostWork
from helpers.recipes import on_joint_features

CONFIGS = on_joint_features()
FIRST = next(iter(CONFIGS.values()))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Scenes:
    return Scenes(8, 32, cache=tmp_path_factory.mktemp("cache"))


def gan_of(settings: GANConfig, scenes: Scenes) -> TextToImageGAN:
    """The networks of a configuration in small, on encoders that nobody trained."""
    text = LSTMTextEncoder(LSTMConfig(dim=16, embedding_dim=8), Vocabulary.of(CaptionTable.of(scenes).texts))
    return TextToImageGAN(
        settings, text, SmallResNet(width=4, embedding_dim=16), 32, coattention=CoAttention(16, 16, 16)
    )


def work_of_steps(module: pl.LightningModule, loader, folder: Path, callbacks: list, monkeypatch) -> list[str]:
    """What training steps by Lightning ask of the host, but for the first one: there loggers begin their records."""
    work, step = HostWork(), module.training_step

    def watched(*arguments):
        with work if trainer.global_step > 0 else nullcontext():
            return step(*arguments)

    monkeypatch.setattr(module, "training_step", watched)
    trainer = pl.Trainer(
        max_steps=3, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=folder,
        enable_checkpointing=False, enable_model_summary=False, callbacks=[SeededSteps(0), *callbacks],
    )  # fmt: skip
    trainer.fit(module, loader)
    assert trainer.global_step == 3
    return sorted(set(work.found))


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_of_a_shipped_recipe_needs_nothing_of_the_host(name, scenes, tmp_path, monkeypatch):
    table, gan = CaptionTable.of(scenes), gan_of(CONFIGS[name], scenes)
    loader = endless_loader(scenes, 4, 0, reading=Reading(table))
    assert not work_of_steps(gan, loader, tmp_path, [EncodeCaptions(table.texts, print)], monkeypatch)


def test_neither_does_it_where_captions_are_too_many_to_keep(scenes, tmp_path, monkeypatch):
    gan = gan_of(FIRST, scenes)
    loader = endless_loader(scenes, 4, 0, reading=Reading(None, gan.text_encoder.make_tokenizer()))
    assert work_of_steps(gan, loader, tmp_path, [], monkeypatch) == []


def test_neither_does_adaptive_augmentation_nor_do_changed_pictures(scenes, tmp_path, monkeypatch):
    scores, pictures = ["colour", "translation", "cutout"], ["flip", "translation", "crop", "colour"]
    config = replace(FIRST, adaptive_augmentation=True, augmentation=scores, picture_augmentation=pictures)
    gan = gan_of(config, scenes)
    images = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8)
    gan.adaptive.held_out, gan.adaptive.num_steps = HeldOut(images, torch.randn(6, 16)), EVERY - 2
    loader = endless_loader(scenes, 4, 0, reading=Reading(None, gan.text_encoder.make_tokenizer()))
    assert work_of_steps(gan, loader, tmp_path, [], monkeypatch) == []
    assert gan.adaptive.num_steps == EVERY + 1  # so that there was a change in a step that was watched


@pytest.mark.parametrize("negatives", ["all", "hardest", "semihard", "weighted"])
def test_a_step_of_the_joint_encoder_needs_nothing_of_the_host(negatives, scenes, tmp_path, monkeypatch):
    config = JointConfig(negatives=negatives, coattention_weight=0.5)
    joint = JointEncoder(config, Vocabulary.of(CaptionTable.of(scenes).texts), 32)
    reading = Reading(None, joint.text.make_tokenizer(), joint.make_word_tokenizer())
    module = JointTraining(joint, ["flip", "translation", "crop", "colour"])
    assert work_of_steps(module, endless_loader(scenes, 4, 0, reading=reading), tmp_path, [], monkeypatch) == []


def test_what_needs_the_host_is_found():
    with HostWork() as work:
        x = torch.tensor(1.0)
        float(x), x.cpu(), x.numpy(), bool(x > 0)
        torch.ones(2)[torch.ones(2) > 0]
    assert {"tensor", "cpu", "numpy", "_local_scalar_dense"} <= {found.split()[0] for found in work.found}
