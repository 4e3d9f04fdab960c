import pytest

from cgan.config import load_config
from cgan.training.schedule import Cadence, checkpoints, grids, late_decay
from helpers import ROOT

CONFIGS = ROOT / "configs"


@pytest.mark.parametrize(
    ("progress", "decay_from", "last", "expected"),
    [
        (0.0, 0.0, 0.25, 1.0),
        (0.5, 0.0, 0.25, 0.625),
        (0.75, 0.0, 0.25, 0.4375),  # three quarters of the way from 1 to 0.25
        (1.0, 0.0, 0.25, 0.25),
        (0.5, 0.5, 0.05, 1.0),
        (0.98, 0.5, 0.05, 0.088),
        (1.0, 0.5, 0.05, 0.05),
        (1.0, 1.0, 0.05, 1.0),
    ],
)
def test_a_rate_reaches_its_last_value_at_the_end_and_not_before(progress, decay_from, last, expected):
    assert late_decay(progress, decay_from, last) == pytest.approx(expected)


def moments(cadence: Cadence, images: int, batch_size: int, speedup: float = 1.0) -> list[int]:
    """The images seen when it is due; speedup is how much sooner than by its images a training ends, by its time."""
    counts = {}
    for step in range(1, images // batch_size + 1):
        seen = step * batch_size
        progress = min(1.0, speedup * seen / images)
        counts.setdefault(cadence.count(seen, progress), seen)
        if progress == 1:
            break
    return [seen for count, seen in sorted(counts.items()) if count > 0]


def test_what_is_given_counts_and_0_is_never():
    assert moments(Cadence(300, 100, 7), 1000, 100) == [300, 600, 900]
    assert moments(Cadence(0, 100, 7), 1000, 100) == []


def test_left_open_it_is_as_often_as_asked_but_not_sooner_than_after_so_many_images():
    assert moments(Cadence(None, 4, 100), 4000, 100) == [1000, 2000, 3000, 4000]
    assert moments(Cadence(None, 4, 1500), 4000, 100) == [1500, 3000]


def test_left_open_it_follows_the_time_where_that_ends_a_training():
    assert moments(Cadence(None, 4, 100), 40_000, 100, speedup=10) == [1000, 2000, 3000, 4000]


def test_the_default_run_keeps_its_grids_and_checkpoints():
    images = load_config([str(CONFIGS / "gan/scenes.yaml")]).trainer.images
    assert moments(grids(None), images, 16) == list(range(10_000, images + 1, 10_000))
    assert moments(checkpoints(None), images, 16) == list(range(20_000, images + 1, 20_000))


@pytest.mark.parametrize("name", ["coco", "coco-256", "cc12m", "cub-256", "flickr30k"])
def test_a_training_for_gpus_is_not_held_up_by_grids_and_checkpoints(name):
    settings = load_config([str(CONFIGS / f"gan/{name}.yaml")]).trainer
    found = [
        moments(cadence(every), settings.images, settings.batch_size)
        for cadence, every in ((grids, settings.sample_every), (checkpoints, settings.checkpoint_every))
    ]
    assert [len(each) for each in found] == [100, 50] and settings.num_workers is None
