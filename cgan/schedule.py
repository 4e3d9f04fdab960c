"""How far a training is, and what learning rates make of it."""

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Timer


def progress_of(trainer: Trainer) -> float:
    """How much of the training is over, in [0, 1]: of its steps, or of its time where that is limited and nearer.

    Clocks differ, so the first process tells the others: all must ask, and at the same time.
    """
    shares = [trainer.global_step / trainer.max_steps if trainer.max_steps > 0 else 0.0]
    timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]
    for timer in timers:
        shares.append(timer.time_elapsed() / (timer.time_elapsed() + timer.time_remaining()))
    progress = min(1.0, max(shares))
    return trainer.strategy.broadcast(progress) if timers else progress


def late_decay(progress: float, decay_from: float) -> float:
    """A learning rate's factor: 1, then from a share of the training on falling linearly, to a twentieth at its end."""
    if decay_from >= 1:
        return 1.0
    return max(0.05, min(1.0, (1 - progress) / (1 - decay_from)))
