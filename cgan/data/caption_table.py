"""All captions of a data set: each text once, and the places of every picture's captions among the texts."""

import hashlib
from array import array
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cgan.interfaces import ImageTextDataset, Tokenizer, Tokens

AT_ONCE = 10_000  # texts that are read as lists


def caption_ids(captions: Iterable[str]) -> Tensor:
    """Returns a number for the words of each caption, the same in every process: (B,) int64, on the CPU."""
    digests = (hashlib.blake2b(caption.encode(), digest_size=8).digest() for caption in captions)
    return torch.tensor([int.from_bytes(digest, "big", signed=True) for digest in digests], dtype=torch.int64)


class CaptionTable:
    """The texts of a data set, each once in the order in which they first come, and each picture's places in them.

    A loader picks captions by it for a whole batch at once, and features of texts are kept in its order.
    """

    def __init__(self, captions_of_pictures: Iterable[list[str]]) -> None:
        places: dict[str, int] = {}
        rows, starts = array("q"), array("q", [0])
        for captions in captions_of_pictures:
            rows.extend(places.setdefault(caption, len(places)) for caption in captions)
            starts.append(len(rows))
        self.places, self.texts = places, list(places)
        self.ids = caption_ids(self.texts)  # (U,)
        self.rows, self.starts = np.frombuffer(rows, np.int64), np.frombuffer(starts, np.int64)  # (T,) and (N + 1,)

    @classmethod
    def of(cls, dataset: ImageTextDataset) -> "CaptionTable":
        """Returns the table of a data set, whose pictures are not decoded for it."""
        return cls(dataset.captions_of(index) for index in range(len(dataset)))

    def drawn(self, indices: list[int], draws: list[int]) -> Tensor:
        """Returns the row of the caption that the number of a draw chooses for each picture, (B,) int64."""
        starts, ends = self.starts[indices], self.starts[1:][indices]
        return torch.from_numpy(self.rows[starts + np.array(draws) % (ends - starts)])

    def rows_of(self, captions: list[str]) -> Tensor | None:
        """Returns the rows of captions, (B,) int64; None where one of them is not in the table."""
        found = [self.places.get(caption, -1) for caption in captions]
        return None if -1 in found else torch.tensor(found)


class KnownTokens:
    """The tokens of all texts, read once, from which those of a batch are taken."""

    def __init__(self, read: Tokenizer, texts: list[str]) -> None:
        parts = [read(texts[start : start + AT_ONCE]) for start in range(0, len(texts), AT_ONCE)]
        longest = max(part.ids.shape[1] for part in parts)
        self.ids = torch.cat([F.pad(ids, (0, longest - ids.shape[1])).int() for ids, _ in parts])  # (U, L)
        self.mask = torch.cat([F.pad(mask, (0, longest - mask.shape[1])) for _, mask in parts])  # (U, L)

    def at(self, rows: Tensor) -> Tokens:
        """Returns the tokens of some texts (B,), no longer than the longest of them."""
        mask = self.mask[rows]
        longest = int(mask.any(dim=0).sum())  # padding comes last
        return Tokens(self.ids[rows, :longest].long(), mask[:, :longest])
