"""Text features of all captions of a data set: encoded once before a training, kept on the device, looked up by row."""

import time
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from cgan.data.caption_table import CaptionTable
from cgan.interfaces import Batch, ImageTextDataset, Report, TextEncoder, TextFeatures, map_tensors


class Limits(NamedTuple):
    """What the features of all captions may cost."""

    num_bytes: int  # on the device
    products: float  # of weights and words, to encode all of them


LIMITS = {"cpu": Limits(2**29, 1e12), "cuda": Limits(2**31, 1e16)}  # by the type of a device: a minute or so

AT_ONCE = 256  # captions that are encoded at once
PATIENCE = 1.0  # seconds after which the encoding is reported


class KnownText(NamedTuple):
    """The features of U texts, with T words in all; T is 0 where words are not kept."""

    sentence: Tensor  # (U, D)
    words: Tensor  # (T, D), text after text
    starts: Tensor  # (U, 1) int64: the first word of each text
    lengths: Tensor  # (U, 1) int64
    positions: Tensor  # (L,) int64: 0, 1, ... to the length of the longest text

    def at(self, rows: Tensor) -> TextFeatures:
        """Returns the features of some texts (B,), always padded to the longest one, so that shapes stay the same."""
        mask = self.positions < self.lengths[rows]  # (B, L)
        places = (self.starts[rows] + self.positions).clamp(max=len(self.words) - 1)
        return TextFeatures(self.sentence[rows], self.words[places] * mask[:, :, None], mask)


def caption_table(dataset: ImageTextDataset, num_images: int) -> CaptionTable | None:
    """Returns the captions of a data set; None where a training sees fewer than all of its pictures."""
    return CaptionTable.of(dataset) if len(dataset) <= num_images else None


def is_worth_keeping(
    table: CaptionTable, encoder: TextEncoder, with_words: bool, num_images: int, limits: Limits
) -> bool:
    """Returns whether the features of all texts are within limits, and no more work than those of a training's images.

    The words of a text are estimated by its spaces. The answer depends on no clock and no free memory, so that a
    training that is resumed computes what it would have.
    """
    num_texts, num_words = len(table.texts), sum(2 + text.count(" ") for text in table.texts)
    num_bytes = 4 * encoder.dim * (num_texts + with_words * num_words)
    few = num_texts <= num_images and num_words * encoder.num_weights() <= limits.products
    return few and num_bytes <= limits.num_bytes


@torch.no_grad()
def encode_all(
    encoder: TextEncoder, texts: list[str], device: torch.device, with_words: bool, report: Report
) -> KnownText:
    """Returns the features of texts on a device, in float32; report gets a line where it takes more than a second.

    Texts of similar length are encoded together, in an order that depends on the texts alone.
    """
    order = sorted(range(len(texts)), key=lambda row: texts[row].count(" "))
    sentence, words, lengths = torch.empty(len(texts), encoder.dim), [], torch.zeros(len(texts), 1, dtype=torch.int64)
    sentence, lengths = sentence.to(device), lengths.to(device)
    for rows in shown(order, report):
        text = features_of(encoder, [texts[row] for row in rows], device)
        sentence[rows] = text.sentence.float()
        if with_words:
            words.append(text.words[text.mask].float())
            lengths[rows] = text.mask.sum(dim=1, keepdim=True)
    starts = torch.zeros_like(lengths)
    starts[order] = lengths[order].cumsum(dim=0) - lengths[order]
    positions = torch.arange(int(lengths.max()), device=device)
    return KnownText(
        sentence, torch.cat(words) if words else sentence.new_empty(0, encoder.dim), starts, lengths, positions
    )


def shown(order: list[int], report: Report) -> Iterator[list[int]]:
    """Yields pieces of a list, and reports after a second how long all of it takes."""
    start, told = time.monotonic(), False
    for first in range(0, len(order), AT_ONCE):
        yield order[first : first + AT_ONCE]
        passed, done = time.monotonic() - start, min(first + AT_ONCE, len(order))
        if passed > PATIENCE and not told:
            told = True
            report(f"encoding {len(order):,} captions once (about {passed * len(order) / done:.0f} s) ...")


def features_of(encoder: TextEncoder, captions: list[str], device: torch.device) -> TextFeatures:
    """Returns the features of captions on a device, computed without autocast."""
    read = encoder.make_tokenizer()
    with torch.autocast(device.type, enabled=False):
        if read is None:
            return map_tensors(lambda x: x.to(device), encoder(captions))
        return encoder.encode_tokens(map_tensors(lambda x: x.to(device), read(captions)))


def text_of(batch: Batch, encoder: TextEncoder, known: KnownText | None) -> TextFeatures:
    """Returns the features of a batch's captions: looked up, or encoded from their tokens where the loader made these.

    Otherwise the encoder reads the captions themselves, and the host may wait for the device.
    """
    if known is not None and batch.caption_rows is not None:
        return known.at(batch.caption_rows)
    return encoder(batch.captions) if batch.tokens is None else encoder.encode_tokens(batch.tokens)
