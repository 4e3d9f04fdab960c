import json

import pytest
import torch
import transformers

from cgan.interfaces import UserError
from cgan.models.text import restore_text_encoder
from cgan.models.text.pretrained import PretrainedTextEncoder
from helpers.clip import save_clip

CAPTIONS = ["a dog", "a big red dog on the grass", "cat"]


def save_word_model(folder, kind):
    words = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *" ".join(CAPTIONS).split()])}
    words = {word: i for i, word in enumerate(words)}
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder)
    if kind == "t5":
        config = transformers.T5Config(vocab_size=len(words), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
        transformers.T5EncoderModel(config).save_pretrained(folder)
    else:
        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        transformers.BertModel(transformers.BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder)


@pytest.fixture(scope="module", params=["clip", "t5", "bert"])
def folder(request, tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp(request.param)
    save_clip(path) if request.param == "clip" else save_word_model(path, request.param)
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
