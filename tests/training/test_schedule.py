from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.callbacks import Timer

from cgan.config import load_config
from cgan.training import distributed
from cgan.training.distributed import Agreement
from cgan.training.schedule import Cadence, TrainingClock, checkpoints, grids, late_decay, progress_of
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


def test_a_training_of_minutes_keeps_its_grids_and_checkpoints():
    images = 120_000
    assert moments(grids(None), images, 16) == list(range(10_000, images + 1, 10_000))
    assert moments(checkpoints(None), images, 16) == list(range(20_000, images + 1, 20_000))


@pytest.mark.parametrize("name", ["coco", "coco-256", "cc12m", "cub-256", "flickr30k"])
def test_a_training_for_gpus_is_not_held_up_by_grids_and_checkpoints(name):
    settings = load_config([str(CONFIGS / f"gan/{name}.yaml")]).trainer
    found = [
        moments(cadence(every), settings.images, settings.batch_size)
        for cadence, every in ((grids, settings.sample_every), (checkpoints, settings.checkpoint_every))
    ]
    assert [len(each) for each in found] in ([100, 50], [99, 49])  # the last one ends with the training or before it
    assert settings.num_workers is None


class Others:
    """Other processes, whose numbers an exchange takes into account, and the time that passes in a step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, numbers: list[float], seconds: float) -> None:
        self.numbers, self.seconds, self.time, self.exchanges = numbers, seconds, 0.0, 0
        monkeypatch.setattr(distributed.distributed, "all_reduce", self.all_reduce)
        monkeypatch.setattr("time.monotonic", lambda: self.time)

    def all_reduce(self, found: torch.Tensor, kind: object) -> None:
        self.exchanges += 1
        found.copy_(found.maximum(torch.tensor([*self.numbers, 0.0], dtype=found.dtype)))

    def step(self) -> None:
        self.time += self.seconds


@pytest.mark.parametrize(("seconds", "exchanges"), [(0.001, 2 + 4), (0.1, 2 + 20), (3.0, 202)])
def test_processes_exchange_about_once_a_second_but_each_fifty_steps_or_each_long_one(seconds, exchanges, monkeypatch):
    others, agreement = Others(monkeypatch, [0.0], seconds), Agreement()
    for _ in range(202):
        agreement.exchange([1.0], torch.device("cpu"))
        others.step()
    assert others.exchanges == exchanges


def test_all_processes_learn_the_largest_number_in_the_step_of_an_exchange(monkeypatch):
    others, agreement = Others(monkeypatch, [0.0], 0.5), Agreement()
    assert agreement.exchange([0.0], torch.device("cpu")) == [0.0]
    others.numbers, found = [75.0], []
    for _ in range(3):
        others.step()
        found.append(agreement.exchange([0.0], torch.device("cpu")))
    assert found[0] == [75.0] and found[1] is None and found[2] == [75.0]


def trainer_of_two(clock: Timer, first: bool) -> SimpleNamespace:
    """One of two processes, as the clock sees it."""
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    return SimpleNamespace(
        world_size=2, is_global_zero=first, strategy=strategy, callbacks=[clock], global_step=0, max_steps=-1,
        should_stop=False,
    )  # fmt: skip


def test_all_processes_follow_the_clock_of_the_first_one(monkeypatch):
    others, clock = Others(monkeypatch, [0.25], 1.0), TrainingClock(timedelta(seconds=10))
    trainer = trainer_of_two(clock, first=False)
    clock.on_train_start(trainer, None)
    others.time = 9.0  # by the clock of this process, which is not the first
    assert progress_of(trainer) == 0.25
    others.numbers = [1.0]
    clock.on_train_batch_end(trainer)
    assert trainer.should_stop and progress_of(trainer) == 1.0


def test_the_clock_has_the_state_of_lightnings_timer():
    clock, timer = TrainingClock(timedelta(seconds=10)), Timer(timedelta(seconds=10))
    clock.load_state_dict({"time_elapsed": {"train": 4.0}})
    assert clock.state_key == timer.state_key and clock.share() == 0.4
    assert clock.state_dict().keys() == timer.state_dict().keys()
