"""Lattice: the trace that strides and pixel shuffles leave in generated images, by their power spectra."""

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from cgan.pixels import as_floats

BESIDE = 2  # rows from the Nyquist row to the one it is compared with: a Hann window spreads a row to its neighbours
SMALLEST = 1e-12  # power, so that the logarithm of a flat image is finite


class Spectrum(NamedTuple):
    """What is compared of a set of images."""

    lattice: Tensor  # power at the Nyquist row and column over that next to it
    radial: Tensor  # (R/2,) natural logarithm of the radially averaged power, from low to high frequencies


def power(images: Tensor) -> Tensor:
    """Returns the power spectra (B, R, R) of the grey values of square images (B, 3, R, R), in [-1, 1] or uint8.

    A Hann window keeps the borders of an image, which do not continue each other, out of its spectrum.
    """
    grey = as_floats(images).double().mean(dim=1)
    window = torch.hann_window(grey.shape[-1], dtype=grey.dtype, device=grey.device)
    grey = (grey - grey.mean(dim=(1, 2), keepdim=True)) * window[:, None] * window
    return torch.fft.fft2(grey).abs().square()


def spectrum_of(mean_power: Tensor) -> Spectrum:
    """Returns the Spectrum of images with a mean power (R, R)."""
    size = len(mean_power)
    nyquist, lines = size // 2, mean_power.mean(dim=0) + mean_power.mean(dim=1)  # of columns, and of rows
    frequency = torch.fft.fftfreq(size, 1 / size, device=mean_power.device).abs()
    ring = (frequency[:, None].square() + frequency.square()).sqrt().round().long().flatten()
    rings = torch.zeros(nyquist, dtype=mean_power.dtype, device=mean_power.device)
    inside, flat = ring < nyquist, mean_power.flatten()
    counts = torch.bincount(ring[inside], minlength=nyquist)
    radial = rings.index_add(0, ring[inside], flat[inside]) / counts
    return Spectrum(lines[nyquist] / lines[nyquist - BESIDE].clamp(min=SMALLEST), radial.clamp(min=SMALLEST).log())


class SpectrumDistance(Metric):
    """Compares the spectra of generated images with those of real ones (Durall et al. 2020, section 2).

    `lattice` is the power of what alternates from pixel to pixel, at the Nyquist row and column, over the power beside
    it, divided by the same of the real images: 1 is right, 4 is a lattice that one sees at first sight. `spectrum` is
    the mean absolute difference of the logarithms of the radially averaged power, 0 at best. update(images, real=...)
    takes images (B, 3, R, R), in [-1, 1] or uint8, with R at least 8; all of one size. real_power (R, R) is the mean
    power of real images where that is known; reset() keeps it.
    """

    given_power: Tensor | None
    full_state_update = False

    def __init__(self, resolution: int, real_power: Tensor | None = None, **settings) -> None:
        super().__init__(**settings)
        self.register_buffer("given_power", None if real_power is None else real_power.double(), persistent=False)
        for side in ("real", "fake"):
            zeros = torch.zeros(resolution, resolution, dtype=torch.float64)
            self.add_state(f"{side}_power", zeros, dist_reduce_fx="sum")
            self.add_state(f"{side}_count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, images: Tensor, real: bool = False) -> None:
        """Add images, generated ones unless `real`; an empty batch changes nothing."""
        if len(images) == 0:
            return
        if real:
            self.real_power, self.real_count = self.real_power + power(images).sum(0), self.real_count + len(images)
        else:
            self.fake_power, self.fake_count = self.fake_power + power(images).sum(0), self.fake_count + len(images)

    def compute(self) -> dict[str, Tensor]:
        """Returns `lattice` and `spectrum`, scalars; NaN where a side has no images."""
        fake = spectrum_of(self.fake_power / self.fake_count)
        mean_power = self.real_power / self.real_count if self.given_power is None else self.given_power
        real = spectrum_of(mean_power)
        difference = (fake.radial - real.radial)[1:].abs().mean()  # the first ring is the mean grey value
        return {"lattice": fake.lattice / real.lattice, "spectrum": difference}
