import json

import pytest
import torch
from safetensors import safe_open

from cgan.interfaces import UserError
from cgan.models.encoders.resnet import ImageEncoderConfig
from cgan.models.joint import JointConfig, JointEncoder
from cgan.models.text import restore_text_encoder
from cgan.models.text.lstm import LSTMConfig, Vocabulary
from cgan.models.text.pretrained import PACKAGED, PackagedModel, PretrainedTextEncoder
from cgan.models.text.projected import ProjectedTextEncoder
from helpers.language_models import install_tiny_minilm

CAPTIONS = ["a dog", "a big red dog on the grass", "cat"]


@pytest.fixture
def encoder(tmp_path, monkeypatch):
    for _ in install_tiny_minilm(tmp_path, CAPTIONS, monkeypatch):
        yield ProjectedTextEncoder(PretrainedTextEncoder("minilm"), 8)


def joint_on(encoder: ProjectedTextEncoder, coattention_weight: float = 0.5) -> JointEncoder:
    image = ImageEncoderConfig(width=4, embedding_dim=8)
    config = JointConfig(image=image, text=LSTMConfig(dim=8), coattention_weight=coattention_weight)
    return JointEncoder(config, Vocabulary.of(CAPTIONS), 32, text_encoder=encoder).eval()


def test_features_have_the_shapes_of_the_contract(encoder):
    text = encoder(CAPTIONS)
    assert text.sentence.shape == (3, 8) and text.words.shape == (3, 7, 8) and encoder.dim == 8
    assert text.mask.sum(dim=1).tolist() == [2, 7, 1]


def test_only_the_projection_is_weights_and_only_it_learns(encoder):
    assert set(encoder.state_dict()) == {
        f"projection.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")
    }
    encoder(CAPTIONS).sentence.sum().backward()
    assert all(weight.grad is not None for weight in encoder.parameters())
    assert all(weight.grad is None for weight in encoder.frozen.held[0].parameters())


def test_words_lie_in_the_latent_of_sentences(encoder):
    text = encoder(["cat", "a dog"])
    assert torch.allclose(text.words[0, 0], text.sentence[0], atol=1e-5)  # a sentence of one word is the word
    assert not torch.allclose(text.words[1, 0], text.sentence[1], atol=1e-2)


def test_spec_restores_it_with_its_weights(encoder):
    restored = restore_text_encoder(json.loads(json.dumps(encoder.spec())))
    restored.load_state_dict(encoder.state_dict())
    assert torch.equal(restored(CAPTIONS).sentence, encoder(CAPTIONS).sentence)


@pytest.mark.parametrize("coattention_weight", [0.0, 0.5])
def test_a_joint_encoder_on_it_is_saved_without_the_language_model_and_scores_alike(
    encoder, coattention_weight, tmp_path
):
    joint, images = joint_on(encoder, coattention_weight), torch.rand(4, 3, 32, 32) * 2 - 1
    joint.save(tmp_path / "joint.safetensors")
    with safe_open(tmp_path / "joint.safetensors", "pt") as file:
        assert {name for name in file.keys() if name.startswith("text.")} == {
            f"text.{name}" for name in encoder.state_dict()
        }
    again = JointEncoder.load(tmp_path / "joint.safetensors")
    assert torch.equal(again.scores(images, CAPTIONS), joint.scores(images, CAPTIONS))
    assert again.scores(images, CAPTIONS).shape == (4, 3)


def test_a_joint_encoder_whose_package_is_missing_is_one_line(encoder, tmp_path, monkeypatch):
    joint_on(encoder).save(tmp_path / "joint.safetensors")
    monkeypatch.setitem(PACKAGED, "minilm", PackagedModel("no_such_package", "model", PACKAGED["minilm"].hint))
    with pytest.raises(UserError, match="text.name=minilm: its package is not installed; pip install"):
        JointEncoder.load(tmp_path / "joint.safetensors")
