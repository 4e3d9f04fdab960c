"""Spectra of real pictures are computed once, and pictures of which there are none are left out with a reason."""

import pytest
import torch

from cgan.data.scenes.dataset import Scenes
from cgan.evaluation import spectra
from cgan.evaluation.loop import Pictures, of_dataset
from cgan.metrics.spectrum import power


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path))


def test_the_mean_power_of_real_pictures_is_computed_once(monkeypatch):
    scenes = of_dataset(Scenes(70, 32))
    found = spectra.real_power(scenes)
    expected = power(scenes.load(torch.arange(70))).mean(dim=0)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)
    monkeypatch.setattr(spectra, "power", lambda images: pytest.fail("it is in the cache"))
    assert torch.equal(spectra.real_power(scenes), found)


def test_real_pictures_have_no_lattice_and_a_row_every_two_pixels_is_one():
    scenes = of_dataset(Scenes(200, 32))
    metric = spectra.spectrum_of(scenes)
    images = of_dataset(Scenes(200, 32, seed=1)).load(torch.arange(200))
    metric.update(images)
    assert float(metric.compute()["lattice"]) == pytest.approx(1, abs=0.15)
    metric.reset()
    striped = images.int()
    striped[:, :, ::2] += 20
    metric.update(striped.clamp(0, 255).byte())
    assert float(metric.compute()["lattice"]) > 3


def test_halves_of_real_pictures_are_alike():
    found = spectra.spectrum_between_halves(of_dataset(Scenes(200, 32)), seed=1)
    assert found["lattice"] == pytest.approx(1, abs=0.15) and found["spectrum"] < 0.2


@pytest.mark.parametrize(
    "measured, real, said",
    [
        ((32, 32), (32, 32), None),
        ((32, 32), (64, 64), "the pictures are 32x32, the real ones 64x64"),
        ((32, 48), (32, 48), "the pictures are 48x32; it takes squares"),
        ((4, 4), (4, 4), "squares of at least 8 pixels"),
    ],
)
def test_only_squares_of_one_size_are_compared(measured, real, said):
    reason = spectra.why_not(measured, real)
    assert reason is None if said is None else said in reason


def test_the_size_of_pictures_is_that_of_the_first():
    assert spectra.size_of(Pictures(3, lambda places: torch.zeros(len(places), 3, 20, 30), {})) == (20, 30)
