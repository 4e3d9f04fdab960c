import json

import pytest
import torch

from cgan.text.lstm import LSTMConfig, LSTMTextEncoder, Vocabulary

CAPTIONS = ["A small red dog on grass.", "a cat", "on the sand, there is a big blue car"]


@pytest.fixture
def encoder() -> LSTMTextEncoder:
    torch.manual_seed(0)
    return LSTMTextEncoder(LSTMConfig(dim=16, embedding_dim=8), Vocabulary.of(CAPTIONS)).eval()


def test_features_have_the_shapes_of_the_contract(encoder):
    text = encoder(CAPTIONS)
    assert text.sentence.shape == (3, 16) and text.words.shape == (3, 9, 16)
    assert text.mask.sum(dim=1).tolist() == [6, 2, 9]


def test_padding_does_not_change_a_sentence(encoder):
    alone, together = encoder(["a cat"]), encoder(CAPTIONS)
    assert torch.allclose(alone.sentence[0], together.sentence[1], atol=1e-6)
    assert torch.allclose(alone.words[0], together.words[1, :2], atol=1e-6)


def test_case_and_punctuation_do_not_change_a_sentence(encoder):
    assert torch.equal(encoder(["A CAT!"]).sentence, encoder(["a cat"]).sentence)


def test_word_order_changes_a_sentence(encoder):
    first, second = encoder(["red car blue dog", "blue car red dog"]).sentence
    assert not torch.allclose(first, second)


def test_unknown_words_are_named_once_and_encode_all_the_same(encoder):
    assert encoder.unknown_words(["a zebra and a dog", "zebra"]) == ["zebra", "and"]
    assert torch.isfinite(encoder(["zebra", ""]).sentence).all()


def test_an_encoder_built_from_its_spec_reads_alike(encoder):
    twin = LSTMTextEncoder.from_spec(json.loads(json.dumps(encoder.spec()))).eval()
    twin.load_state_dict(encoder.state_dict())
    assert torch.equal(twin(CAPTIONS).sentence, encoder(CAPTIONS).sentence)


def test_a_long_caption_is_cut(encoder):
    assert encoder(["dog " * 100]).words.shape[1] == 32
