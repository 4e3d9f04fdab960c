"""python train.py: pictures with captions, then the joint encoder, then the GAN, all in one run directory."""

import time
import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cgan.resources import DEFAULT_CONFIG

USAGE = """usage: python train.py [CONFIG.yaml ...] [key=value ...]
       python train.py --resume RUN_DIR [trainer.key=value ...]

Trains a text-to-image GAN; without arguments on the built-in scenes. Writes checkpoints, sample grids and
metrics.csv into a run directory under runs/.

  python train.py
  python train.py trainer.minutes=60 gan.generator.width=24
  python train.py configs/gan/folder.yaml data.root=PICTURES
  python train.py configs/gan/coco.yaml data.root=train2017 data.annotations=captions_train2017.json
  python train.py configs/joint/scenes.yaml
  python train.py --resume runs/scenes-20261124-120000 trainer.images=500000
  python train.py resume=auto

--resume goes on exactly where a run stopped, by its own settings; resume=auto does so with run_dir's or the newest
run of the same name if it is unfinished, and begins one otherwise. One training at a time writes into a directory;
training again into one first moves what is there to earlier-1, earlier-2 and so on. SIGTERM and SIGUSR1 end a run
with a checkpoint and status 75, Ctrl-C with status 130.

CGAN_DEBUG=1 in the environment shows the traceback behind a one-line error.

Every key with its default: cgan/config.py and the dataclasses that it names.
"""


