"""Computes the progress of a training, its learning rates, and when recurring events are due."""

import math
import time
from datetime import timedelta

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Timer

from cgan.training.connected import callbacks_of_kind
from cgan.training.distributed import Agreement


class TrainingClock(Timer):
    """Ends a training when its time is over, and says which share of the time is.

    Clocks differ, so several processes follow that of the first one, which they agree on about once a second.
    Lightning's Timer broadcasts in each step, and each process waits for its device then.
    """

    def __init__(self, duration: timedelta | None) -> None:
        """Sets the time of the training; None does not limit it."""
        super().__init__(duration)
        self.agreement = Agreement()
        self.agreed: float | None = None  # the share of the time, in several processes

    @property
    def state_key(self) -> str:
        """The key of this callback's state in a checkpoint: the name of Lightning's class."""
        return "Timer"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock; several processes agree for the first time."""
        super().on_train_start(trainer, pl_module)
        self.agreement, self.agreed = Agreement(), None
        self.agree(trainer)

    def on_train_batch_end(self, trainer: Trainer, *_) -> None:
        """Ends the training of all processes where the time is over."""
        self.agree(trainer)
        if (self.share() or 0.0) >= 1:
            trainer.should_stop = True

    def agree(self, trainer: Trainer) -> None:
        """Exchange the share of the time, if it is limited, there are several processes, and it is due in this step."""
        share = elapsed_share(self)
        if share is None or trainer.world_size == 1:
            return
        found = self.agreement.exchange([share * trainer.is_global_zero], trainer.strategy.root_device)
        if found is not None:
            self.agreed = found[0]

    def share(self) -> float | None:
        """Returns the share of the time that is over, alike in all processes; None where the time is not limited."""
        return elapsed_share(self) if self.agreed is None else self.agreed


def elapsed_share(timer: Timer) -> float | None:
    """Returns the share of a timer's time that is over by this process's clock; None where it is not limited."""
    elapsed, remaining = timer.time_elapsed(), timer.time_remaining()
    return None if remaining is None else elapsed / (elapsed + remaining)


def progress_of(trainer: Trainer) -> float:
    """Returns how much of a training is over, in [0, 1]: of its steps, or of its time where that is limited and nearer.

    It is the same in all processes. Where a Timer of Lightning's own limits the time they wait for each other here.
    """
    shares = [trainer.global_step / trainer.max_steps if trainer.max_steps > 0 else 0.0]
    alike = True
    for timer in timers_of(trainer):
        by_clock = isinstance(timer, TrainingClock)
        share = timer.share() if by_clock else elapsed_share(timer)
        if share is not None:
            shares.append(share)
            alike = alike and by_clock
    progress = min(1.0, max(shares))
    return progress if alike else trainer.strategy.broadcast(progress)


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
