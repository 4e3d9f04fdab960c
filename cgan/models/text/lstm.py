"""The project's own text encoder: a bidirectional LSTM with its own vocabulary."""

import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from cgan.interfaces import TextEncoder, TextFeatures, Tokens
from cgan.models.float32 import in_float32
from cgan.sharding import sharded_rand

# cuDNN would have both directions in one piece of memory; `encode_tokens` runs them one by one
warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk")

PADDING, UNKNOWN = 0, 1
LETTER = re.compile(r"\w")
APOSTROPHES = str.maketrans({"\u2019": "'", "\u02bc": "'", "\uff07": "'"})
JOINERS = "\u200c\u200d"  # between letters, as Persian and Hindi have them
Splitting = Literal["spaces", "characters"]
HAN = "\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
KANA = "\u3041-\u309f\u30a1-\u30ff\u31f0-\u31ff\uff66-\uff9d\U0001aff0-\U0001b16f"
HANGUL = "\uac00-\ud7a3"  # syllables
VOICED = "\u3099\u309a\uff9e\uff9f"  # marks that follow a kana
ALONE = re.compile(f"[{HAN}{KANA}{HANGUL}][{VOICED}]*")
NO_SPACE = re.compile(rf"(?<=[{HAN}{KANA}{HANGUL}{VOICED}]) (?=[{HAN}{KANA}{HANGUL}])")


def split_words(caption: str, splitting: Splitting = "characters") -> list[str]:
    """Returns the words of a caption in NFC and one case, without punctuation; an apostrophe within a word is kept.

    Letters of any script keep their marks, such as the vowel signs of Hindi and Thai. With "characters", cases are
    folded, and each character of Chinese and Japanese is a word, for these have no spaces. So is each syllable of
    Korean: its particles are written on the noun, and the same noun would be many words. With "spaces", the rule of
    older vocabularies, letters are lower-cased and words of every script lie between spaces. Both agree on ASCII.
    """
    text = caption.lower()
    if not text.isascii():
        if splitting == "characters":
            text = unicodedata.normalize("NFC", caption).casefold()
        text = unicodedata.normalize("NFC", text).translate(APOSTROPHES)
        text = "".join(letter if belongs_to_word(letter) else " " for letter in text)
        if splitting == "characters":
            text = ALONE.sub(r" \g<0> ", text)
    pieces = re.findall(r"[\w']+", text) if text.isascii() else text.split()
    words = (piece.strip(f"'{JOINERS}") for piece in pieces)
    return [word for word in words if LETTER.search(word)]


def belongs_to_word(letter: str) -> bool:
    """Returns whether a character is a letter, digit, apostrophe, joiner or a combining mark of one."""
    if letter in JOINERS or letter == "'" or LETTER.match(letter):
        return True
    return unicodedata.category(letter) in ("Mn", "Mc") and not unicodedata.name(letter, "").startswith("VARIATION")


class Wordless(NamedTuple):
    """Counts captions in which no word is found; the encoder can't tell them apart."""

    count: int = 0
    num_captions: int = 0  # among which they are
    example: str = ""

    def warning(self) -> str:
        """Returns a warning of one line, or an empty text if there are no such captions."""
        if not self.count:
            return ""
        what = f"{self.count:,} of {self.num_captions:,} captions hold no word (such as {self.example!r})"
        return f"{what}; they all mean the same to the text encoder"


class Vocabulary:
    """Maps words to ids and back; id 0 is padding and 1 stands for every unknown word.

    splitting says how captions become words; a vocabulary keeps that of its training (see split_words).
    """

    def __init__(self, words: Iterable[str], splitting: Splitting = "characters") -> None:
        self.words = list(words)
        self.splitting: Splitting = splitting
        self.index = {word: i for i, word in enumerate(self.words, start=2)}
        self.wordless = Wordless()

    @classmethod
    def of(cls, captions: Iterable[str], max_size: int = 20_000) -> "Vocabulary":
        """Returns the most frequent words of captions; captions in which no word is found are counted in `wordless`."""
        counts, num_captions, without, example = Counter(), 0, 0, ""
        for caption in captions:
            num_captions += 1
            words = split_words(caption)
            counts.update(words)
            if not words:
                without, example = without + 1, example or caption
        vocabulary = cls(word for word, _ in counts.most_common(max_size))
        vocabulary.wordless = Wordless(without, num_captions, example)
        return vocabulary

    def words_of(self, caption: str) -> list[str]:
        """Returns the words of a caption, known and unknown ones."""
        return split_words(caption, self.splitting)

    def __len__(self) -> int:
        """Returns the number of ids: the words, padding and the unknown word."""
        return len(self.words) + 2

    def encode(self, caption: str) -> list[int]:
        """Returns the ids of a caption's words; [1], the unknown word, if there are none."""
        return [self.index.get(word, UNKNOWN) for word in self.words_of(caption)] or [UNKNOWN]

    def decode(self, numbers: Iterable[int]) -> str:
        """Returns the words of ids, separated by spaces; padding and unknown words are left out.

        There is no space between characters of Chinese, Japanese and Korean that are words by themselves.
        """
        text = " ".join(self.words[number - 2] for number in numbers if number >= 2)
        return NO_SPACE.sub("", text) if self.splitting == "characters" else text


def restore_vocabulary(spec: dict) -> Vocabulary:
    """Returns the vocabulary of a spec with its words; files older than `splitting` split at spaces alone."""
    return Vocabulary(spec["words"], spec.get("splitting", "spaces"))


