"""Trainings on a pretrained text encoder: a tiny BERT in the place of MiniLM."""

import numpy as np
import pytest
import torch

from cgan import TextToImage, load_config, train
from cgan.data.scenes.dataset import Scenes
from cgan.interfaces import UserError
from cgan.models.joint import JointEncoder
from cgan.models.text.lstm import Vocabulary
from cgan.models.text.pretrained import PACKAGED, PackagedModel, PretrainedTextEncoder
from cgan.models.text.projected import ProjectedTextEncoder
from cgan.pixels import as_floats
from cgan.training.build import build_gan, build_joint
from helpers.language_models import install_tiny_minilm
from helpers.runs import TINY

MINILM = ["text.encoder=pretrained", "text.name=minilm", "joint.coattention_weight=0.5"]
CAPTION = "a small red dog on grass"


@pytest.fixture
def tiny_minilm(tmp_path, monkeypatch):
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    captions = [caption for i in range(8) for caption in Scenes(8, 32, cache=tmp_path).captions_of(i)]
    yield from install_tiny_minilm(tmp_path, captions, monkeypatch)


@pytest.mark.slow
def test_a_gan_on_a_projection_matches_words_and_samples_again_from_every_file(tiny_minilm):
    settings = ["trainer.images=32", "gan.matching=attention", "run_dir=r"]
    result = train(load_config([*TINY, *MINILM, *settings]))
    pipe = TextToImage.from_pretrained("r")
    assert pipe.spec["text"]["encoder"] == "projected" and pipe.text_encoder.dim == 128
    names = {name for name in pipe.tensors if name.startswith("text_encoder.")}
    assert names == {f"text_encoder.projection.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")}
    pipe.save("exported.safetensors")
    again = TextToImage.from_pretrained("exported.safetensors")
    assert np.array_equal(np.asarray(again(CAPTION)), np.asarray(pipe(CAPTION)))
    assert result.checkpoint.is_file()


@pytest.mark.slow
def test_a_projection_learns_which_caption_belongs_to_which_picture(tiny_minilm):
    settings = ["task=joint", "trainer.joint_images=3200", "joint.picture_weight=0", "run_dir=r"]
    train(load_config([*TINY, *MINILM, *settings, "joint.learning_rate=3e-3"]))
    joint, scenes = JointEncoder.load("r/joint.safetensors"), Scenes(64, 32)
    images = as_floats(torch.stack([scenes[i].image for i in range(32)]))
    captions = [max(scenes.captions_of(i), key=len) for i in range(32)]
    found = joint.scores(images, captions).argsort(dim=1, descending=True)[:, :5] == torch.arange(32)[:, None]
    assert found.any(dim=1).float().mean() > 0.5  # by chance 0.16
    assert joint.caption_decoder is not None and joint.captions_of(images[:1])[0]


def test_without_a_joint_encoder_that_projects_it_the_condition_is_the_encoder_itself(tiny_minilm):
    config = load_config([*TINY, *MINILM])
    gan = build_gan(config, joint=build_joint_with_lstm())
    assert isinstance(gan.text_encoder, PretrainedTextEncoder) and not gan.matching


def test_with_one_that_does_the_condition_and_the_matching_term_share_its_latent(tiny_minilm):

    config = load_config([*TINY, *MINILM])
    joint = build_joint(config, Vocabulary(["dog"]))
    gan = build_gan(config, joint)
    assert isinstance(gan.text_encoder, ProjectedTextEncoder) and gan.matching
    assert gan.generator(torch.zeros(1, config.gan.generator.noise_dim), gan.text_encoder([CAPTION])).shape[1] == 3


def build_joint_with_lstm() -> JointEncoder:

    config = load_config(TINY)
    return JointEncoder(config.joint, Vocabulary(["dog"]), config.data.resolution)


@pytest.mark.parametrize("task", ["gan", "joint"])
def test_a_missing_package_ends_a_training_before_it_begins(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PACKAGED, "minilm", PackagedModel("no_such_package", "model", PACKAGED["minilm"].hint))
    with pytest.raises(UserError, match="text.name=minilm: its package is not installed; pip install"):
        train(load_config([*TINY, *MINILM, f"task={task}", "run_dir=r"]))
    assert not (tmp_path / "r").exists()
