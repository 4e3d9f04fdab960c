"""The Session: inputs that the stages of one training share, such as its settings, data set and run directory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
from rich.console import Console

from cgan.config import RunConfig
from cgan.interfaces import ImageTextDataset, Report, TextEncoder
from cgan.training.gan import ExtraLoss


class TrainingStopped(Exception):
    """Raised when a signal has ended a stage of a training; `status` is the exit status for that signal."""

    def __init__(self, status: int) -> None:
        super().__init__(f"a signal has ended the training, status {status}")
        self.status = status


@dataclass(frozen=True)
class Session:
    """The inputs of one call of train(), as its stages get them."""

    config: RunConfig
    run_dir: Path  # which this training has locked
    dataset: ImageTextDataset
    report: Report  # messages, a line each; called in the first process only
    console: Console | None  # where a progress bar is displayed
    handle_signals: bool
    text_encoder: TextEncoder | None  # the user's own
    callbacks: Sequence[pl.Callback]  # the user's own, of the last stage
    extra_losses: Mapping[str, ExtraLoss]  # the user's own, by name
