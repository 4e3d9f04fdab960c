"""The project's own text encoder: a bidirectional LSTM over a vocabulary of its own."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from cgan.interfaces import TextEncoder, TextFeatures

PADDING, UNKNOWN = 0, 1


def split_words(caption: str) -> list[str]:
    """Lower-case words of a caption, punctuation left out."""
    return re.findall(r"[\w']+", caption.lower())


class Vocabulary:
    """Words to numbers; 0 is padding and 1 stands for every unknown word."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = list(words)
        self.index = {word: i for i, word in enumerate(self.words, start=2)}

    @classmethod
    def of(cls, captions: Iterable[str], max_size: int = 20_000) -> "Vocabulary":
        """The most frequent words of captions."""
        counts = Counter(word for caption in captions for word in split_words(caption))
        return cls(word for word, _ in counts.most_common(max_size))

    def __len__(self) -> int:
        return len(self.words) + 2

    def encode(self, caption: str) -> list[int]:
        return [self.index.get(word, UNKNOWN) for word in split_words(caption)] or [UNKNOWN]

    def decode(self, numbers: Iterable[int]) -> str:
        """Words of numbers, padding left out."""
        return " ".join(self.words[number - 2] for number in numbers if number >= 2)


@dataclass
class LSTMConfig:
    dim: int = 128  # D
    embedding_dim: int = 64
    max_words: int = 32
    word_dropout: float = 0.02  # share of words read as unknown in training, so that an unknown word means something


class LSTMTextEncoder(TextEncoder):
    """Words in both directions; the sentence is the largest of each feature over the words."""

    def __init__(self, config: LSTMConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.config, self.vocabulary, self.dim = config, vocabulary, config.dim
        self.embedding = nn.Embedding(len(vocabulary), config.embedding_dim, padding_idx=PADDING)
        self.lstm = nn.LSTM(config.embedding_dim, config.dim // 2, batch_first=True, bidirectional=True)
        self.sentence = nn.Linear(config.dim, config.dim)

    def forward(self, captions: list[str]) -> TextFeatures:
        ids, lengths = self.tokenize(captions)
        mask = ids != PADDING  # (B, L)
        if self.training:
            ids = ids.masked_fill(self.dropped(ids) & mask, UNKNOWN)
        packed = pack_padded_sequence(self.embedding(ids), lengths, batch_first=True, enforce_sorted=False)
        words, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)  # (B, L, D)
        largest = words.masked_fill(~mask[:, :, None], float("-inf")).amax(dim=1)
        return TextFeatures(self.sentence(largest), words, mask)

    def dropped(self, ids: Tensor) -> Tensor:
        """Which words are read as unknown, (B, L) bool: the same ones however many processes share the batch."""
        from cgan.processes import largest, random_rows  # with Lightning, which drawing does without

        longest = largest(ids.shape[1], ids.device)  # of the whole batch
        chance = random_rows(torch.rand, len(ids), longest, device=ids.device)
        return chance[:, : ids.shape[1]] < self.config.word_dropout

    def tokenize(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Word numbers (B, L) on the encoder's device, and lengths (B,) on the CPU, where packing wants them."""
        rows = [torch.tensor(self.vocabulary.encode(caption)[: self.config.max_words]) for caption in captions]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PADDING)
        return ids.to(self.embedding.weight.device), torch.tensor([len(row) for row in rows])

    def unknown_words(self, captions: list[str]) -> list[str]:
        words = (word for caption in captions for word in split_words(caption))
        return list(dict.fromkeys(word for word in words if word not in self.vocabulary.index))

    def spec(self) -> dict:
        return {"encoder": "lstm", "config": asdict(self.config), "words": self.vocabulary.words}

    @classmethod
    def from_spec(cls, spec: dict) -> "LSTMTextEncoder":
        return cls(LSTMConfig(**spec["config"]), Vocabulary(spec["words"]))
