"""Ends a training on a signal: after the current step, with a checkpoint; an evaluation ends at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from cgan.errors import CTRL_C, REQUEUE
from cgan.sharding import num_processes
from cgan.training.callbacks.checkpointing import save_if_healthy

STATUS: dict[int, int] = {signal.SIGTERM: REQUEUE, signal.SIGUSR1: REQUEUE, signal.SIGINT: CTRL_C}


class EvaluationInterrupted(Exception):
    """Raised when a signal comes during an evaluation, which may take longer than the job has time."""


class InterruptState:
    """Records whether a signal has arrived (pending) and whether it may end the running code (interruptible)."""

    pending = interruptible = False


@contextmanager
def interruptible() -> Iterator[None]:
    """Lets a signal end the block at once with EvaluationInterrupted, in a training by one process.

    Several processes finish the block together, and stop after it.
    """
    if num_processes() > 1:
        yield
        return
    if InterruptState.pending:
        raise EvaluationInterrupted
    InterruptState.interruptible = True
    try:
        yield
    finally:
        InterruptState.interruptible = False


class Stopped(Exception):
    """Raised when a signal has ended the training, between two steps."""


class Signals:
    """A context in which SIGTERM, SIGUSR1 and Ctrl-C set `status` to their exit status and let the step end.

    A second Ctrl-C raises KeyboardInterrupt. On leaving, the handlers are as they were before. With handle=False no
    handler is installed, as a library must not do so unasked; then status stays 0. The same holds outside of the main
    thread, where Python allows no handler.
    """

    def __init__(self, handle: bool = True) -> None:
        self.status, self.handle = 0, handle
        self.before: dict[int, Any] = {}  # handlers, by the signal's number

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            self.before = {signal.SIGINT: signal.getsignal(signal.SIGINT)}  # Lightning ignores it after a Ctrl-C
            heeded = [number for number in STATUS if signal.getsignal(number) != signal.SIG_IGN]
            for number in heeded if self.handle else ():
                self.before[number] = signal.signal(number, self.on_signal)
        return self

    def __exit__(self, *_) -> None:
        InterruptState.pending = False
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def on_signal(self, number: int, _) -> None:
        """Handles a signal: sets the status, and ends an evaluation that is running."""
        if self.status == CTRL_C and number == signal.SIGINT:
            raise KeyboardInterrupt  # the second Ctrl-C
        self.status, InterruptState.pending = STATUS[number], True
        if InterruptState.interruptible:
            raise EvaluationInterrupted


class StopOnSignal(pl.Callback):
    """Raises Stopped in all processes of a training after a step in which any of them has received a signal.

    With a folder, last.ckpt is written into it first, and num_kept checkpoints are kept.
    """

    def __init__(self, signals: Signals, folder: Path | None = None, num_kept: int = 1) -> None:
        self.signals, self.folder, self.num_kept = signals, folder, num_kept

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, *_) -> None:
        """Writes a checkpoint and raises Stopped, if any process has received a signal."""
        status = self.signals.status
        if trainer.world_size > 1:
            received = torch.tensor(status, device=trainer.strategy.root_device)
            status = self.signals.status = int(trainer.strategy.reduce(received, reduce_op="max"))
        if not status:
            return
        self.save(trainer)
        raise Stopped

    def save(self, trainer: pl.Trainer) -> None:
        """Write last.ckpt, where a folder is given."""
        if self.folder is not None:
            save_if_healthy(trainer, self.folder / "last.ckpt", self.num_kept)
