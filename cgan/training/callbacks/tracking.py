"""Callback that keeps a run's page in W&B: whole rows, alerts, and the weights of best.ckpt and last.ckpt."""

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger

from cgan.errors import FirstProcessReports
from cgan.interfaces import Report, silent
from cgan.metrics.names import HIGHER, LOWER, PREFERRED
from cgan.training.callbacks.interrupts import EvaluationInterrupted, Stopped
from cgan.training.wandb_logger import PatientWandb

ENDED = (Stopped, EvaluationInterrupted, KeyboardInterrupt)  # by the user or the cluster


class RunTracking(pl.Callback):
    """Sends alerts of warnings, failures and the end of a training to W&B, and each step's row before the next step.

    loggers: those of the run; all but W&B's are ignored. name: that of the run. latest gives the last metrics, for the
    alert at the end. The callback must come before the one that writes checkpoints, so that a checkpoint never holds a
    step whose row has not been sent.
    """

    def __init__(self, loggers: Sequence[Logger], name: str, latest: Callable[[], dict[str, float]] = dict) -> None:
        self.loggers = [logger for logger in loggers if isinstance(logger, PatientWandb)]
        self.name, self.latest = name, latest

    def warning(self, report: Report = silent) -> Report:
        """Returns a receiver of warnings that passes each on to report, and to W&B as an alert."""

        def receive(message: str) -> None:
            report(message)
            for logger in self.loggers:
                logger.alert(f"{self.name}: warning", message, "WARN")

        return receive

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, *_) -> None:
        """Sends the row of the step before."""
        for logger in self.loggers:
            logger.flush()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        """Sends an alert of how a training ended before its time."""
        if isinstance(exception, FirstProcessReports):
            return
        stopped = isinstance(exception, ENDED)
        title = "stopped" if stopped else "not finite" if "not finite" in str(exception) else "failed"
        text = f"after step {trainer.global_step}: {str(exception) or type(exception).__name__}"
        for logger in self.loggers:
            logger.alert(f"{self.name}: {title}", text, "INFO" if stopped else "ERROR")

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Sends an alert that the training has come to its end, with the last metrics that count most."""
        values = self.latest()
        names = [name for name in dict.fromkeys(PREFERRED + HIGHER + LOWER) if name in values][:5]
        reached = ", ".join(f"{name} {values[name]:.3g}" for name in names)
        for logger in self.loggers:
            logger.alert(f"{self.name}: finished", f"after {trainer.global_step} steps{reached and f': {reached}'}")

    def log_models(self, checkpoints: dict[str, Path], metrics: dict[str, dict]) -> None:
        """Log the weights of checkpoints, by the alias of each, with its metrics; equal ones are one version.

        The weights are those that sampling needs, in half precision.
        """
        for aliases in same_images(checkpoints, metrics) if self.loggers else []:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "model.safetensors"
                for logger in self.loggers:
                    logger.attempt(write_weights, checkpoints[aliases[0]], file)
                    logger.log_model(file, aliases, metrics[aliases[0]])


def same_images(checkpoints: dict[str, Path], metrics: dict[str, dict]) -> list[list[str]]:
    """Returns the aliases of those checkpoints that exist, together where they are of the same images seen."""
    found: dict[float, list[str]] = {}
    for alias, path in checkpoints.items():
        if path.is_file():
            found.setdefault(metrics[alias].get("images_seen", -1), []).append(alias)
    return list(found.values())


def write_weights(checkpoint: Path, file: Path) -> None:
    """Write what sampling needs of a checkpoint to a .safetensors file, in half precision."""
    from cgan.sampling.weights import read, write

    spec, tensors = read(checkpoint)
    write(file, tensors, half=True, metadata={"sampler": json.dumps(spec)})


def finish(loggers: Sequence[Logger], status: int) -> None:
    """Ends the W&B run of loggers; status is the exit status of the training."""
    for logger in loggers:
        if isinstance(logger, PatientWandb):
            logger.finish(status)
