import json
import random
import re

import pytest
import torch

from cgan.data.scenes.dataset import Scenes
from cgan.models.text.lstm import LSTMConfig, LSTMTextEncoder, Vocabulary, split_words
from helpers.host_work import HostWork

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


@pytest.mark.parametrize("half", [False, True])
def test_tokens_are_encoded_like_captions_without_the_host(half, encoder):
    captions = [*CAPTIONS, "dog " * 100, "", "zebra"]
    expected, tokens = encoder(captions), encoder.make_tokenizer()(captions)
    with torch.autocast("cpu", torch.bfloat16, enabled=half), HostWork() as work:
        text = encoder.encode_tokens(tokens)
    assert not work.found and torch.equal(text.mask, expected.mask)
    assert torch.allclose(text.sentence, expected.sentence, atol=1e-6)
    assert torch.allclose(text.words, expected.words, atol=1e-6)


def test_tokens_give_the_gradients_of_captions(encoder):
    gradients = []
    for text in (encoder(CAPTIONS), encoder.encode_tokens(encoder.make_tokenizer()(CAPTIONS))):
        loss = text.sentence.square().sum() + (text.words * text.mask[:, :, None]).sin().sum()
        gradients.append(torch.autograd.grad(loss, list(encoder.parameters())))
    assert len(gradients[0]) == 11
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(*gradients, strict=True))


def test_training_drops_the_same_words_of_tokens_and_of_captions(encoder):
    encoder.config.word_dropout = 0.5
    seen = []
    encoder.embedding.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for read in (encoder, lambda captions: encoder.encode_tokens(encoder.make_tokenizer()(captions))):
        torch.manual_seed(1)
        encoder.train()
        read(CAPTIONS)
    assert torch.equal(*seen) and (seen[0] == 1).any()


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


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("लाल कुत्ता।", ["लाल", "कुत्ता"]),
        ("หมาสีแดง", ["หมาสีแดง"]),
        ("cafe\u0301, CAFÉ", ["café", "café"]),
        ("the word 'dog', the dogs'", ["the", "word", "dog", "the", "dogs"]),
        ("the dog\u2019s \u2018tail\u2019", ["the", "dog's", "tail"]),
        ("it's ''", ["it's"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("\u2764\ufe0f a dog \U0001f468\u200d\U0001f469", ["a", "dog"]),
        ("\U0001f436\U0001f333", []),
        ("Ein_Käfer, 3½ 虫!", ["ein_käfer", "3½", "虫"]),
    ],
)
def test_words_of_any_script_stay_whole(caption, words):
    assert split_words(caption) == words


def test_plain_english_is_split_as_ever():
    rng = random.Random(0)
    for _ in range(300):
        caption = "".join(rng.choices("abcXYZ019_ -.,;:!?\"()'\n", k=20))
        before = [word.strip("'") for word in re.findall(r"[\w']+", caption.lower())]
        assert split_words(caption) == [word for word in before if word]


def test_scenes_are_split_as_ever(tmp_path):
    captions = {caption for sample in Scenes(50, 32, cache=tmp_path) for caption in sample.captions}
    assert all(split_words(caption) == re.findall(r"[\w']+", caption.lower()) for caption in captions)


def test_a_caption_without_a_word_counts_as_an_unknown_word(encoder):
    assert encoder.unknown_words(["\U0001f436\U0001f333", "a dog", "", " "]) == ["\U0001f436\U0001f333"]


def test_captions_without_a_word_are_counted_when_a_vocabulary_is_made():
    vocabulary = Vocabulary.of(["a dog", "\U0001f436", "?!", "a cat"])
    assert vocabulary.words == ["a", "dog", "cat"] and vocabulary.wordless == (2, 4, "\U0001f436")
    assert vocabulary.wordless.warning().startswith("2 of 4 captions hold no word (such as '\U0001f436')")
    assert Vocabulary.of(CAPTIONS).wordless.warning() == ""
