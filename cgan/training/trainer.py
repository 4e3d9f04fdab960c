"""Builds Lightning's Trainer for one process or several, and trains a module with it."""

import logging
import warnings
from collections import OrderedDict
from datetime import timedelta

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import Logger
from pytorch_lightning.strategies import Strategy
from torch.utils.data import DataLoader

from cgan.auto_precision import chosen_precision
from cgan.config import RunConfig, TrainerConfig
from cgan.data.loading import DeviceLoader, Reading, endless_loader, num_bytes_of
from cgan.files import CannotWrite
from cgan.interfaces import ImageTextDataset, Report, UserError, silent
from cgan.training.callbacks.checkpointing import Checkpoints
from cgan.training.callbacks.interrupts import EvaluationInterrupted, StopOnSignal, Stopped
from cgan.training.callbacks.seeding import SeededSteps
from cgan.training.callbacks.throughput import GAN_PARTS, JOINT_PARTS, Stopwatch, Throughput
from cgan.training.checkpoint_files import Found, PlainFiles, resume_hint
from cgan.training.connected import callbacks_of_kind, pass_over_unused_hooks
from cgan.training.distributed import SharedGradients, SyncTrainedBatchNorm
from cgan.training.loader_workers import device_of_pictures, num_readers
from cgan.training.loss_scaling import ScalerForEach
from cgan.training.processes import num_devices, num_processes_of
from cgan.training.schedule import TrainingClock


def silence_lightning() -> None:
    """Turns off Lightning's warnings and its hints about hardware and loggers, for the whole process."""
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)


def trainer_of(
    settings: TrainerConfig,
    max_steps: int,
    minutes: float | None,
    seed: int,
    loggers: list[Logger],
    callbacks: list[Callback],
    num_optimizers: int = 1,
) -> Trainer:
    """Returns the Trainer of a module with one or two optimizers.

    It stops after max_steps steps or, if `minutes` is given, after that time, in which evaluations do not count. seed
    determines the random numbers of each step. callbacks are called in their order, after those that cgan always uses.
    """
    several, watch = num_processes_of(settings) > 1, Stopwatch()
    precision = chosen_precision(settings.precision)
    parts = GAN_PARTS if num_optimizers > 1 else JOINT_PARTS
    clock = TrainingClock(None if minutes is None else timedelta(minutes=minutes))
    trainer = Trainer(
        max_steps=max(1, max_steps),
        precision=None if precision == "16-mixed" else precision,
        accelerator="cuda" if torch.cuda.is_available() else "cpu",  # not MPS, which has none of the metrics' float64
        devices=settings.devices if torch.cuda.is_available() else num_devices(settings.devices),
        num_nodes=settings.num_nodes,
        strategy=strategy_of(several, num_optimizers),
        plugins=plugins_of(precision, several and torch.cuda.is_available()),
        use_distributed_sampler=False,  # the loader shares batches out
        logger=loggers,
        callbacks=[clock, SeededSteps(seed), Throughput(parts, watch), *callbacks],
        profiler=watch,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        log_every_n_steps=20,
    )
    trainer._signal_connector.register_signal_handlers = lambda: None  # callbacks/interrupts.py handles signals
    shorten_steps(trainer)
    return trainer


def shorten_steps(trainer: Trainer) -> None:
    """Spares each step what Lightning asks anew each time, though it is known for the modules of cgan."""
    loop = trainer.fit_loop.epoch_loop
    loop._broadcast_sigterm_tensor = lambda: None  # callbacks/interrupts.py handles signals; this waits for the device
    loop._should_check_val_fx = lambda data_fetcher: False  # there are no validation loops
    loop._build_kwargs = lambda kwargs, batch, batch_idx: OrderedDict(batch=batch, batch_idx=batch_idx)
    pass_over_unused_hooks(trainer)


def plugins_of(precision: str, several_gpus: bool) -> list:
    """Returns Lightning's plugins: for checkpoint files, loss scales of 16-mixed, batch statistics of several GPUs."""
    device = "cuda" if torch.cuda.is_available() else "cpu"  # as the accelerator
    scaler = [ScalerForEach(device)] if precision == "16-mixed" else []
    return [PlainFiles(), *scaler, *([SyncTrainedBatchNorm()] if several_gpus else [])]


def strategy_of(several: bool, num_optimizers: int) -> str | Strategy:
    """Returns Lightning's strategy for gradients of several processes.

    SharedGradients for modules with two optimizers.
    """
    if not several:
        return "auto"
    return SharedGradients() if num_optimizers > 1 else "ddp_find_unused_parameters_true"


def fit(
    trainer: Trainer,
    module: LightningModule,
    dataset: ImageTextDataset,
    batch_size: int,
    config: RunConfig,
    found: Found | None = None,
    reading: Reading | None = None,
    report: Report = silent,
) -> int:
    """Trains a module on a data set, from the checkpoint `found` if it is given.

    reading says what the loader adds to captions; report gets its messages. batch_size counts the images of all
    processes together. One of the trainer's callbacks must be a StopOnSignal. Returns 0 at the end, or the exit status
    for a signal. Raises UserError if the disk is full, or if the checkpoint belongs to other networks.
    """
    start_index = found.content.get("draws", found.content["global_step"] * batch_size) if found else 0
    for callback in callbacks_of_kind(trainer, Checkpoints):
        callback.count_draws(start_index, batch_size)
    loader = loader_of(trainer, dataset, batch_size, config, start_index, reading, report)
    (stop,) = callbacks_of_kind(trainer, StopOnSignal)
    try:
        with stop.signals:
            trainer.fit(module, loader, ckpt_path=found and found.path, weights_only=True)
    except Stopped:
        return stop.signals.status
    except EvaluationInterrupted:
        stop.save(trainer)
        return stop.signals.status
    except SystemExit as end:
        if end.code == 1:  # what Lightning makes of a second Ctrl-C
            raise KeyboardInterrupt from end
        raise
    except CannotWrite as error:
        raise UserError(f"{error}; {resume_hint(stop.folder)}" if stop.folder else str(error)) from error
    except RuntimeError as error:
        if found is None or "in loading state_dict" not in str(error):
            raise
        raise UserError(f"{found.path}: of other networks than the settings of this run describe") from error
    finally:
        if isinstance(loader, DeviceLoader):
            loader.release()
    return 0


def loader_of(
    trainer: Trainer,
    dataset: ImageTextDataset,
    batch_size: int,
    config: RunConfig,
    start_index: int,
    reading: Reading | None,
    report: Report,
) -> DataLoader | DeviceLoader:
    """Returns the loader of a training: of this process's share of each batch, with readers and pictures placed."""
    settings, (rank, ranks) = config.trainer, (trainer.global_rank, trainer.world_size)
    device = device_of_pictures(settings.pictures_on_device, dataset, trainer.strategy.root_device)
    if device is not None:
        report(f"the pictures lie on {device}: {num_bytes_of(dataset) / 1e6:,.0f} MB")
    batch_bytes = batch_size // ranks * (8 if device is not None else 3 * config.data.resolution**2)
    light = device is not None and reading is not None and reading.table is not None  # rows of tables alone are read
    readers = num_readers(settings.num_workers, batch_bytes, num_devices(settings.devices), light)
    return endless_loader(dataset, batch_size, config.seed, readers, start_index, rank, ranks, reading, device)
