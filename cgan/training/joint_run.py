"""The joint encoder's training: as the first stage of a GAN's, or as a task of its own."""

from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger

from cgan.config import RunConfig
from cgan.data.labels import LabelTable
from cgan.data.loading import Reading
from cgan.data.sources import build_dataset
from cgan.errors import CTRL_C
from cgan.files import write_json
from cgan.interfaces import ImageTextDataset
from cgan.models.joint import JointEncoder
from cgan.models.picture_augment import PictureAugmentation
from cgan.models.text.lstm import Vocabulary
from cgan.training.build import build_joint
from cgan.training.callbacks.health import FiniteLosses, SteppingRules
from cgan.training.callbacks.interrupts import Signals, StopOnSignal
from cgan.training.callbacks.progress import ProgressLine
from cgan.training.callbacks.samples import ReconstructionSheet
from cgan.training.callbacks.tracking import RunTracking, finish
from cgan.training.joint import JointTraining
from cgan.training.known_text import caption_table
from cgan.training.loggers import loggers
from cgan.training.metrics_file import MetricsFile
from cgan.training.processes import is_first_process, whole_batch
from cgan.training.resume import has_joint, note_done
from cgan.training.schedule import minutes_of
from cgan.training.session import Session, TrainingStopped
from cgan.training.trainer import fit, trainer_of

FEW_PICTURES = 20_000  # up to which a joint encoder learns them by heart in the time that it trains
OF_FEW: list[PictureAugmentation] = ["crop", "colour"]


def train_joint(session: Session) -> tuple[int, dict[str, float], int]:
    """Train a joint encoder and evaluate it on pictures that were kept out of training: task=joint.

    Returns the images seen, the metrics of retrieval, and 0. Raises TrainingStopped where a signal ends the training.
    """
    config, run_dir = session.config, session.run_dir
    kept_out = config.data.test_images > 0 and config.data.source != "custom"
    test = build_dataset(config.data, "test") if kept_out else None
    chosen, status = loggers(config, run_dir, report=session.report), 1
    callbacks = [*sheet_callbacks(config, test, run_dir), *session.callbacks, RunTracking(chosen, run_dir.name)]
    try:
        joint, images_seen = fitted(session, chosen, callbacks)
        metrics = {}
        if test is not None and is_first_process():
            metrics = evaluate(joint, test, run_dir, chosen, images_seen)
        status = 0
    finally:
        finish(chosen, status)
    return images_seen, metrics, 0


def joint_encoder(session: Session) -> JointEncoder:
    """Returns a GAN's joint encoder: from joint.checkpoint, from the resumed run, or trained on the same data."""
    config, run_dir = session.config, session.run_dir
    if config.joint.checkpoint is not None:
        return JointEncoder.load(config.joint.checkpoint)
    if has_joint(config, run_dir):
        return JointEncoder.load(run_dir / "joint.safetensors")
    return fitted(session, [MetricsFile(run_dir / "joint" / "metrics.csv")], [])[0]


def fitted(session: Session, chosen: list[Logger], callbacks: list[pl.Callback]) -> tuple[JointEncoder, int]:
    """Train a joint encoder and write joint.safetensors; returns it and the images seen.

    Raises TrainingStopped where a signal ends the training; after Ctrl-C what was learned until then is written.
    """
    config, settings, run_dir = session.config, session.config.trainer, session.run_dir
    path, size = run_dir / "joint.safetensors", len(session.dataset)
    batch_size = whole_batch(settings, settings.joint_batch_size, size, "trainer.joint_batch_size")
    joint = untrained(session)
    callbacks = [ProgressLine("joint encoder", batch_size, session.report, session.console), *callbacks]
    callbacks += [SteppingRules(settings.on_nan, clip=None)]
    callbacks += [FiniteLosses(run_dir)] if settings.on_nan == "stop" else []
    callbacks += [StopOnSignal(Signals(session.handle_signals))]
    max_steps = settings.joint_images // batch_size
    trainer = trainer_of(settings, max_steps, settings.joint_minutes, config.seed, chosen, callbacks)
    words = joint.make_word_tokenizer() if joint.caption_decoder is not None else None
    labels = LabelTable.of(session.dataset) if config.joint.labels_weight > 0 else None
    table = caption_table(session.dataset, settings.joint_images)
    reading = Reading(table, joint.text.make_tokenizer(), words, labels)
    module = JointTraining(joint, augmentation_of(config, size), 0 if labels is None else len(labels))
    status = fit(trainer, module, session.dataset, batch_size, config, reading=reading, report=session.report)
    if is_first_process() and status in (0, CTRL_C):
        joint.save(path)
    if status:
        so_far = f"so far is {path}" if status == CTRL_C else f"starts again with: cgan train --resume {run_dir}"
        session.report(f"stopped; the joint encoder {so_far}")
        raise TrainingStopped(status)
    images_seen = trainer.global_step * batch_size
    note_done(run_dir, "joint", {"images_seen": images_seen, "minutes": round(minutes_of(trainer), 3)})
    trainer.strategy.barrier()
    trained = joint.eval() if is_first_process() else JointEncoder.load(path)  # statistics of batches differ
    return trained, images_seen


def augmentation_of(config: RunConfig, num_pictures: int) -> list[PictureAugmentation]:
    """Returns how the pictures of a joint encoder's training are changed: a few of them by small crops and colours.

    Captions may name sides, so that pictures are mirrored only where data.flip says so; shards do that by themselves.
    """
    source, kinds = config.data.source, config.joint.augmentation
    if kinds is None:
        kinds = OF_FEW if source != "scenes" and num_pictures <= FEW_PICTURES else []
    mirrored = config.data.flip and source != "shards" and "flip" not in kinds
    return [*kinds, "flip"] if mirrored else [*kinds]


def untrained(session: Session) -> JointEncoder:
    """Returns a new joint encoder with the vocabulary of the captions; words that can't be told apart are reported."""
    config, dataset = session.config, session.dataset
    vocabulary = Vocabulary.of(caption for i in range(len(dataset)) for caption in dataset.captions_of(i))
    if vocabulary.wordless.count:
        session.report(f"warning: {vocabulary.wordless.warning()}")
    return build_joint(config, vocabulary)


def sheet_callbacks(config: RunConfig, test: ImageTextDataset | None, run_dir: Path) -> list[pl.Callback]:
    """Returns the callback that writes decoded pictures and captions, where the configuration has a decoder."""
    decoders = config.joint.picture_weight > 0 or config.joint.caption_weight > 0
    if test is None or not decoders:
        return []
    samples = [test[i] for i in range(min(8, len(test)))]
    return [ReconstructionSheet(run_dir / "samples", config.trainer.sample_every, samples)]


def evaluate(
    joint: JointEncoder, test: ImageTextDataset, run_dir: Path, chosen: list[Logger], images_seen: int
) -> dict[str, float]:
    """Returns the metrics of retrieval on test pictures, written to retrieval.json and logged."""
    from cgan.evaluation.joint import evaluate_joint

    metrics = evaluate_joint(joint, test)
    write_json(run_dir / "retrieval.json", metrics | {"test_images": len(test)})
    for logger in chosen:
        logger.log_metrics({**metrics, "images_seen": float(images_seen)})
        logger.save()
        logger.finalize("success")
    return metrics
