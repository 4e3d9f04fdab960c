"""Decoders from the shared latent to an image, and to a caption by a teacher-forced LSTM (Vinyals et al. 2015)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cgan.models.layers import channels_at, doubled, num_groups, start_without_checkerboard


@dataclass
class DecoderConfig:
    """The sizes of the picture decoder and of the caption decoder."""

    width: int = 8  # channels of the picture decoder at full resolution, doubled with each halving
    max_channels: int = 128  # largest number of channels in a layer of the picture decoder
    word_dim: int = 64  # numbers in a word's embedding in the caption decoder
    hidden_dim: int = 192  # hidden units of the caption decoder's LSTM


class UpBlock(nn.Module):
    """A residual block that doubles the resolution: (B, C, H, W) to (B, C', 2H, 2W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(num_groups(in_channels), in_channels)
        self.first = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns a map (B, C', 2H, 2W) of a map (B, C, H, W)."""
        shortcut = doubled(self.shortcut(x))  # (B, C', 2H, 2W)
        x = doubled(self.first(F.relu(self.norm(x))))
        return shortcut + self.second(F.relu(x))


class PictureDecoder(nn.Module):
    """decoder(latent (B, E)) -> images (B, 3, H, W) in [-1, 1]; each position of the last map yields 2 x 2 pixels."""

    def __init__(self, config: DecoderConfig, embedding_dim: int, resolution: int) -> None:
        super().__init__()
        sizes = [2**i for i in range(2, resolution.bit_length() - 1)]  # 4, 8, ..., resolution / 2
        channels = [channels_at(size, resolution, config.width, config.max_channels) for size in sizes]
        self.start = nn.Linear(embedding_dim, channels[0] * 16)
        self.blocks = nn.Sequential(*[UpBlock(a, b) for a, b in zip(channels[:-1], channels[1:], strict=True)])
        last = nn.Conv2d(channels[-1], 12, 3, padding=1)
        start_without_checkerboard(last, 4)
        self.to_image = nn.Sequential(last, nn.PixelShuffle(2))

    def forward(self, latent: Tensor) -> Tensor:
        """Returns images (B, 3, H, W) in [-1, 1], in float32, of latents (B, E)."""
        x = self.start(latent).unflatten(1, (-1, 4, 4)).contiguous(memory_format=torch.channels_last)
        return torch.tanh(self.to_image(F.relu(self.blocks(x))).float())


class CaptionDecoder(nn.Module):
    """decoder(latent (B, E), words (B, L)) -> logits (B, L + 1, V) of each next word, given the words before it.

    Words are ids of a vocabulary of num_words, with 0 for padding; the next two ids begin and end a caption.
    """

    def __init__(self, config: DecoderConfig, embedding_dim: int, num_words: int) -> None:
        super().__init__()
        self.begin, self.end = num_words, num_words + 1
        self.embedding = nn.Embedding(num_words + 2, config.word_dim, padding_idx=0)
        self.start = nn.Linear(embedding_dim, 2 * config.hidden_dim)
        self.lstm = nn.LSTM(config.word_dim + embedding_dim, config.hidden_dim, batch_first=True)
        self.logits = nn.Linear(config.hidden_dim, num_words + 2)

    def init_state(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the LSTM's state before the first word, hidden and cell of (1, B, hidden_dim) each."""
        hidden, cell = torch.tanh(self.start(latent)).chunk(2, dim=1)
        return hidden[None].contiguous(), cell[None].contiguous()

    def read(self, given: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Runs the LSTM over given vectors (B, L, D + E), in float32, as it fails under autocast on CPUs."""
        with torch.autocast(given.device.type, enabled=False):
            return self.lstm(given.float(), tuple(x.float() for x in state))

    def forward(self, latent: Tensor, words: Tensor) -> Tensor:
        """Returns logits (B, L + 1, V) of each next word and of the end, for latents (B, E) and words (B, L)."""
        words = F.pad(words, (1, 0), value=self.begin)  # (B, L + 1)
        given = torch.cat([self.embedding(words), latent[:, None].expand(-1, words.shape[1], -1)], dim=2)
        return self.logits(self.read(given, self.init_state(latent))[0])

    def loss(self, latent: Tensor, words: Tensor) -> Tensor:
        """Returns the mean cross-entropy of the words (B, L) and the end of each caption, in nats per word."""
        targets = F.pad(words, (0, 1))  # (B, L + 1)
        lengths = (words != 0).sum(dim=1, keepdim=True)
        targets = targets.scatter(1, lengths, self.end)
        return F.cross_entropy(self(latent, words).flatten(0, 1).float(), targets.flatten(), ignore_index=0)

    @torch.no_grad()
    def greedy_decode(self, latent: Tensor, max_words: int = 24) -> Tensor:
        """Returns the ids of the likeliest words, one by one, (B, L) int64 with L up to max_words; 0 after the end."""
        state, word = self.init_state(latent), latent.new_full((len(latent),), self.begin, dtype=torch.long)
        ended, words = torch.zeros_like(word, dtype=torch.bool), []
        while len(words) < max_words and not ended.all():
            given = torch.cat([self.embedding(word), latent], dim=1)[:, None]
            hidden, state = self.read(given, state)
            logits = self.logits(hidden[:, 0])
            logits[:, [0, 1, self.begin]] = float("-inf")  # neither padding, nor the unknown word, nor a beginning
            word = logits.argmax(dim=1)
            ended |= word == self.end
            words.append(word.masked_fill(ended, 0))
        return torch.stack(words, dim=1)
