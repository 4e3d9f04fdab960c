"""Typed access to attributes that Lightning's connectors set on a Trainer, whose class does not declare them."""

from collections.abc import Collection, Mapping
from typing import TypeVar, cast

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.profilers import Profiler
from pytorch_lightning.trainer.connectors.logger_connector.result import _METRICS, _ResultCollection
from torch import Tensor

Kind = TypeVar("Kind", bound=Callback)
HOOKS_OF_A_STEP = (
    "on_train_batch_start", "on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_train_batch_end",
)  # fmt: skip


def callbacks_of_kind(trainer: Trainer, kind: type[Kind]) -> list[Kind]:
    """Returns the callbacks of a trainer that are of a class, in their order."""
    callbacks = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]  # set by a connector
    return [callback for callback in callbacks if isinstance(callback, kind)]


def pass_over_unused_hooks(trainer: Trainer) -> None:
    """Makes Lightning pass over the hooks of a step that callbacks inherit unchanged; it calls what is callable."""
    for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]  # set by a connector
        for hook in HOOKS_OF_A_STEP:
            if getattr(type(callback), hook) is getattr(Callback, hook) and hook not in vars(callback):
                setattr(callback, hook, None)


def profiler_of(trainer: Trainer) -> Profiler:
    """Returns the profiler of a trainer, one that does nothing where none was chosen."""
    return trainer.profiler  # pyright: ignore[reportAttributeAccessIssue]  # set by a connector


def is_logging_step(trainer: Trainer, step: int) -> bool:
    """Returns whether Lightning logs the metrics of a step, by its number from 1."""
    return step % trainer.log_every_n_steps == 0  # pyright: ignore[reportAttributeAccessIssue]  # set by a connector


class StepMetrics(_ResultCollection):
    """Lightning's metrics of a training loop, and beside those of self.log the `latest` ones of `record`.

    self.log takes about 0.3 ms for each metric in each step. A recorded metric costs an entry of a dictionary, and no
    device is waited for until a logger, or whoever looks at trainer.callback_metrics, reads its value.
    """

    def __init__(self, before: _ResultCollection) -> None:
        """Takes over what has been logged by self.log before."""
        super().__init__(before.training)
        self.update(before)
        self.batch, self.batch_size, self.dataloader_idx = before.batch, before.batch_size, before.dataloader_idx
        self.latest: dict[str, Tensor] = {}

    def __bool__(self) -> bool:
        """Whether there is any metric; Lightning does not look at an empty collection."""
        return len(self) + len(self.latest) > 0

    def metrics(self, on_step: bool) -> _METRICS:
        """Returns the metrics by who reads them; recorded ones are of steps, not of epochs."""
        found = super().metrics(on_step)
        if on_step:
            found["callback"] |= self.latest
            found["log"] |= self.latest
        return found


def record(trainer: Trainer | None, values: Mapping[str, Tensor | float]) -> None:
    """Makes scalars metrics of the present step, as self.log does: for loggers and for trainer.callback_metrics.

    A metric stays until it is recorded again, or until `keep_recorded` drops it. Tensors may be on any device; none
    is copied, moved or waited for. Without a trainer, for a module that is called by itself, it does nothing.
    """
    if trainer is None:
        return
    loop = trainer.fit_loop.epoch_loop
    if not isinstance(loop._results, StepMetrics):
        loop._results = StepMetrics(loop._results)
    for name, value in values.items():
        kept = value.detach() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
        cast(StepMetrics, loop._results).latest[name] = kept


def keep_recorded(trainer: Trainer, prefixes: tuple[str, ...], names: Collection[str]) -> None:
    """Drops recorded metrics whose names start with a prefix and are not among names: nothing updates them now."""
    if not isinstance(results := trainer.fit_loop.epoch_loop._results, StepMetrics):
        return
    for name in [name for name in results.latest if name.startswith(prefixes) and name not in names]:
        del results.latest[name]
        trainer.callback_metrics.pop(name, None)  # where Lightning keeps what has been logged
