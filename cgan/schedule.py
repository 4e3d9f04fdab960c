"""How far a training is, and what learning rates make of it."""

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Timer


def progress_of(trainer: Trainer) -> float:
    """How much of the training is over, in [0, 1]: of its steps, or of its time where that is limited and nearer."""
    shares = [trainer.global_step / trainer.max_steps if trainer.max_steps > 0 else 0.0]
    for timer in (callback for callback in trainer.callbacks if isinstance(callback, Timer)):
        shares.append(timer.time_elapsed() / (timer.time_elapsed() + timer.time_remaining()))
    return min(1.0, max(shares))


def late_decay(progress: float, decay_from: float) -> float:
    """A learning rate's factor: 1, then from a share of the training on falling linearly, to a twentieth at its end."""
    if decay_from >= 1:
        return 1.0
    return max(0.05, min(1.0, (1 - progress) / (1 - decay_from)))