class WordTokenizer:
    """Turns captions into word ids of a vocabulary, cut at max_words."""

    def __init__(self, vocabulary: Vocabulary, max_words: int) -> None:
        self.vocabulary, self.max_words = vocabulary, max_words

    def __call__(self, captions: list[str]) -> Tokens:
        """Returns the ids of captions, (B, L) int64 on the CPU, padded with 0."""
        rows = [self.vocabulary.encode(caption)[: self.max_words] for caption in captions]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [PADDING] * (longest - len(row)) for row in rows])
        return Tokens(ids, ids != PADDING)


@dataclass
class LSTMConfig:
    """Sizes of the LSTM text encoder."""

    dim: int = 128  # numbers in a sentence and in each word's features (D); must equal joint.image.embedding_dim
    embedding_dim: int = 64  # numbers in a word's embedding, before the LSTM
    max_words: int = 32  # words of a caption that are read; the rest is cut off
    word_dropout: float = 0.02  # share of words read as unknown in training, which trains their embedding


class LSTMTextEncoder(TextEncoder):
    """Encodes words by a bidirectional LSTM; the sentence is a projection of each feature's maximum over words."""

    def __init__(self, config: LSTMConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.config, self.vocabulary, self.dim = config, vocabulary, config.dim
        self.max_words = config.max_words
        self.embedding = nn.Embedding(len(vocabulary), config.embedding_dim, padding_idx=PADDING)
        self.lstm = nn.LSTM(config.embedding_dim, config.dim // 2, batch_first=True, bidirectional=True)
        self.sentence = nn.Linear(config.dim, config.dim)

    def forward(self, captions: list[str]) -> TextFeatures:
        """Returns TextFeatures of captions; in training mode a share of the words is read as unknown.

        Unpacking waits for the device: a training step calls `encode_tokens` instead.
        """
        tokens, device = self.make_tokenizer()(captions), self.embedding.weight.device
        ids, mask, lengths = tokens.ids.to(device), tokens.mask.to(device), tokens.mask.sum(dim=1)
        packed = pack_padded_sequence(self.embedded(ids, mask), lengths, batch_first=True, enforce_sorted=False)
        words, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)  # (B, L, D)
        return self.features(words, mask)

    def make_tokenizer(self) -> WordTokenizer:
        """Returns what turns captions into word ids; see TextEncoder.make_tokenizer."""
        return WordTokenizer(self.vocabulary, self.config.max_words)

    def encode_tokens(self, tokens: Tokens) -> TextFeatures:
        """Returns what `forward` does to rounding, of word ids on the encoder's device, without waiting for it.

        One direction reads the words in their order, the other one each caption from its last word on; both reach the
        padding after all words. It is computed in float32, as LSTMs fail under autocast on CPUs.
        """
        ids, mask = tokens
        with in_float32(self.embedding.weight):
            x, reverse = self.embedded(ids, mask), reversal(mask)
            ahead = run_lstm(x, self.lstm, 0)
            back = take_words(run_lstm(take_words(x, reverse), self.lstm, 1), reverse)
            return self.features(torch.cat([ahead, back], dim=2) * mask[:, :, None], mask)

    def embedded(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Returns vectors (B, L, E) of word ids (B, L), of which training drops some."""
        if self.training:
            ids = ids.masked_fill(self.dropped(ids) & mask, UNKNOWN)
        return self.embedding(ids)

    def features(self, words: Tensor, mask: Tensor) -> TextFeatures:
        """Returns TextFeatures of the LSTM's outputs (B, L, D), which are 0 outside of mask (B, L)."""
        largest = words.masked_fill(~mask[:, :, None], float("-inf")).amax(dim=1)
        return TextFeatures(self.sentence(largest), words, mask)

    def dropped(self, ids: Tensor) -> Tensor:
        """Returns which words are read as unknown, (B, L) bool, the same for any number of processes."""
        chance = sharded_rand(len(ids), self.config.max_words, device=ids.device)
        return chance[:, : ids.shape[1]] < self.config.word_dropout

    def unknown_words(self, captions: list[str]) -> list[str]:
        """Returns the words not seen in training, each once, in order; a caption without words is returned whole."""
        words = (word for caption in captions for word in self.vocabulary.words_of(caption) or [caption.strip()])
        return list(dict.fromkeys(word for word in words if word and word not in self.vocabulary.index))

    def spec(self) -> dict:
        """Returns the settings and the vocabulary; see TextEncoder.spec."""
        vocabulary = {"words": self.vocabulary.words, "splitting": self.vocabulary.splitting}
        return {"encoder": "lstm", "config": asdict(self.config), **vocabulary}

    @classmethod
    def from_spec(cls, spec: dict) -> "LSTMTextEncoder":
        """Returns an encoder with untrained weights, built from what spec() returned."""
        return cls(LSTMConfig(**spec["config"]), restore_vocabulary(spec))


def reversal(mask: Tensor) -> Tensor:
    """Returns for each place of a caption that of the same word counted from its end, (B, L) int64; padding stays."""
    places = torch.arange(mask.shape[1], device=mask.device)
    return torch.where(mask, mask.sum(dim=1, keepdim=True) - 1 - places, places)


def take_words(x: Tensor, places: Tensor) -> Tensor:
    """Returns vectors (B, L, D) in another order of places (B, L)."""
    return x.gather(1, places[:, :, None].expand(-1, -1, x.shape[2]))


def run_lstm(x: Tensor, lstm: nn.LSTM, direction: int) -> Tensor:
    """Returns the outputs (B, L, H) of one direction of a bidirectional LSTM of one layer, along x (B, L, E)."""
    weights = cast(list[Tensor], lstm.all_weights[direction])
    start = x.new_zeros(1, len(x), lstm.hidden_size)
    return torch.lstm(x, (start, start), weights, True, 1, 0.0, lstm.training, False, True)[0]
