"""Copies of training pictures are found, and pictures as original as real ones are not taken for copies."""

import pytest
import torch

from cgan.metrics.memorization import (
    RARE,
    Memorization,
    Space,
    Thumbnails,
    copying,
    nearest_distances,
    seed_diversity,
    space_of,
)


def pictures(count: int, seed: int) -> torch.Tensor:
    """Pictures of smooth noise, uint8 (count, 3, 32, 32)."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return (255 * torch.nn.functional.interpolate(coarse, 32, mode="bilinear")).byte()


def measured(fake: torch.Tensor, held_out: torch.Tensor | None = None) -> dict[str, float]:
    network = Thumbnails()
    training = network(pictures(200, 0))
    metric = Memorization([space_of(network, training, None if held_out is None else network(held_out))])
    for places in torch.arange(len(fake)).split(30):
        metric.update(fake[places], places)
    metric.update(fake[:0], torch.arange(0))  # a process without a share
    return {name: float(value) for name, value in metric.compute().items()}


@pytest.mark.parametrize("held_out", [None, pictures(200, 1)])
def test_new_pictures_of_the_same_kind_are_no_copies(held_out):
    found = measured(pictures(200, 2), held_out)
    assert found["copies"] < 3 * RARE and found["pixels/training_distance"] == pytest.approx(1, abs=0.05)
    assert copying(found) is None


@pytest.mark.parametrize("held_out", [None, pictures(200, 1)])
def test_training_pictures_that_hardly_changed_are_copies(held_out):
    copied = (pictures(200, 0).int() + torch.randint(-3, 4, (200, 3, 32, 32))).clamp(0, 255).byte()
    found = measured(torch.cat([copied[:60], pictures(140, 2)]), held_out)
    assert found["copies"] == pytest.approx(0.3 + 0.7 * RARE, abs=0.05)
    line = copying(found)
    assert (
        line is not None
        and line.startswith("warning: the model copies")
        and "\n" not in line
        and "gan.picture_augmentation" in line
    )


def test_a_copy_is_one_in_every_space():
    class Elsewhere(Thumbnails):
        """Features in which nothing is near a training picture."""

        def forward(self, images):
            return super().forward(images) + 10

    network, other = Thumbnails(), Elsewhere()
    training = network(pictures(50, 0))
    metric = Memorization([space_of(network, training), space_of(other, training)])
    metric.update(pictures(50, 0), torch.arange(50))
    assert float(metric.compute()["copies"]) == 0


def test_the_nearest_other_picture_is_that_of_brute_force():
    points = torch.rand(7, 5)
    distances = torch.tensor([[float((a - b).norm()) for b in points] for a in points]).fill_diagonal_(torch.inf)
    found = nearest_distances(points, Space(Thumbnails(), points, points), others=True)
    torch.testing.assert_close(found.float(), distances.amin(dim=1))


def test_seeds_of_one_picture_have_no_diversity_and_those_of_unrelated_ones_have_that_of_real_pictures():
    network, real = Thumbnails(), Thumbnails()(pictures(100, 0))
    same = network(pictures(6, 1))[:, None].expand(-1, 4, -1)
    assert float(seed_diversity(same, real, network)) == pytest.approx(0, abs=1e-6)
    unrelated = network(pictures(40, 2)).unflatten(0, (10, 4))
    assert float(seed_diversity(unrelated, real, network)) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("values", [{}, {"copies": 0.25}, {"copies": float("nan")}])
def test_no_warning_without_too_many_copies(values):
    assert copying(values) is None
