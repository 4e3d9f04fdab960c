"""Loads batches of pictures with one caption each, in an order that depends on the seed and the epoch alone."""

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from cgan.data.shards import ShardedPictures
from cgan.interfaces import Batch, ImageTextDataset, Sample

AT_ONCE = 10_000  # numbers that are made into a list


class ShuffledDraws(Sampler):
    """Yields pairs (index, draw) without end: each index once an epoch, and a random number that selects its caption.

    The first start_index pairs are skipped, for a training that is resumed. The processes share each of the following
    groups of batch_size pairs; this one yields the part of its rank.
    """

    def __init__(
        self, num_images: int, seed: int, batch_size: int = 1, start_index: int = 0, rank: int = 0, num_ranks: int = 1
    ) -> None:
        self.num_images, self.seed, self.start_index = num_images, seed, start_index
        self.batch_size, self.share, self.rank = batch_size, batch_size // num_ranks, rank

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for place, pair in enumerate(self.pairs()):
            if place % self.batch_size // self.share == self.rank:
                yield pair

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yields the pairs of all processes."""
        epoch, first = divmod(self.start_index, self.num_images)
        while True:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            order = torch.randperm(self.num_images, generator=generator).int()  # 4 bytes each instead of 8
            draws = torch.randint(2**31, (self.num_images,), generator=generator).int()
            for start in range(first, self.num_images, AT_ONCE):  # as lists they would take ten times as much memory
                part = slice(start, start + AT_ONCE)
                yield from zip(order[part].tolist(), draws[part].tolist(), strict=True)
            epoch, first = epoch + 1, 0


class OneCaption(Dataset):
    """Maps (index, draw) to the Sample of that index with one of its captions, which `draw` selects."""

    def __init__(self, dataset: ImageTextDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        index, draw = key
        if isinstance(self.dataset, ShardedPictures):  # their crops and flips may differ from draw to draw
            sample = self.dataset.drawn(index, draw)
        else:
            sample = self.dataset[index]
        return sample._replace(captions=[sample.captions[draw % len(sample.captions)]])


def collate(samples: list[Sample]) -> Batch:
    """Joins Samples with one caption each into a Batch."""
    images = torch.stack([sample.image for sample in samples])
    return Batch(images, [s.captions[0] for s in samples], torch.tensor([s.image_id for s in samples]))


def endless_loader(
    dataset: ImageTextDataset,
    batch_size: int,
    seed: int,
    num_workers: int = 0,
    start_index: int = 0,
    rank: int = 0,
    num_ranks: int = 1,
) -> DataLoader:
    """Returns a loader of Batches without end; equal seeds give equal batches for any number of workers and processes.

    batch_size counts the pictures of all processes together, and must be a multiple of their number num_ranks; rank is
    the number of this process. start_index is the number of pictures that a resumed training has already seen.
    """
    return DataLoader(
        OneCaption(dataset),
        batch_size // num_ranks,
        sampler=ShuffledDraws(len(dataset), seed, batch_size, start_index, rank, num_ranks),
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
    )
