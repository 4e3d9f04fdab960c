"""Batches of pictures with one caption each, in an order that depends on the seed and the epoch alone."""

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from cgan.interfaces import Batch, Sample


class ShuffledDraws(Sampler):
    """Endless pairs (index, draw): every index once an epoch, draw a number that decides which caption is taken."""

    def __init__(self, num_images: int, seed: int) -> None:
        self.num_images, self.seed = num_images, seed

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = 0
        while True:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            order = torch.randperm(self.num_images, generator=generator)
            draws = torch.randint(2**31, (self.num_images,), generator=generator)
            yield from zip(order.tolist(), draws.tolist(), strict=True)
            epoch += 1


class OneCaption(Dataset):
    """A data set of Samples seen through (index, draw): the picture with one of its captions."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        index, draw = key
        sample = self.dataset[index]
        return sample._replace(captions=[sample.captions[draw % len(sample.captions)]])


def collate(samples: list[Sample]) -> Batch:
    images = torch.stack([sample.image for sample in samples])
    return Batch(images, [s.captions[0] for s in samples], torch.tensor([s.image_id for s in samples]))


def endless_loader(dataset: Dataset, batch_size: int, seed: int, num_workers: int = 0) -> DataLoader:
    """Batches without end; the same seed gives the same batches, whatever the number of workers."""
    draws = ShuffledDraws(len(dataset), seed)
    return DataLoader(OneCaption(dataset), batch_size, sampler=draws, num_workers=num_workers, collate_fn=collate)
