"""Computes the progress of a training, its learning rates, and when recurring events are due."""

import math
import time

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Timer

from cgan.training.connected import callbacks_of_kind


def progress_of(trainer: Trainer) -> float:
    """Returns how much of a training is over, in [0, 1]: of its steps, or of its time where that is limited and nearer.

    Clocks differ, so the first process broadcasts its value: all processes must call it at the same time.
    """
    shares = [trainer.global_step / trainer.max_steps if trainer.max_steps > 0 else 0.0]
    limited = False
    for timer in timers_of(trainer):
        remaining = timer.time_remaining()
        if remaining is not None:
            limited = True
            shares.append(timer.time_elapsed() / (timer.time_elapsed() + remaining))
    progress = min(1.0, max(shares))
    return trainer.strategy.broadcast(progress) if limited else progress


def timers_of(trainer: Trainer) -> list[Timer]:
    """Returns the Timer callbacks of a trainer."""
    return callbacks_of_kind(trainer, Timer)


def minutes_of(trainer: Trainer) -> float:
    """Returns the minutes a training took until now, before it was resumed as well; 0 where no Timer counts them."""
    return max((timer.time_elapsed() / 60 for timer in timers_of(trainer)), default=0.0)


def pause_training_clock(trainer: Trainer, seconds: float) -> None:
    """Subtracts seconds from the time of a training, so that they do not count towards its limit."""
    for timer in timers_of(trainer):
        start = timer.start_time()
        if start is not None and timer.end_time() is None:
            earlier = timer.time_elapsed() - (time.monotonic() - start)
            timer.load_state_dict({"time_elapsed": {"train": earlier - seconds}})


class Cadence:
    """How often a recurring event is due: every `every_images` images, never if that is 0.

    If it is None, the event is due `times` times in a training, at equal intervals of at least `least_images` images.
    So one default serves trainings of minutes and of days.
    """

    def __init__(self, every_images: int | None, times: int, least_images: int) -> None:
        self.every_images, self.times, self.least_images = every_images, times, least_images

    @property
    def never(self) -> bool:
        """Whether the event is never due."""
        return self.every_images == 0

    def count(self, images_seen: int, progress: float) -> int:
        """Returns how often the event was due until images_seen, at a progress in [0, 1].

        It is due when this number grows.
        """
        if self.every_images is None:
            return min(images_seen // self.least_images, int(progress * self.times))
        return images_seen // self.every_images if self.every_images > 0 else 0


def grids(every_images: int | None) -> Cadence:
    """Returns the cadence of sample grids: 100 in a training by default."""
    return Cadence(every_images, times=100, least_images=10_000)


def checkpoints(every_images: int | None) -> Cadence:
    """Returns the cadence of checkpoints: 50 by default, so that a failure costs at most 2 % or 20,000 images."""
    return Cadence(every_images, times=50, least_images=20_000)


def late_decay(progress: float, decay_from: float, last: float = 0.05) -> float:
    """Returns a learning rate's factor: 1 until `decay_from`, then falling linearly to `last` at the end."""
    if progress <= decay_from:
        return 1.0
    return 1 - (1 - last) * (progress - decay_from) / (1 - decay_from)


def by_cosine(progress: float, first: float, last: float | None) -> float:
    """Returns the value at a progress in [0, 1] on half a cosine from `first` to `last`; `first` where last is None."""
    if last is None:
        return first
    return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2
