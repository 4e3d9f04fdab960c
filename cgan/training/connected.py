"""Typed access to attributes that Lightning's connectors set on a Trainer, whose class does not declare them."""

from typing import TypeVar

from pytorch_lightning import Callback, Trainer
from pytorch_lightning.profilers import Profiler

Kind = TypeVar("Kind", bound=Callback)


def callbacks_of_kind(trainer: Trainer, kind: type[Kind]) -> list[Kind]:
    """Returns the callbacks of a trainer that are of a class, in their order."""
    callbacks = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]  # set by a connector
    return [callback for callback in callbacks if isinstance(callback, kind)]


def profiler_of(trainer: Trainer) -> Profiler:
    """Returns the profiler of a trainer, one that does nothing where none was chosen."""
    return trainer.profiler  # pyright: ignore[reportAttributeAccessIssue]  # set by a connector


def is_logging_step(trainer: Trainer, step: int) -> bool:
    """Returns whether Lightning logs the metrics of a step, by its number from 1."""
    return step % trainer.log_every_n_steps == 0  # pyright: ignore[reportAttributeAccessIssue]  # set by a connector