def main(arguments: list[str]) -> None:
    """Train by the configuration that arguments give; raises UserError for a mistake in them."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE, end="")
        return
    from cgan.cli.signals import leave_when_asked

    leave_when_asked()
    from cgan.config import load_config

    if "--resume" in arguments:
        arguments = with_resume_as_key(arguments)
    given = any(argument.endswith((".yaml", ".yml")) and "=" not in argument for argument in arguments)
    train(load_config(arguments if given else [str(DEFAULT_CONFIG), *arguments]), arguments)


def with_resume_as_key(arguments: list[str]) -> list[str]:
    """--resume RUN_DIR as resume=RUN_DIR."""
    from cgan.interfaces import UserError

    place = arguments.index("--resume")
    if place + 1 == len(arguments):
        raise UserError("--resume: give a run directory, or auto")
    return [*arguments[:place], f"resume={arguments[place + 1]}", *arguments[place + 2 :]]


def train(config, arguments: list[str]) -> None:
    import pytorch_lightning as pl

    from cgan.data.sources import check_data
    from cgan.training.checks import check_before_training
    from cgan.training.precision import chosen_precision
    from cgan.training.resume import chosen_run, is_finished
    from cgan.training.run_directory import join_first, taken
    from cgan.training.trainer import say

    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
    silence_lightning()
    join_first(config)
    config, run_dir = chosen_run(config, arguments, f"{datetime.now():%Y%m%d-%H%M%S}")
    if config.resume is not None and is_finished(run_dir, config):
        more = f"; more of it: python train.py --resume {run_dir} trainer.images=..." if config.task == "gan" else ""
        say(f"{run_dir} is finished{more}")
        return
    check_data(config.data)
    check_before_training(config)
    with taken(config, run_dir) as run_dir:
        pl.seed_everything(config.seed, verbose=False)
        config.trainer.precision = chosen_precision(config.trainer.precision)
        train_in(config, run_dir)


def train_in(config, run_dir: Path) -> None:
    """Train in a run directory that this process, or the first of several, has taken."""
    from cgan.training.joint_run import train_joint_alone

    match config.task:
        case "gan":
            train_gan_alone(config, run_dir)
        case "joint":
            train_joint_alone(config, run_dir)
        case unknown:
            raise ValueError(f"no such task: {unknown}")


def train_gan_alone(config, run_dir: Path) -> None:
    """Train the GAN, after the joint encoder that it stands on: task=gan."""
    from cgan.errors import REQUEUE
    from cgan.training.resume import budget, checkpoint_of, note_done
    from cgan.training.trainer import is_first_process, leave, say

    start, plan = time.monotonic(), planned_measures(config)
    dataset = opened(config, run_dir)
    gan = build_gan(config, dataset, run_dir)
    found = checkpoint_of(config, run_dir)
    if found is None and config.init is not None:
        start_from(gan, config.init)
    status, metrics = train_gan(config, gan, dataset, run_dir, plan, found)
    if status == REQUEUE:
        say(f"asked to stop; go on with: python train.py --resume {run_dir}")
        leave(status)
    if is_first_process():
        summarise(gan, run_dir, metrics, time.monotonic() - start, status > 0, config.data.source)
    if status:
        leave(status)
    note_done(run_dir, "gan", budget(config))


def opened(config, run_dir: Path):
    """The pictures to train on, and a run directory that holds the settings."""
    from cgan.data.sources import build_dataset
    from cgan.training.checks import check_batches
    from cgan.training.run_directory import begin
    from cgan.training.trainer import say

    say("preparing the pictures (once; they are kept)")
    dataset = build_dataset(config.data)
    report_skipped(dataset)
    check_batches(config, len(dataset))
    begin(config, run_dir, dataset)
    say(f"{len(dataset)} pictures at {config.data.resolution} px; the run directory is {run_dir}")
    return dataset


def silence_lightning() -> None:
    """Its hints about hardware and other loggers say nothing that a run needs."""
    import logging

    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)


def report_skipped(dataset) -> None:
    from cgan.data.pictures import CaptionedPictures, summary
    from cgan.data.shards import ShardedPictures
    from cgan.training.trainer import say

    skipped = dataset.skipped if isinstance(dataset, CaptionedPictures | ShardedPictures) else []
    if skipped:
        say(f"skipped {len(skipped)} of {len(dataset) + len(skipped)} pictures: {summary(skipped)}")


def build_gan(config, dataset, run_dir: Path):
    """The GAN on the encoders that its configuration asks for; the joint encoder is trained first when needed."""
    from cgan.training.joint_run import joint_encoder

    return gan_on(config, lambda: joint_encoder(config, dataset, run_dir))


def gan_on(config, make_joint: Callable):
    """The GAN of a configuration; make_joint is called where it stands on a joint encoder."""
    import torch

    from cgan.models.text.pretrained import PretrainedTextEncoder
    from cgan.training.gan import TextToImageGAN

    discriminator, resolution = config.gan.discriminator, config.data.resolution
    pretrained = config.text.encoder == "pretrained"
    text = PretrainedTextEncoder(config.text.name, config.text.max_words) if pretrained else None
    image, coattention = features_from_outside(discriminator), None
    shared = image is None and not pretrained
    if text is None or (discriminator.form == "features" and image is None):
        joint = make_joint()
        text, image, coattention = text or joint.text, image or joint.image, joint.coattention
    torch.manual_seed(config.seed)  # the same start, whether the joint encoder was trained just now or before
    return TextToImageGAN(config.gan, text, image, resolution, shared, coattention)


def features_from_outside(discriminator):
    """The frozen network that a discriminator stands on where it is not the joint encoder's."""
    from cgan.models.encoders.frozen import DINOEncoder, EfficientNetEncoder
    from cgan.models.encoders.imagenet import ImageNetEncoder

    match discriminator.form, discriminator.features:
        case "features", "imagenet":
            return ImageNetEncoder(discriminator.imagenet_weights)
        case "features", "efficientnet":
            return EfficientNetEncoder(discriminator.imagenet_weights)
        case "features", "dino":
            return DINOEncoder(discriminator.dino)
    return None


def start_from(gan, checkpoint: str) -> None:
    """Take over all weights of a checkpoint of the same networks, or the generator's alone from exported ones."""
    import torch

    from cgan.damage import building, reading
    from cgan.interfaces import UserError
    from cgan.sampling.pipeline import TextToImage

    if not Path(checkpoint).is_file():
        raise UserError(f"init={checkpoint}: no such checkpoint; give the last.ckpt of a run directory")
    damaged = "damaged, or of other networks (init); give its gan.* settings, and joint.checkpoint of its run"
    if checkpoint.endswith(".safetensors"):
        weights = TextToImage.load(checkpoint).generator.state_dict()
        with building(checkpoint, damaged):
            for generator in (gan.generator, gan.generator_ema):
                generator.load_state_dict(weights)
        return
    with reading(checkpoint, damaged), open(checkpoint, "rb") as file:
        content = torch.load(file, map_location="cpu", weights_only=True)
        weights, seen = content["state_dict"], content["images_seen"]
    with building(checkpoint, damaged):
        gan.load_state_dict(weights)
    gan.images_seen = seen


