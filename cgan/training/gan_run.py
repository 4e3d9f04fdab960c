"""Trains the GAN of a configuration, after the joint encoder that it uses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytorch_lightning as pl
import torch

from cgan.config import RunConfig, uses_joint_encoder
from cgan.data.loading import Reading
from cgan.errors import REQUEUE
from cgan.figures.sheets import CAPTIONS, CHINESE_CAPTIONS
from cgan.interfaces import ImageTextDataset, Report
from cgan.training.adaptive import WITHOUT_HELD_OUT, held_out_pictures
from cgan.training.build import build_gan, start_from
from cgan.training.callbacks.captions import EncodeCaptions
from cgan.training.callbacks.fault_tolerance import fault_tolerance_callbacks
from cgan.training.callbacks.progress import ProgressLine
from cgan.training.callbacks.samples import SampleGridCallback
from cgan.training.callbacks.tracking import RunTracking, finish
from cgan.training.checkpoint_files import Found, save_checkpoint
from cgan.training.gan import TextToImageGAN
from cgan.training.joint_run import joint_encoder
from cgan.training.known_text import LIMITS, caption_table, is_worth_keeping
from cgan.training.loggers import loggers
from cgan.training.processes import whole_batch
from cgan.training.resume import budget, checkpoint_of, note_done
from cgan.training.session import Session
from cgan.training.trainer import fit, trainer_of

if TYPE_CHECKING:
    from cgan.evaluation.plan import Plan
    from cgan.training.callbacks.evaluation import EvaluationCallback


def train_gan(session: Session, plan: Plan | None) -> tuple[int, dict[str, float], int]:
    """Train the GAN: task=gan. plan is what is evaluated, None for nothing.

    Returns the images seen, the last metrics, and 0 or the exit status that a signal asks for. Raises TrainingStopped
    where a signal ends the joint encoder's stage.
    """
    config, run_dir = session.config, session.run_dir
    joint = joint_encoder(session) if uses_joint_encoder(config) else None
    gan = build_gan(config, joint, session.text_encoder, session.extra_losses)
    found = checkpoint_of(config, run_dir, session.report)
    if found is None and config.init is not None:
        start_from(gan, config.init)
    status, metrics = fit_gan(session, gan, plan, found)
    if status == REQUEUE:
        session.report(f"asked to stop; go on with: cgan train --resume {run_dir}")
    if status == 0:
        note_done(run_dir, "gan", budget(config))
    if metrics:
        from cgan.metrics.memorization import copying

        warning = copying(metrics)
        if warning is not None:
            session.report(warning)
    return gan.images_seen, metrics, status


def fit_gan(
    session: Session, gan: TextToImageGAN, plan: Plan | None, found: Found | None
) -> tuple[int, dict[str, float]]:
    """Train a GAN, from a checkpoint if one is found, and write last.ckpt.

    Returns 0, or the exit status that a signal asks for, and the last metrics.
    """
    config, settings, run_dir = session.config, session.config.trainer, session.run_dir
    size, parts = len(session.dataset), config.gan.accumulate
    batch_size = whole_batch(settings, settings.batch_size, size, "trainer.batch_size", parts)
    compile_losses(gan, settings.compile, session.report)
    if gan.adaptive is not None:
        gan.adaptive.held_out = held_out_pictures(config, gan.text_encoder)
        if gan.adaptive.held_out is None:
            session.report(WITHOUT_HELD_OUT)
    rows, seen = (found.content.get("rows", 0), found.content["images_seen"]) if found else (0, 0)
    chosen, status = loggers(config, run_dir, rows, seen, session.report), 1
    try:
        tracking = RunTracking(chosen, run_dir.name)
        callbacks, evaluation = callbacks_of(session, plan, batch_size, tracking)
        reading, encoding = text_plan(session, gan)
        callbacks = [*encoding, *callbacks]
        max_steps = settings.images // batch_size
        trainer = trainer_of(settings, max_steps, settings.minutes, config.seed, chosen, callbacks, num_optimizers=2)
        status = fit(trainer, gan, session.dataset, batch_size, config, found, reading, session.report)
        if status == 0:
            save_checkpoint(trainer, run_dir / "last.ckpt", settings.keep_checkpoints)
        if settings.wandb_models:
            log_models(tracking, run_dir, gan.images_seen, evaluation)
    finally:
        finish(chosen, status)
    return status, with_best(evaluation) if evaluation else {}


def log_models(tracking: RunTracking, run_dir: Path, seen: int, evaluation: EvaluationCallback | None) -> None:
    """Log the weights of best.ckpt and last.ckpt to W&B, each with the metrics that were measured with it, if any."""
    last = {"images_seen": float(seen)}
    if evaluation is None:
        tracking.log_models({"last": run_dir / "last.ckpt"}, {"last": last})
        return
    last |= evaluation.latest if evaluation.evaluated_at == seen else {}
    checkpoints = {alias: run_dir / f"{alias}.ckpt" for alias in ("best", "last")}
    tracking.log_models(checkpoints, {"best": evaluation.best_metrics, "last": last})


def compile_losses(gan: TextToImageGAN, choice: str | bool, report: Report) -> None:
    """Compile the losses of a GAN as trainer.compile says; report gets a line about it.

    "auto" does so on a GPU, without CUDA graphs, which "reduce-overhead" adds. Earlier versions had a boolean.
    """
    choice, on_gpu = str(choice).lower(), torch.cuda.is_available()
    if choice == "false" or (choice == "auto" and not on_gpu):
        return
    cuda_graphs = choice == "reduce-overhead" and on_gpu
    if choice == "reduce-overhead" and not on_gpu:
        report("trainer.compile=reduce-overhead: no CUDA graphs without a GPU; compiled as by trainer.compile=true")
    report("compiling the losses: the first step takes a minute or more; trainer.compile=false does without")
    gan.compile_losses(cuda_graphs=cuda_graphs, report=report)


def text_plan(session: Session, gan: TextToImageGAN) -> tuple[Reading, list[pl.Callback]]:
    """Returns what the loader reads of captions, and the callback that encodes all of them if they are few enough."""
    num_images, encoder = session.config.trainer.images, gan.text_encoder
    limits = LIMITS["cuda" if torch.cuda.is_available() else "cpu"]
    table = caption_table(session.dataset, num_images)
    if table is not None and is_worth_keeping(table, encoder, gan.uses_words, num_images, limits):
        return Reading(table), [EncodeCaptions(table.texts, session.report)]
    return Reading(table, encoder.make_tokenizer()), []


def callbacks_of(
    session: Session, plan: Plan | None, batch_size: int, tracking: RunTracking
) -> tuple[list[pl.Callback], EvaluationCallback | None]:
    """Returns all callbacks of the GAN's training in their order, and the one of them that evaluates, if any."""
    config, run_dir, report = session.config, session.run_dir, session.report
    captions = captions_for_grids(config, session.dataset)
    line = ProgressLine("GAN", batch_size, report, session.console)
    evaluations = []
    if plan is not None:
        from cgan.training.evaluation_callback import evaluation_callbacks

        evaluations = evaluation_callbacks(plan, config, session.dataset, run_dir, captions, line.evaluating, report)
    if evaluations:
        line.latest = tracking.latest = lambda: evaluations[0].latest
    noise_dim, every = config.gan.generator.noise_dim, config.trainer.sample_every
    grid = SampleGridCallback(run_dir / "samples", captions, noise_dim, every)
    last = fault_tolerance_callbacks(config, run_dir, tracking.warning(report), session.handle_signals)
    evaluation = evaluations[0] if evaluations else None
    return [grid, line, *evaluations, *session.callbacks, tracking, *last], evaluation


def planned_evaluation(config: RunConfig, report: Report) -> Plan | None:
    """Returns the plan of evaluation during training; None, without importing cgan.evaluation, if nothing is evaluated.

    report gets the metrics that this machine can't compute. Raises UserError for a mistake in the settings.
    """
    settings = config.trainer
    if settings.evaluate_every <= 0 and settings.metrics is None and settings.best_metric is None:
        return None
    from cgan.evaluation.plan import plan_of

    return plan_of(config, report)


def with_best(evaluation: EvaluationCallback) -> dict[str, float]:
    """Returns the last metrics, and the value that best.ckpt has of the followed metric."""
    best = {} if evaluation.best is None else {f"{evaluation.followed} of best.ckpt": evaluation.best}
    return {**evaluation.latest, **best}


def captions_for_grids(config: RunConfig, dataset: ImageTextDataset) -> list[str]:
    """Returns fixed captions of scenes, or the first captions of pictures spread over the data set."""
    if config.data.source == "scenes" and config.data.level == "one":
        return list(CHINESE_CAPTIONS if config.data.language == "zh" else CAPTIONS)
    count = min(len(CAPTIONS), len(dataset))
    return [dataset.captions_of(i * len(dataset) // count)[0] for i in range(count)]
