"""One training by Lightning, in one process or in several: its trainer, its batches, and the Ctrl-C that may end it."""

import os
from datetime import timedelta
from pathlib import Path

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.strategies import Strategy
from pytorch_lightning.utilities import rank_zero_only
from torch.utils.data import Dataset

from cgan.config import TrainerConfig
from cgan.data.loading import endless_loader
from cgan.errors import CTRL_C
from cgan.files import CannotWrite
from cgan.interfaces import UserError
from cgan.training.callbacks.recovery import Checkpoints, StopOnSignal, Stopped
from cgan.training.callbacks.samples import SeededSteps
from cgan.training.callbacks.throughput import GAN_PARTS, JOINT_PARTS, Gauges, Stopwatch
from cgan.training.checkpoints import Found, Hurried, PlainFiles, last_word
from cgan.training.distributed import SharedGradients, SyncTrainedBatchNorm
from cgan.training.loader_workers import num_readers
from cgan.training.scaling import ScalerForEach
from cgan.workers import num_cores


@rank_zero_only
def say(text: str) -> None:
    """Print a line, once however many processes train."""
    print(text, flush=True)


def is_first_process() -> bool:
    """The one that speaks and writes, also before the others have met."""
    return rank_zero_only.rank == 0


def num_devices(devices: str) -> int:
    """How many of the processors it may use take part, one process each; raises UserError for what is no number."""
    present = torch.cuda.device_count() if torch.cuda.is_available() else num_cores()
    if devices in ("auto", "-1"):
        return present if torch.cuda.is_available() else 1
    listed = devices.strip("[]").split(",")
    if not all(part.strip().isdigit() for part in listed) or listed == ["0"]:
        raise UserError(f"trainer.devices={devices}: give a number, a list such as 0,1, or auto")
    count = len(listed) if len(listed) > 1 else int(devices)
    if count > present:
        raise UserError(f"trainer.devices={devices}: this process may use {present}")
    return count


def num_processes_of(settings: TrainerConfig) -> int:
    """On all machines together."""
    return num_devices(settings.devices) * settings.num_nodes


def whole_batch(settings: TrainerConfig, batch_size: int, num_images: int, key: str, parts: int = 1) -> int:
    """The pictures of a step of all processes together: not more than there are, and as many in each part of each.

    Raises UserError where that is impossible.
    """
    processes = num_processes_of(settings)
    if parts < 1:
        raise UserError(f"gan.accumulate={parts}: must be at least 1")
    shared = f"{processes} processes that share each batch" + f" in {parts} parts each" * (parts > 1)
    if batch_size % (processes * parts):
        raise UserError(f"{key}={batch_size}: not a multiple of the {shared}")
    if num_images < processes * parts:
        raise UserError(f"{num_images} pictures are too few for {shared}; lower trainer.devices or gan.accumulate")
    return min(batch_size, num_images - num_images % (processes * parts))


def trainer_of(
    settings: TrainerConfig,
    max_steps: int,
    minutes: float | None,
    seed: int,
    loggers: list,
    callbacks: list,
    players: int = 1,
) -> Trainer:
    """Ends after max_steps, and after so many minutes where they are limited; measuring is not counted in these."""
    several, watch = num_processes_of(settings) > 1, Stopwatch()
    timer = Timer(None if minutes is None else timedelta(minutes=minutes))
    trainer = Trainer(
        max_steps=max(1, max_steps),
        precision=None if settings.precision == "16-mixed" else settings.precision,
        accelerator="cuda" if torch.cuda.is_available() else "cpu",  # not MPS, which has none of the metrics' float64
        devices=settings.devices if torch.cuda.is_available() else num_devices(settings.devices),
        num_nodes=settings.num_nodes,
        strategy=strategy_of(several, players),
        plugins=plugins_of(settings.precision, several and torch.cuda.is_available()),
        use_distributed_sampler=False,  # the loader shares batches out
        logger=loggers,
        callbacks=[timer, SeededSteps(seed), Gauges(GAN_PARTS if players > 1 else JOINT_PARTS, watch), *callbacks],
        profiler=watch,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        log_every_n_steps=20,
    )
    trainer._signal_connector.register_signal_handlers = lambda: None  # callbacks/recovery.py hears signals
    return trainer


def plugins_of(precision: str, several_gpus: bool) -> list:
    """How checkpoints are written, and what 16-bit floats and batch normalisation in several processes need."""
    device = "cuda" if torch.cuda.is_available() else "cpu"  # as the accelerator
    scaler = [ScalerForEach(device)] if precision == "16-mixed" else []
    return [PlainFiles(), *scaler, *([SyncTrainedBatchNorm()] if several_gpus else [])]


def strategy_of(several: bool, players: int) -> str | Strategy:
    if not several:
        return "auto"
    return SharedGradients() if players > 1 else "ddp_find_unused_parameters_true"


def fit(
    trainer: Trainer, module: LightningModule, dataset: Dataset, batch_size: int, config, found: Found | None = None
) -> int:
    """Train, from a checkpoint if one is found; returns 0 at the end, or the exit status that a signal asks for."""
    settings, (rank, ranks) = config.trainer, (trainer.global_rank, trainer.world_size)
    behind = found.content.get("draws", found.content["global_step"] * batch_size) if found else 0
    for callback in trainer.callbacks:
        if isinstance(callback, Checkpoints):
            callback.count_draws(behind, batch_size)
    batch_bytes = batch_size // ranks * 3 * config.data.resolution**2
    readers = num_readers(settings.num_workers, batch_bytes, num_devices(settings.devices))
    loader = endless_loader(dataset, batch_size, config.seed, readers, behind, rank, ranks)
    (stop,) = (callback for callback in trainer.callbacks if isinstance(callback, StopOnSignal))
    try:
        with stop.signals:
            trainer.fit(module, loader, ckpt_path=found and found.path, weights_only=True)
    except Stopped:
        return stop.signals.status
    except Hurried:
        stop.save(trainer)
        return stop.signals.status
    except SystemExit as end:
        if end.code == 1:  # what Lightning makes of a second Ctrl-C
            leave(CTRL_C)
        raise
    except CannotWrite as error:
        raise UserError(f"{error}; {last_word(stop.folder)}" if stop.folder else str(error)) from error
    except RuntimeError as error:
        if found is None or "in loading state_dict" not in str(error):
            raise
        raise UserError(f"{found.path}: of other networks than the settings of this run describe") from error
    return 0


def leave(status: int) -> None:
    """End by a signal's status. Lightning kills the first process when another one's is not 0."""
    raise SystemExit(status if is_first_process() else 0)


AGREED = "CGAN_RUN_DIR"  # by which the processes that Lightning starts know the run directory of the first


def job_name() -> str:
    """What a cluster calls this job; empty outside of one."""
    return os.environ.get("SLURM_JOB_ID") or os.environ.get("TORCHELASTIC_RUN_ID", "none").replace("none", "")


def chosen_run_dir(name: str, time: str, settings: TrainerConfig) -> Path:
    """The directory that a new run would like to have, or that the first process has taken.

    Raises UserError where processes can't agree on one.
    """
    started_together = int(os.environ.get("WORLD_SIZE", 1)) > 1 and AGREED not in os.environ
    if started_together and not job_name():
        raise UserError("run_dir is not set; processes that torchrun starts need it to agree: run_dir=runs/NAME")
    return Path(os.environ.get(AGREED) or f"runs/{name}-{job_name() or time}")
