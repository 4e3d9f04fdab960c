"""Loads batches of pictures with one caption each, in an order that depends on the seed and the epoch alone."""

from collections import deque
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cgan.data.caption_table import CaptionTable, KnownTokens, caption_ids
from cgan.data.labels import LabelTable
from cgan.data.shards import ShardedPictures
from cgan.interfaces import Batch, ImageTextDataset, Sample, StoredPictures, Tokenizer, Tokens

AT_ONCE = 10_000  # numbers that are made into a list
UPLOAD = 2**26  # bytes of pictures that are copied to a device at once

Draw = tuple[int, int]  # the index of a picture, and a number that decides which caption is taken


class ShuffledDraws(Sampler):
    """Yields lists of draws (index, draw) without end, one a batch: each index once an epoch, and a random number.

    The number selects the caption. The first start_index draws are skipped, for a training that is resumed. The
    processes share each of the following groups of batch_size draws; this one yields the part of its rank.
    """

    def __init__(
        self, num_images: int, seed: int, batch_size: int = 1, start_index: int = 0, rank: int = 0, num_ranks: int = 1
    ) -> None:
        self.num_images, self.seed, self.start_index = num_images, seed, start_index
        self.batch_size, self.share, self.rank = batch_size, batch_size // num_ranks, rank

    def __iter__(self) -> Iterator[list[Draw]]:
        pairs, before = self.pairs(), self.rank * self.share
        after = self.batch_size - before - self.share
        while True:
            yield list(islice(pairs, before, before + self.share))
            deque(islice(pairs, after), maxlen=0)  # those of other processes

    def pairs(self) -> Iterator[Draw]:
        """Yields the draws of all processes."""
        epoch, first = divmod(self.start_index, self.num_images)
        while True:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            order = torch.randperm(self.num_images, generator=generator).int()  # 4 bytes each instead of 8
            draws = torch.randint(2**31, (self.num_images,), generator=generator).int()
            for start in range(first, self.num_images, AT_ONCE):  # as lists they would take ten times as much memory
                part = slice(start, start + AT_ONCE)
                yield from zip(order[part].tolist(), draws[part].tolist(), strict=True)
            epoch, first = epoch + 1, 0


class Reading(NamedTuple):
    """What a loader adds to the captions of a batch; see the fields of Batch."""

    table: CaptionTable | None = None  # gives caption_rows, and captions of StoredPictures without asking each one
    tokens: Tokenizer | None = None  # of the text encoder
    words: Tokenizer | None = None  # of the caption decoder
    labels: LabelTable | None = None  # gives labels


class CaptionedBatches(Dataset):
    """A data set of Samples seen in whole batches of draws: pictures, each with one of its captions.

    With only_indices, `images` of a batch are the indices of the pictures, (B,) int64, for a DeviceLoader.
    """

    def __init__(self, dataset: ImageTextDataset, reading: Reading, only_indices: bool = False) -> None:
        self.dataset, self.reading, self.only_indices = dataset, reading, only_indices
        self.is_stored = isinstance(dataset, StoredPictures)
        self.readers, table = (reading.tokens, reading.words), reading.table
        self.known = [
            None if read is None or table is None else KnownTokens(read, table.texts) for read in self.readers
        ]

    def __getitem__(self, draw: Draw) -> Batch:
        """Returns a batch of one."""
        return self.__getitems__([draw])

    def __getitems__(self, draws: list[Draw]) -> Batch:
        """Returns the batch of some draws."""
        batch = self.stored(draws) if self.is_stored else self.sampled(draws)
        tokens, words = map(partial(tokens_of, batch), self.readers, self.known)
        return batch._replace(tokens=tokens, words=words)

    def stored(self, draws: list[Draw]) -> Batch:
        """Returns a batch of pictures that are read at once."""
        assert isinstance(self.dataset, StoredPictures)  # asked for before
        (indices, numbers), table = ([list(column) for column in zip(*draws, strict=True)]), self.reading.table
        if table is None:
            texts = [self.dataset.captions_of(index) for index in indices]
            captions = [some[number % len(some)] for some, number in zip(texts, numbers, strict=True)]
            ids, rows = caption_ids(captions), None
        else:
            rows = table.drawn(indices, numbers)
            captions, ids = [table.texts[row] for row in rows.tolist()], table.ids[rows]
        images = as_tensor(indices) if self.only_indices else self.dataset.images_at(indices)
        labels = None if self.reading.labels is None else self.reading.labels.at(indices)
        return Batch(images, captions, as_tensor(self.dataset.image_ids_at(indices)), ids, rows, labels=labels)

    def sampled(self, draws: list[Draw]) -> Batch:
        """Returns a batch of pictures that are asked for one by one."""
        samples, table = [self.sample(*draw) for draw in draws], self.reading.table
        captions = [
            sample.captions[number % len(sample.captions)] for sample, (_, number) in zip(samples, draws, strict=True)
        ]
        images, ids = torch.stack([s.image for s in samples]), as_tensor([s.image_id for s in samples])
        known = self.reading.labels
        labels = None if known is None else known.of_labels([sample.labels for sample in samples])
        return Batch(images, captions, ids, caption_ids(captions), table and table.rows_of(captions), labels=labels)

    def sample(self, index: int, draw: int) -> Sample:
        """Returns one picture with all of its captions; crops and flips of shards may differ from draw to draw."""
        return self.dataset.drawn(index, draw) if isinstance(self.dataset, ShardedPictures) else self.dataset[index]


