import json
import random
import re

import pytest
import torch

from cgan import TextToImage
from cgan.data.scenes.dataset import Scenes
from cgan.models.text.lstm import LSTMConfig, LSTMTextEncoder, Vocabulary, split_words
from helpers import ROOT
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
        ("一只红色的狗，在草地上。", list("一只红色的狗在草地上")),
        ("3只DOG在20米外", ["3", "只", "dog", "在", "20", "米", "外"]),
        ("人々がコーヒーを飲む・〇", list("人々がコーヒーを飲む〇")),
        ("か\u3099ﾊﾟ", ["が", "ﾊﾟ"]),
        ("강아지가 잔디 위에", list("강아지가잔디위에")),
        ("\u1100\u1161\u11a8아지", ["각", "아", "지"]),  # letters that NFC joins to a syllable
        ("ㅋㅋㅋ 고양이", ["ㅋㅋㅋ", "고", "양", "이"]),
        ("神\ufe00社 \U00020000\U000e0100", ["神", "社", "\U00020000"]),
        ("STRASSE Straße ΣΊΣΥΦΟΣ", ["strasse", "strasse", "σίσυφοσ"]),
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


CHINESE = ["一只狗在草地上", "雪地上有一只小小的黑猫", "dog 狗"]


def test_a_vocabulary_of_chinese_knows_captions_that_no_training_held():
    vocabulary = Vocabulary.of(CHINESE)
    ids = vocabulary.encode("草地上有一只黑狗")
    assert 1 not in ids and vocabulary.decode(ids) == "草地上有一只黑狗"
    assert vocabulary.decode(vocabulary.encode("dog 狗 dog")) == "dog 狗 dog"


def test_an_encoder_restored_from_an_older_file_splits_as_it_was_trained():
    spec = {
        "encoder": "lstm",
        "config": {"dim": 16},
        "words": ["一只狗在草地上", "straße", "ﬁn"],
    }  # without `splitting`
    encoder = LSTMTextEncoder.from_spec(spec)
    assert encoder.vocabulary.encode("一只狗在草地上 Straße ﬁn") == [2, 3, 4]
    assert encoder.unknown_words(["一只猫"]) == ["一只猫"]
    assert encoder.spec()["splitting"] == "spaces" and encoder.vocabulary.decode([2, 3]) == "一只狗在草地上 straße"
    again = LSTMTextEncoder.from_spec(json.loads(json.dumps(encoder.spec())))
    assert again.vocabulary.splitting == "spaces"
    assert Vocabulary.of(CHINESE).splitting == "characters"


def test_both_rules_split_ascii_alike():
    rng = random.Random(0)
    for _ in range(300):
        caption = "".join(rng.choices("abcXYZ019_ -.,;:!?\"()'\n", k=20))
        assert split_words(caption, "spaces") == split_words(caption, "characters")


@pytest.mark.parametrize("name", ["scenes-64", "scenes-two-64"])
def test_the_starter_weights_encode_captions_with_the_ids_that_they_were_trained_on(name):
    encoder = TextToImage.from_pretrained(ROOT / "assets" / f"{name}.safetensors").text_encoder
    assert isinstance(encoder, LSTMTextEncoder) and encoder.vocabulary.splitting == "spaces"
    words = {word: i for i, word in enumerate(encoder.vocabulary.words, start=2)}
    for caption in ["A small red dog, on grass!", "the cat's in the snow", "un café à droite", "a 狗 at night"]:
        assert encoder.vocabulary.encode(caption) == [words.get(word, 1) for word in split_at_spaces(caption)]


def split_at_spaces(caption: str) -> list[str]:
    """As before the characters of Chinese became words, written once more."""
    text = "".join(c if c.isalnum() or c in "_'" else " " for c in caption.lower())
    return [word.strip("'") for word in text.split()]
