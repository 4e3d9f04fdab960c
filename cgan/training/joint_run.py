"""The joint encoder's part of train.py: trained as the GAN's first step, or as a task of its own."""

import time
from pathlib import Path


def train_joint_alone(config, run_dir: Path) -> None:
    """Train a joint encoder and judge it on pictures that it never saw: task=joint."""
    from cgan.cli.train import opened
    from cgan.data.sources import build_dataset
    from cgan.training.loggers import loggers
    from cgan.training.trainer import is_first_process

    start = time.monotonic()
    dataset = opened(config, run_dir)
    test = build_dataset(config.data, "test") if config.data.test_images > 0 else None
    chosen = loggers(config, run_dir)
    joint = fitted(config, dataset, run_dir, chosen, sheet_callbacks(config, test, run_dir))
    if is_first_process():
        report = judged(joint, test, run_dir, chosen) if test is not None else {}
        summarise(joint, run_dir, report, time.monotonic() - start)


def joint_encoder(config, dataset, run_dir: Path):
    """The joint encoder of pictures and captions: from its checkpoint, or trained on the same data."""
    from cgan.models.joint import JointEncoder
    from cgan.training.metrics_file import MetricsFile
    from cgan.training.resume import has_joint

    if config.joint.checkpoint is not None:
        return JointEncoder.load(config.joint.checkpoint)
    if has_joint(config, run_dir):
        return JointEncoder.load(run_dir / "joint.safetensors")
    return fitted(config, dataset, run_dir, [MetricsFile(run_dir / "joint" / "metrics.csv")], [])


def fitted(config, dataset, run_dir: Path, chosen_loggers: list, callbacks: list):
    """Train and write joint.safetensors; a signal ends the process, Ctrl-C with what was learned until then."""
    from cgan.errors import CTRL_C
    from cgan.models.joint import JointEncoder
    from cgan.models.text.lstm import Vocabulary
    from cgan.training.callbacks.recovery import FiniteLosses, Signals, SteppingRules, StopOnSignal
    from cgan.training.callbacks.samples import ProgressLine
    from cgan.training.joint import JointTraining
    from cgan.training.resume import note_done
    from cgan.training.trainer import fit, is_first_process, leave, say, trainer_of, whole_batch

    settings, path = config.trainer, run_dir / "joint.safetensors"
    batch_size = whole_batch(settings, settings.joint_batch_size, len(dataset), "trainer.joint_batch_size")
    captions = (caption for i in range(len(dataset)) for caption in dataset.captions_of(i))
    vocabulary = Vocabulary.of(captions)
    if vocabulary.wordless.count:
        say(f"warning: {vocabulary.wordless.warning()}")
    joint = JointEncoder(config.joint, vocabulary, config.data.resolution)
    callbacks = [ProgressLine("joint encoder", batch_size), *callbacks, SteppingRules(settings.on_nan, clip=None)]
    callbacks += [FiniteLosses(run_dir)] if settings.on_nan == "stop" else []
    callbacks += [StopOnSignal(Signals())]
    max_steps = settings.joint_images // batch_size
    trainer = trainer_of(settings, max_steps, settings.joint_minutes, config.seed, chosen_loggers, callbacks)
    status = fit(trainer, JointTraining(joint), dataset, batch_size, config)
    if is_first_process() and status in (0, CTRL_C):
        joint.save(path)
    if status:
        so_far = f"so far is {path}" if status == CTRL_C else f"starts again with: python train.py --resume {run_dir}"
        say(f"stopped; the joint encoder {so_far}")
        leave(status)
    note_done(run_dir, "joint", {"images_seen": trainer.global_step * batch_size})
    trainer.strategy.barrier()
    return joint.eval() if is_first_process() else JointEncoder.load(path)  # statistics of batches differ


def sheet_callbacks(config, test, run_dir: Path) -> list:
    """Pictures and captions decoded now and then, where the configuration has a decoder."""
    from cgan.training.callbacks.samples import ReconstructionSheet

    decoders = config.joint.picture_weight > 0 or config.joint.caption_weight > 0
    if test is None or not decoders:
        return []
    samples = [test[i] for i in range(min(8, len(test)))]
    return [ReconstructionSheet(run_dir / "samples", config.trainer.sample_every, samples)]


def judged(joint, test, run_dir: Path, chosen_loggers: list) -> dict[str, float]:
    """The measures of retrieval, kept as retrieval.json and logged."""
    from cgan.evaluation.joint import evaluate_joint
    from cgan.files import write_json

    report = evaluate_joint(joint, test)
    write_json(run_dir / "retrieval.json", report | {"test_images": len(test)})
    for logger in chosen_loggers:
        logger.log_metrics(report)
        logger.save()
        logger.finalize("success")
    return report


def summarise(joint, run_dir: Path, report: dict[str, float], seconds: float) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "", show_header=False)
    table.add_row("time", f"{seconds / 60:.1f} min")
    for name, value in report.items():
        table.add_row(name, f"{value:.3f}")
    files = ["joint.safetensors", "retrieval.json", "samples/", "metrics.csv", "config.yaml"]
    table.add_row(f"in {run_dir}", " ".join(name for name in files if (run_dir / name).exists()))
    Console().print(table)
    checkpoint = run_dir / "joint.safetensors"
    print(f'next: cgan retrieve "YOUR WORDS" --images PICTURES --checkpoint {checkpoint}')
    print(f"or:   python train.py joint.checkpoint={checkpoint}")