def as_tensor(numbers: list[int]) -> Tensor:
    """Returns a list of integers as int64, several times as fast as torch.tensor."""
    return torch.from_numpy(np.array(numbers, dtype=np.int64))


def tokens_of(batch: Batch, read: Tokenizer | None, known: KnownTokens | None) -> Tokens | None:
    """Returns the tokens of a batch's captions, which are taken from the known ones where they can be."""
    if read is None:
        return None
    return read(batch.captions) if known is None or batch.caption_rows is None else known.at(batch.caption_rows)


def as_it_is(batch: Batch) -> Batch:
    """Returns the batch: it is whole already."""
    return batch


class DeviceLoader:
    """Batches on a device, whose pictures are taken from all pictures of the data set, which lie there.

    loader gives the indices of pictures in their place; pictures are (N, H, W, 3) uint8.
    """

    def __init__(self, loader: DataLoader, pictures: Tensor) -> None:
        self.loader, self.pictures = loader, pictures

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            batch = batch.to(self.pictures.device)
            yield batch._replace(images=self.pictures.index_select(0, batch.images).permute(0, 3, 1, 2))

    def release(self) -> None:
        """Frees the memory of the pictures, after the training."""
        self.pictures = self.pictures.new_empty(0)


def num_bytes_of(dataset: ImageTextDataset) -> int:
    """Returns the bytes of all pictures of a data set, which is not empty."""
    return len(dataset) * dataset[0].image.numel()


def pictures_on(device: torch.device, dataset: StoredPictures) -> Tensor:
    """Returns all pictures of a data set on a device, (N, H, W, 3) uint8."""
    images = dataset.images_at([0])
    (_, channels, height, width), count = images.shape, len(dataset)
    found = torch.empty(count, height, width, channels, dtype=torch.uint8, device=device)
    size = max(1, UPLOAD // images.numel())
    for start in range(0, count, size):
        some = dataset.images_at(list(range(start, min(start + size, count))))
        found[start : start + size].copy_(some.permute(0, 2, 3, 1))
    return found


def endless_loader(
    dataset: ImageTextDataset,
    batch_size: int,
    seed: int,
    num_workers: int = 0,
    start_index: int = 0,
    rank: int = 0,
    num_ranks: int = 1,
    reading: Reading | None = None,
    device: torch.device | None = None,
) -> DataLoader | DeviceLoader:
    """Returns a loader of Batches without end; equal seeds give equal batches for any number of workers and processes.

    batch_size counts the pictures of all processes together, and must be a multiple of their number num_ranks; rank is
    the number of this process. start_index is the number of pictures that a resumed training has already seen. reading
    says what is added to captions. With a device, all pictures of the data set, which must be StoredPictures, are
    copied there now, and batches are put together there.
    """
    loader = DataLoader(
        CaptionedBatches(dataset, reading or Reading(), only_indices=device is not None),
        batch_sampler=ShuffledDraws(len(dataset), seed, batch_size, start_index, rank, num_ranks),
        num_workers=num_workers,
        collate_fn=as_it_is,  # pyright: ignore[reportArgumentType] -- __getitems__ gives a batch, not a list
        pin_memory=torch.cuda.is_available(),
    )
    if device is None:
        return loader
    assert isinstance(dataset, StoredPictures)  # the caller has seen to it
    return DeviceLoader(loader, pictures_on(device, dataset))
