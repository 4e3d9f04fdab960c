"""How far a training is, what learning rates make of it, and what of a training's time does not count."""

import math
import time

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Timer


def progress_of(trainer: Trainer) -> float:
    """How much of the training is over, in [0, 1]: of its steps, or of its time where that is limited and nearer.

    Clocks differ, so the first process tells the others: all must ask, and at the same time.
    """
    shares = [trainer.global_step / trainer.max_steps if trainer.max_steps > 0 else 0.0]
    timers = [timer for timer in timers_of(trainer) if timer.time_remaining() is not None]
    for timer in timers:
        shares.append(timer.time_elapsed() / (timer.time_elapsed() + timer.time_remaining()))
    progress = min(1.0, max(shares))
    return trainer.strategy.broadcast(progress) if timers else progress


def timers_of(trainer: Trainer) -> list[Timer]:
    return [callback for callback in trainer.callbacks if isinstance(callback, Timer)]


def minutes_of(trainer: Trainer) -> float:
    """That a training took until now, in all of its parts if it was resumed; 0 where nobody counts them."""
    return max((timer.time_elapsed() / 60 for timer in timers_of(trainer)), default=0.0)


def leave_uncounted(trainer: Trainer, seconds: float) -> None:
    """Of the training's time, which something else has taken: limited in time, it goes on for as long."""
    for timer in timers_of(trainer):
        if timer.start_time() is not None and timer.end_time() is None:
            earlier = timer.time_elapsed() - (time.monotonic() - timer.start_time())
            timer.load_state_dict({"time_elapsed": {"train": earlier - seconds}})


class Cadence:
    """How often something that recurs is due: every so many images, 0 for never.

    Left open (None) it is due so many times in a training, at equal shares of it, but with at least so many images
    between: a small training and one of days need not be told apart.
    """

    def __init__(self, every_images: int | None, times: int, least_images: int) -> None:
        self.every_images, self.times, self.least_images = every_images, times, least_images

    @property
    def never(self) -> bool:
        return self.every_images == 0

    def count(self, images_seen: int, progress: float) -> int:
        """How many times until now; it is due when this grows."""
        if self.every_images is None:
            return min(images_seen // self.least_images, int(progress * self.times))
        return images_seen // self.every_images if self.every_images > 0 else 0


def grids(every_images: int | None) -> Cadence:
    """Of pictures that show how a training goes: 100 by default."""
    return Cadence(every_images, times=100, least_images=10_000)


def checkpoints(every_images: int | None) -> Cadence:
    """50 by default: what is lost when a machine fails is at most 2 % of the training, or 20,000 images."""
    return Cadence(every_images, times=50, least_images=20_000)


def late_decay(progress: float, decay_from: float, last: float = 0.05) -> float:
    """A learning rate's factor: 1 up to a share of the training, then on a line that reaches the last at its end."""
    if progress <= decay_from:
        return 1.0
    return 1 - (1 - last) * (progress - decay_from) / (1 - decay_from)


def by_cosine(progress: float, first: float, last: float | None) -> float:
    """From the first to the last value of a training along half a cosine; the first where there is no last."""
    if last is None:
        return first
    return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2
