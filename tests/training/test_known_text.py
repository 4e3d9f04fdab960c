"""Text features that are encoded before a training and looked up in its steps."""

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from cgan.config import load_config
from cgan.data.caption_table import CaptionTable
from cgan.data.scenes.dataset import Scenes
from cgan.interfaces import Batch, TextEncoder, TextFeatures
from cgan.models.text.lstm import LSTMConfig, LSTMTextEncoder, Vocabulary
from cgan.training import known_text
from cgan.training.known_text import Limits, caption_table, encode_all, is_worth_keeping, text_of
from cgan.training.run import train

CPU = torch.device("cpu")
TINY = """data.resolution=32 gan.generator.noise_dim=8 gan.generator.width=4 gan.generator.max_channels=16
    gan.discriminator.width=4 gan.discriminator.max_channels=16 gan.discriminator.head_dim=8 gan.matching_weight=0
    gan.discriminator.form=trunk gan.reconstruction_weight=0 data.num_images=16 trainer.images=64 trainer.batch_size=16
    trainer.evaluate_every=0 trainer.sample_every=0 trainer.wandb=disabled trainer.precision=32-true""".split()


class Letters(TextEncoder):
    """A user's own encoder, of captions alone: its words stand at the right, behind padding."""

    dim = 8

    def __init__(self) -> None:
        super().__init__()
        self.table, self.asked = nn.Embedding(256, 8), []

    def forward(self, captions: list[str]) -> TextFeatures:
        self.asked += captions
        longest, device = max(len(caption.split()) for caption in captions), self.table.weight.device
        words = torch.zeros(len(captions), longest, 8, device=device)
        mask = torch.zeros(len(captions), longest, dtype=torch.bool, device=device)
        for i, caption in enumerate(captions):
            ids = torch.tensor([ord(word[0]) % 256 for word in caption.split()], device=device)
            words[i, longest - len(ids) :], mask[i, longest - len(ids) :] = self.table(ids), True
        return TextFeatures(words.sum(dim=1), words, mask)

    def unknown_words(self, captions: list[str]) -> list[str]:
        return []

    def spec(self) -> dict:
        return {"encoder": "letters"}


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> CaptionTable:
    return CaptionTable.of(Scenes(16, 32, cache=tmp_path_factory.mktemp("cache")))


def encoder_of(kind: str, table: CaptionTable) -> TextEncoder:
    torch.manual_seed(0)
    own = (
        Letters() if kind == "own" else LSTMTextEncoder(LSTMConfig(dim=16, embedding_dim=8), Vocabulary.of(table.texts))
    )
    return own.eval().requires_grad_(False)


@pytest.mark.parametrize("kind", ["own", "lstm"])
@pytest.mark.parametrize("at_once", [7, 1000])
def test_features_that_are_looked_up_are_those_of_the_encoder(kind, at_once, table, monkeypatch):
    monkeypatch.setattr(known_text, "AT_ONCE", at_once)
    encoder, rows = encoder_of(kind, table), torch.tensor([3, 40, 0, 3, len(table.texts) - 1])
    with torch.autocast("cpu", torch.bfloat16):  # no less exact within a step of half precision
        known = encode_all(encoder, table.texts, CPU, True, print)
    found, direct = known.at(rows), encoder([table.texts[row] for row in rows])
    assert torch.allclose(found.sentence, direct.sentence, atol=1e-5)
    assert torch.equal(found.mask.sum(dim=1), direct.mask.sum(dim=1))
    assert torch.allclose(found.words[found.mask], direct.words[direct.mask], atol=1e-5)
    assert not found.words[~found.mask].any()


def test_shapes_of_features_are_the_same_for_every_batch(table):
    longest = max(len(text.split()) for text in table.texts)
    known = encode_all(encoder_of("own", table), table.texts, CPU, True, print)
    assert {known.at(torch.tensor([row])).words.shape for row in range(len(table.texts))} == {(1, longest, 8)}


