"""The callbacks that keep a long training alive: checkpoints, an end on a signal, and checks of its health."""

from pathlib import Path

import pytorch_lightning as pl

from cgan.config import RunConfig
from cgan.interfaces import Report, silent
from cgan.training.callbacks.checkpointing import Checkpoints
from cgan.training.callbacks.health import CollapseSigns, FiniteLosses, SteppingRules
from cgan.training.callbacks.interrupts import Signals, StopOnSignal


def fault_tolerance_callbacks(
    config: RunConfig, run_dir: Path, report: Report = silent, handle_signals: bool = False
) -> list[pl.Callback]:
    """Returns the callbacks that must come last in a GAN's training: its checkpoints save the states of all others."""
    settings, num_kept = config.trainer, config.trainer.keep_checkpoints
    return [
        SteppingRules(settings.on_nan, settings.gradient_clip),
        *([FiniteLosses(run_dir)] if settings.on_nan == "stop" else []),
        CollapseSigns(config.gan.adversarial, settings.sample_every, report),
        Checkpoints(run_dir, settings.checkpoint_every, num_kept),
        StopOnSignal(Signals(handle_signals), run_dir, num_kept),
    ]