def train_gan(config, gan, dataset, run_dir: Path, plan, found) -> tuple[int, dict[str, float]]:
    """Train the GAN, from a checkpoint if one is found, and keep last.ckpt.

    Returns 0, or the status that a signal asks for, and the last measures.
    """
    from cgan.training.callbacks.samples import ProgressLine, SampleGrid
    from cgan.training.checkpoints import save_checkpoint
    from cgan.training.loggers import loggers
    from cgan.training.trainer import fit, say, trainer_of, whole_batch

    settings, captions = config.trainer, captions_for_grids(config, dataset)
    key, parts = "trainer.batch_size", config.gan.accumulate
    batch_size = whole_batch(settings, settings.batch_size, len(dataset), key, parts)
    line = ProgressLine("GAN", batch_size)
    measures = measures_by(plan, config, dataset, run_dir, captions, line)
    if measures:
        line.latest = lambda: measures[0].latest
    callbacks = [
        SampleGrid(run_dir / "samples", settings.sample_every, captions),
        line,
        *measures,
        *keepers(config, run_dir),
    ]
    if settings.compile:
        say(
            "trainer.compile: the first step takes minutes; later ones were 2 % faster on the one GPU we measured it on"
        )
        gan.compile_networks()
    max_steps = settings.images // batch_size
    chosen = loggers(config, run_dir, found.content.get("rows", 0) if found else 0)
    trainer = trainer_of(settings, max_steps, settings.minutes, config.seed, chosen, callbacks, players=2)
    status = fit(trainer, gan, dataset, batch_size, config, found)
    if status == 0:
        save_checkpoint(trainer, run_dir / "last.ckpt", settings.keep_checkpoints)
    return status, with_best(measures[0]) if measures else {}


def with_best(measures) -> dict[str, float]:
    """The last values, and the one of best.ckpt."""
    best = {} if measures.best is None else {f"{measures.followed} of best.ckpt": measures.best}
    return {**measures.latest, **best}


def keepers(config, run_dir: Path) -> list:
    """What watches over a long training; checkpoints come last, after all that a step has brought."""
    from cgan.training.callbacks.recovery import (
        Checkpoints,
        CollapseSigns,
        FiniteLosses,
        Signals,
        SteppingRules,
        StopOnSignal,
    )

    settings, kept = config.trainer, config.trainer.keep_checkpoints
    return [
        SteppingRules(settings.on_nan, settings.gradient_clip),
        *([FiniteLosses(run_dir)] if settings.on_nan == "stop" else []),
        CollapseSigns(config.gan.adversarial, settings.sample_every),
        Checkpoints(run_dir, settings.checkpoint_every, kept),
        StopOnSignal(Signals(), run_dir, kept),
    ]


def planned_measures(config):
    """What is measured during training, with a word on what can't be; None, and nothing loaded, where nothing is."""
    settings = config.trainer
    if settings.evaluate_every <= 0 and settings.metrics is None and settings.best_metric is None:
        return None
    from cgan.evaluation.plan import plan_of

    return plan_of(config)


def measures_by(plan, config, dataset, run_dir: Path, captions: list[str], line) -> list:
    if plan is None:
        return []
    from cgan.evaluation.plan import measures_of

    return measures_of(plan, config, dataset, run_dir, captions, line.measuring)


def captions_for_grids(config, dataset) -> list[str]:
    """Fixed captions of scenes, or the first captions of pictures spread over the data set."""
    from cgan.figures.sheets import CAPTIONS

    if config.data.source == "scenes" and config.data.level == "one":
        return list(CAPTIONS)
    count = min(len(CAPTIONS), len(dataset))
    return [dataset.captions_of(i * len(dataset) // count)[0] for i in range(count)]


def summarise(gan, run_dir: Path, metrics: dict[str, float], seconds: float, interrupted: bool, source: str) -> None:
    """What came of it, as a table, and the next command to type."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", "", show_header=False)
    table.add_row("stopped after" if interrupted else "time", f"{seconds / 60:.1f} min")
    table.add_row("images seen", f"{gan.images_seen:,}")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.3f}")
    files = ["last.ckpt", "best.ckpt", "samples/", "metrics.csv", "config.yaml", "joint.safetensors"]
    table.add_row(f"in {run_dir}", " ".join(name for name in files if (run_dir / name).exists()))
    Console().print(table)
    caption = "YOUR WORDS" if source != "scenes" else "a dog on grass"
    print(f'next: python sample.py "{caption}" --checkpoint {run_dir / "last.ckpt"}')
    print(f"curves: cgan plot {run_dir}")
