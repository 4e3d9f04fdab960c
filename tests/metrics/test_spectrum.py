"""The lattice that a stride of two pixels leaves in images."""

import pytest
import torch

from cgan.metrics.spectrum import SpectrumDistance, power


def noise(num: int, seed: int) -> torch.Tensor:
    """Images of white noise, which has the same power everywhere."""
    return torch.randn(num, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) / 4


def distances(real: torch.Tensor, fake: torch.Tensor) -> dict[str, float]:
    metric = SpectrumDistance(32)
    metric.update(real, real=True)
    metric.update(fake)
    return {name: float(value) for name, value in metric.compute().items()}


def test_images_of_one_kind_have_no_lattice_between_them():
    found = distances(noise(200, 0), noise(200, 1))
    assert found["lattice"] == pytest.approx(1, abs=0.1)
    assert found["spectrum"] < 0.1


def test_a_pattern_of_two_pixels_is_a_lattice():
    pattern = torch.zeros(32, 32)
    pattern[::2, :] += 0.2
    assert distances(noise(200, 0), noise(200, 1) + pattern)["lattice"] > 3


def test_a_pattern_of_four_pixels_is_none():
    pattern = torch.zeros(32, 32)
    pattern[::4, :] += 0.1
    pattern[1::4, :] += 0.1  # two rows on, two rows off: nothing at the Nyquist row
    assert distances(noise(200, 0), noise(200, 1) + pattern)["lattice"] == pytest.approx(1, abs=0.1)


def test_a_blur_is_a_difference_of_spectra():
    blurred = torch.nn.functional.avg_pool2d(noise(200, 1), 3, 1, 1)
    assert distances(noise(200, 0), blurred)["spectrum"] > 1


def test_the_power_is_that_of_a_plain_sum():
    image = noise(1, 3)[:, :, :8, :8]
    window = torch.hann_window(8, dtype=torch.double)
    grey = (image.double().mean(1)[0] - image.double().mean()) * window[:, None] * window
    places = torch.arange(8).double()
    wave = torch.exp(-2j * torch.pi * (3 * places[:, None] + 4 * places) / 8)
    assert float(power(image)[0, 3, 4]) == pytest.approx(float((grey * wave).sum().abs() ** 2))


def test_parts_of_several_processes_add_up():
    whole, parts = SpectrumDistance(32), [SpectrumDistance(32) for _ in range(2)]
    for images, real in ((noise(10, 0), True), (noise(10, 1), False)):
        whole.update(images, real)
        for part, share in zip(parts, (images[:4], images[4:]), strict=True):
            part.update(share, real)
    parts[0].update(noise(0, 0))
    merged = parts[0]
    merged.merge_state(parts[1])
    found, expected = merged.compute(), whole.compute()
    assert all(float(found[name]) == pytest.approx(float(expected[name])) for name in expected)