def test_words_are_left_out_where_nothing_uses_them(table):
    known = encode_all(encoder_of("lstm", table), table.texts, CPU, False, print)
    text = known.at(torch.tensor([1, 2]))
    assert text.sentence.shape == (2, 16) and text.words.shape == (2, 0, 16) and text.mask.shape == (2, 0)
    assert known.words.numel() == 0


def test_encoding_twice_gives_the_same_bits(table):
    first, second = (encode_all(encoder_of("lstm", table), table.texts, CPU, True, print) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize(("patience", "expected"), [(-1.0, 1), (1000.0, 0)])
def test_what_takes_long_is_said_once(patience, expected, table, monkeypatch):
    monkeypatch.setattr(known_text, "PATIENCE", patience)
    monkeypatch.setattr(known_text, "AT_ONCE", 8)
    messages = []
    encode_all(encoder_of("own", table), table.texts, CPU, False, messages.append)
    assert len(messages) == expected and all(f"encoding {len(table.texts)} captions once" in x for x in messages)


def test_features_are_kept_where_they_are_few_and_no_more_work_than_the_training(table):
    encoder, count, words = encoder_of("lstm", table), len(table.texts), sum(len(x.split()) + 1 for x in table.texts)

    def worth(with_words=True, num_images=count, num_bytes=2**20, products=1e12) -> bool:
        return is_worth_keeping(table, encoder, with_words, num_images, Limits(num_bytes, products))

    assert worth() and not worth(num_images=count - 1)
    sentences, all_words = 4 * 16 * count, 4 * 16 * words
    assert worth(False, num_bytes=sentences) and not worth(False, num_bytes=sentences - 1)
    assert worth(num_bytes=sentences + all_words) and not worth(num_bytes=sentences + all_words - 1)
    products = words * (2 * 4 * 8 * (8 + 8 + 2) + 16 * 16 + 16)  # of the LSTM's gates both ways, and of the projection
    assert worth(products=products) and not worth(products=products - 1)


def test_a_training_that_sees_few_pictures_reads_no_captions_ahead(tmp_path):
    scenes = Scenes(16, 32, cache=tmp_path)
    assert caption_table(scenes, 15) is None and not scenes.captions
    assert len(caption_table(scenes, 16).texts) > 16


def test_an_own_encoder_computes_where_its_weights_are():
    text = Letters().to("meta")(["a red dog", "a cat"])
    assert {x.device.type for x in text} == {"meta"}


def test_captions_without_a_row_are_encoded_directly(table):
    encoder = encoder_of("own", table)
    known = encode_all(encoder, table.texts, CPU, True, print)
    text = text_of(Batch(torch.zeros(1, 3, 32, 32), ["a zebra"], torch.zeros(1)), encoder, known)
    assert torch.equal(text.sentence, encoder(["a zebra"]).sentence)


class Sentences(pl.Callback):
    """The captions and the generator's sentences of each step."""

    def __init__(self) -> None:
        self.captions: list[str] = []
        self.sentences: list[Tensor] = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        self.captions += batch.captions
        self.sentences += module.prepare(batch)[0].text.sentence.cpu()


@pytest.mark.parametrize("more", [[], ["trainer.images=15", "trainer.batch_size=5"]])
def test_a_training_encodes_each_caption_of_an_own_encoder_once(more, tmp_path, monkeypatch):
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path / "cache"))
    encoder, seen = Letters(), Sentences()
    train(load_config([*TINY, "trainer.images=96", f"run_dir={tmp_path / 'run'}", *more]), None, encoder, [seen])
    asked = list(encoder.cpu().asked)
    for caption, sentence in zip(seen.captions, seen.sentences, strict=True):
        assert torch.allclose(sentence, encoder([caption]).sentence[0], atol=1e-5)
    if more:  # fewer images than pictures: nothing is encoded ahead
        assert len(asked) >= 2 * len(seen.captions)
    else:
        assert len(asked) == len(set(asked)) and len(seen.captions) == 96
