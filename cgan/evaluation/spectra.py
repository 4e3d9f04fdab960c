"""The mean power spectrum of real pictures, computed once and cached, and the metric that compares others with it."""

import torch
from torch import Tensor

from cgan.data.cache import cache_folder
from cgan.evaluation.loop import BATCH, Pictures, digest, store, stored
from cgan.metrics.spectrum import SpectrumDistance, power

SMALLEST = 8  # pixels each way, below which there is no frequency beside the highest one


def spectrum_of(reference: Pictures) -> SpectrumDistance:
    """Returns the metric of pictures that are as large as the real ones."""
    mean_power = real_power(reference)
    return SpectrumDistance(len(mean_power), mean_power)


def size_of(pictures: Pictures) -> tuple[int, int]:
    """Returns the height and the width of pictures, by the first of them."""
    height, width = pictures.load(torch.tensor([0])).shape[2:]
    return height, width


def real_power(pictures: Pictures) -> Tensor:
    """Returns the mean power (R, R) of real pictures, float32, cached under a key of the pictures.

    With several processes each of them computes all of it, where it is not cached.
    """
    size = size_of(pictures)
    path = cache_folder() / f"spectrum-{digest([pictures.about, 'power'])[:16]}.npy"
    found = stored(path, size)
    if found is None:
        places = torch.arange(pictures.count).split(BATCH)
        sums = [power(pictures.load(some)).sum(dim=0) for some in places]
        found = (torch.stack(sums).sum(dim=0) / pictures.count).float()
        store(path, found)
    return found


def spectrum_between_halves(reference: Pictures, seed: int) -> dict[str, float]:
    """Returns the values of a random half of real pictures, taken as generated, against the other half."""
    metric = SpectrumDistance(size_of(reference)[0], sync_on_compute=False)  # every process has all of the pictures
    order = torch.randperm(reference.count, generator=torch.Generator().manual_seed(seed))
    for places, real in zip(order.tensor_split(2), (True, False), strict=True):
        for some in places.split(BATCH):
            metric.update(reference.load(some), real)
    return {name: float(value) for name, value in metric.compute().items()}


def why_not(measured: tuple[int, int], real: tuple[int, int]) -> str | None:
    """Returns why pictures of these heights and widths have no spectra to compare; None where they have."""
    if measured != real:
        return f"the pictures are {measured[1]}x{measured[0]}, the real ones {real[1]}x{real[0]}"
    if measured[0] != measured[1] or measured[0] < SMALLEST:
        return f"the pictures are {measured[1]}x{measured[0]}; it takes squares of at least {SMALLEST} pixels"
    return None
