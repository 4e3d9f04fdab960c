"""train(config): the whole training of a configuration, in a run directory of its own."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytorch_lightning as pl
from rich.console import Console

from cgan.auto_precision import chosen_precision
from cgan.config import RunConfig
from cgan.data.sources import build_dataset
from cgan.errors import CTRL_C, REQUEUE
from cgan.interfaces import ImageTextDataset, Report, TextEncoder, silent
from cgan.training.checks import check_batches, check_before_training, check_labels
from cgan.training.gan import ExtraLoss
from cgan.training.gan_run import planned_evaluation, train_gan
from cgan.training.joint_run import train_joint
from cgan.training.processes import from_first_process
from cgan.training.resume import chosen_run, is_finished
from cgan.training.run_directory import begin, taken
from cgan.training.session import Session, TrainingStopped
from cgan.training.trainer import silence_lightning

if TYPE_CHECKING:
    from cgan.evaluation.plan import Plan

Status = Literal["finished", "already finished", "stopped", "interrupted"]
STATUS: dict[int, Status] = {0: "finished", REQUEUE: "stopped", CTRL_C: "interrupted"}


@dataclass(frozen=True)
class TrainResult:
    """The result of a training."""

    run_dir: Path
    checkpoint: Path  # last.ckpt of a GAN, joint.safetensors of a joint encoder; not there if stopped too early
    metrics: dict[str, float]  # the last evaluation's, by name; empty where nothing was evaluated
    status: Status  # stopped: by SIGTERM or SIGUSR1; interrupted: by Ctrl-C
    images_seen: int = 0  # 0 where nothing was trained
    seconds: float = 0.0

    @property
    def exit_status(self) -> int:
        """The exit status of a process that has done nothing else: 0, 75 if stopped, 130 if interrupted."""
        return {"stopped": REQUEUE, "interrupted": CTRL_C}.get(self.status, 0)


def train(
    config: RunConfig,
    dataset: ImageTextDataset | None = None,
    text_encoder: TextEncoder | None = None,
    callbacks: Sequence[pl.Callback] = (),
    extra_losses: Mapping[str, ExtraLoss] | None = None,
    report: Report = silent,
    console: Console | None = None,
    handle_signals: bool = False,
) -> TrainResult:
    """Train what a configuration describes, in one call: a joint encoder where one is needed, then the GAN.

    All is written into a run directory: config.run_dir, or a new one under runs/. config.resume goes on with a run
    exactly where it stopped. config itself is not changed.

    dataset: pictures in place of config.data's, a sequence of Samples at data.resolution with captions_of(index).
    text_encoder: a trained text encoder in place of config.text's; it is frozen.
    callbacks: Lightning callbacks of the last stage, called after cgan's own and before checkpoints are written.
    extra_losses: terms of the generator's loss by name, each a function (fakes, real, text) -> scalar of images
        (B, 3, H, W) in [-1, 1] and the features of their captions; logged as loss/NAME.
    report: is called with each message, in the first process only; print is one.
    console: where a progress bar is displayed, if it is a terminal.
    handle_signals: whether SIGTERM, SIGUSR1 and Ctrl-C end the training after its step, with a checkpoint. It installs
        signal handlers for the time of the training, so it is for the main thread of a script.

    Raises UserError for a mistake in settings, pictures or weights, for a run directory that another training uses, a
    full disk and losses that are not finite; FirstProcessReports in the other processes, where the first raises it.
    """
    report = from_first_process(report)
    silence_lightning()
    config = with_own_parts(config, dataset, text_encoder)
    config, run_dir, finished = checked_run(config, dataset, report)
    if finished:
        return already_finished(config, run_dir, report)
    with taken(config, run_dir) as run_dir:
        pl.seed_everything(config.seed, verbose=False)
        config = replace(config, trainer=replace(config.trainer, precision=chosen_precision(config.trainer.precision)))
        plan = planned_evaluation(config, report) if config.task == "gan" else None
        dataset = opened(config, dataset, run_dir, report)
        own = text_encoder, tuple(callbacks), dict(extra_losses or {})
        return train_stages(Session(config, run_dir, dataset, report, console, handle_signals, *own), plan)


def checked_run(config: RunConfig, dataset: ImageTextDataset | None, report: Report) -> tuple[RunConfig, Path, bool]:
    """Returns the settings of a training, its run directory, and whether it is finished; raises UserError for mistakes.

    A new run is checked before it has a directory; one that goes on by the settings of its own, unless it is finished.
    """
    is_new = config.resume is None
    if is_new:
        check_before_training(config, report, dataset)
    config, run_dir = chosen_run(config, f"{datetime.now():%Y%m%d-%H%M%S}", report)
    finished = config.resume is not None and is_finished(run_dir, config)
    if not is_new and not finished:
        check_before_training(config, report, dataset)
    return config, run_dir, finished


def already_finished(config: RunConfig, run_dir: Path, report: Report) -> TrainResult:
    """Returns the result of a run that is already finished; report gets the command that trains it for longer."""
    more = f"; more of it: cgan train --resume {run_dir} trainer.images=..." if config.task == "gan" else ""
    report(f"{run_dir} is finished{more}")
    return TrainResult(run_dir, checkpoint_in(run_dir, config), {}, "already finished")


def with_own_parts(config: RunConfig, dataset: ImageTextDataset | None, text_encoder: TextEncoder | None) -> RunConfig:
    """Returns the configuration, in which parts that are given in Python are called custom."""
    if dataset is not None:
        config = replace(config, data=replace(config.data, source="custom"))
    if text_encoder is not None:
        config = replace(config, text=replace(config.text, encoder="custom"))
    return config


def opened(config: RunConfig, dataset: ImageTextDataset | None, run_dir: Path, report: Report) -> ImageTextDataset:
    """Returns the pictures to train on, after the settings have been written into the run directory."""
    if dataset is None:
        report(preparing(config))
        dataset = build_dataset(config.data)
        report_skipped(dataset, report)
    check_batches(config, len(dataset))
    check_labels(config, dataset)
    begin(config, run_dir, dataset, report)
    report(f"{len(dataset)} pictures at {config.data.resolution} px; the run directory is {run_dir}")
    return dataset


def preparing(config: RunConfig) -> str:
    """Returns the message before pictures are read, which may take minutes where they are not in the cache yet."""
    if config.data.source == "scenes":
        return f"preparing {config.data.num_images:,} scenes (rendered once, then cached)"
    return f"preparing the pictures in {config.data.root} (decoded once, then cached)"


def report_skipped(dataset: ImageTextDataset, report: Report) -> None:
    """Report the pictures that can't be used, where there are any."""
    from cgan.data.pictures import CaptionedPictures, summary
    from cgan.data.shards import ShardedPictures

    skipped = dataset.skipped if isinstance(dataset, CaptionedPictures | ShardedPictures) else []
    if skipped:
        report(f"skipped {len(skipped)} of {len(dataset) + len(skipped)} pictures: {summary(skipped)}")


def train_stages(session: Session, plan: "Plan | None") -> TrainResult:
    """Train the stages of a task; a signal that has ended one of them is in the result's status."""
    config, run_dir, start = session.config, session.run_dir, time.monotonic()
    try:
        match config.task:
            case "gan":
                seen, metrics, status = train_gan(session, plan)
            case "joint":
                seen, metrics, status = train_joint(session)
            case unknown:
                raise ValueError(f"no such task: {unknown}")
    except TrainingStopped as stopped:
        seen, metrics, status = 0, {}, stopped.status
    seconds = time.monotonic() - start
    return TrainResult(run_dir, checkpoint_in(run_dir, config), metrics, STATUS[status], seen, seconds)


def checkpoint_in(run_dir: Path, config: RunConfig) -> Path:
    """Returns the file that sampling or retrieval loads from a run directory."""
    return run_dir / ("last.ckpt" if config.task == "gan" else "joint.safetensors")
