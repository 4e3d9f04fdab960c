"""python train.py: pictures with captions, then the joint encoder, then the GAN, all in one run directory."""

import os
import time
import warnings
from datetime import datetime
from pathlib import Path

SCENES = Path(__file__).parents[2] / "configs" / "gan" / "scenes.yaml"  # what is trained without any YAML file
USAGE = """usage: python train.py [CONFIG.yaml ...] [key=value ...]

Trains a text-to-image GAN; without arguments on the built-in scenes. Writes checkpoints, sample grids and
metrics.csv into a run directory under runs/.

  python train.py
  python train.py trainer.minutes=60 gan.generator.width=24
  python train.py configs/gan/folder.yaml data.root=PICTURES
  python train.py configs/gan/coco.yaml data.root=train2017 data.annotations=captions_train2017.json
  python train.py configs/joint/scenes.yaml

Every key with its default: cgan/config.py and the dataclasses that it names.
"""


def main(arguments: list[str]) -> None:
    """Train by the configuration that arguments give; raises UserError for a mistake in them."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE, end="")
        return
    from cgan.config import load_config

    given = any(argument.endswith((".yaml", ".yml")) and "=" not in argument for argument in arguments)
    train(load_config(arguments if given else [str(SCENES), *arguments]))


def train(config) -> None:
    import pytorch_lightning as pl

    from cgan.cli.fitting import chosen_run_dir
    from cgan.cli.joint_training import train_joint_alone
    from cgan.data import check_data

    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
    silence_lightning()
    check_data(config.data)
    check_encoders(config)
    pl.seed_everything(config.seed, verbose=False)
    config.trainer.precision = chosen_precision(config.trainer.precision)
    now = f"{datetime.now():%Y%m%d-%H%M%S}"
    run_dir = Path(config.run_dir) if config.run_dir else chosen_run_dir(config.name, now, config.trainer)
    match config.task:
        case "gan":
            train_gan_alone(config, run_dir)
        case "joint":
            train_joint_alone(config, run_dir)


def train_gan_alone(config, run_dir: Path) -> None:
    """Train the GAN, after the joint encoder that it stands on: task=gan."""
    from cgan.cli.fitting import is_first_process

    start = time.monotonic()
    dataset = opened(config, run_dir)
    gan = build_gan(config, dataset, run_dir)
    if config.init is not None:
        start_from(gan, config.init)
    interrupted, metrics = train_gan(config, gan, dataset, run_dir)
    if is_first_process():
        summarise(gan, run_dir, metrics, time.monotonic() - start, interrupted, config.data.source)
    if interrupted:
        raise SystemExit(130)


def opened(config, run_dir: Path):
    """The pictures to train on, and a run directory that holds the settings."""
    from omegaconf import OmegaConf

    from cgan.cli.fitting import is_first_process, say
    from cgan.data import build_dataset

    say("preparing the pictures (once; they are kept)")
    dataset = build_dataset(config.data)
    report_skipped(dataset)
    run_dir.mkdir(parents=True, exist_ok=True)
    if is_first_process():
        OmegaConf.save(OmegaConf.structured(config), run_dir / "config.yaml")
    say(f"{len(dataset)} pictures at {config.data.resolution} px; the run directory is {run_dir}")
    return dataset


def silence_lightning() -> None:
    """Its hints about hardware and other loggers say nothing that a run needs."""
    import logging

    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)


def check_encoders(config) -> None:
    from cgan.interfaces import UserError

    if config.text.encoder == "pretrained" and config.text.name is None:
        raise UserError("text.encoder=pretrained: text.name is not set; give a model's folder or its name on the hub")


def chosen_precision(precision: str) -> str:
    """What auto means on this machine: bfloat16 where a convolution and its gradient are faster in it."""
    if precision != "auto":
        return precision
    import torch

    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    return min(("32-true", "bf16-mixed"), key=seconds_of_convolution)


def seconds_of_convolution(precision: str) -> float:
    import torch

    layer = torch.nn.Conv2d(96, 96, 3, padding=1).to(memory_format=torch.channels_last)
    images = torch.randn(32, 96, 16, 16).to(memory_format=torch.channels_last)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            layer(images).float().square().mean().backward()
        best = min(best, time.perf_counter() - start)
    return best


def report_skipped(dataset) -> None:
    from cgan.cli.fitting import say
    from cgan.data.pictures import CaptionedPictures, summary

    if isinstance(dataset, CaptionedPictures) and dataset.skipped:
        total = len(dataset) + len(dataset.skipped)
        say(f"skipped {len(dataset.skipped)} of {total} pictures: {summary(dataset.skipped)}")


def build_gan(config, dataset, run_dir: Path):
    """The GAN on the encoders that its configuration asks for; the joint encoder is trained first when needed."""
    from cgan.cli.joint_training import joint_encoder
    from cgan.gan import TextToImageGAN
    from cgan.networks.imagenet import ImageNetEncoder
    from cgan.text.pretrained import PretrainedTextEncoder

    discriminator, resolution = config.gan.discriminator, config.data.resolution
    pretrained = config.text.encoder == "pretrained"
    imagenet = discriminator.form == "features" and discriminator.features == "imagenet"
    text = PretrainedTextEncoder(config.text.name, config.text.max_words) if pretrained else None
    image = ImageNetEncoder(discriminator.imagenet_weights) if imagenet else None
    if text is None or (discriminator.form == "features" and not imagenet):
        joint = joint_encoder(config, dataset, run_dir)
        text, image = text or joint.text, image or joint.image
    return TextToImageGAN(config.gan, text, image, resolution, shared_latent=not (pretrained or imagenet))


def start_from(gan, checkpoint: str) -> None:
    """Take over all weights of a checkpoint of the same networks, or the generator's alone from exported ones."""
    from pickle import UnpicklingError

    import torch

    from cgan.interfaces import UserError
    from cgan.sampling import TextToImage

    if not Path(checkpoint).is_file():
        raise UserError(f"init={checkpoint}: no such checkpoint; give the last.ckpt of a run directory")
    try:
        if checkpoint.endswith(".safetensors"):
            weights = TextToImage.load(checkpoint).generator.state_dict()
            for generator in (gan.generator, gan.generator_ema):
                generator.load_state_dict(weights)
        else:
            gan.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"])
    except (UnpicklingError, RuntimeError, KeyError, TypeError, ValueError, EOFError):
        hint = "give its gan.* settings, and joint.checkpoint of its run"
        raise UserError(f"init={checkpoint}: damaged, or of other networks; {hint}") from None


def train_gan(config, gan, dataset, run_dir: Path) -> tuple[bool, dict[str, float]]:
    """Train the GAN and keep last.ckpt; returns whether Ctrl-C ended it, and the last measures."""
    from cgan.callbacks import Checkpoints, ProgressLine, SampleGrid, Throughput, save_checkpoint
    from cgan.cli.fitting import fit, trainer_of, whole_batch

    settings, measures = config.trainer, scene_metrics(config, run_dir)
    batch_size = whole_batch(settings, settings.batch_size, len(dataset), "trainer.batch_size")
    callbacks = [
        SampleGrid(run_dir / "samples", settings.sample_every, captions_for_grids(config, dataset)),
        Checkpoints(run_dir, settings.checkpoint_every),
        ProgressLine("GAN", batch_size),
        Throughput(),
        *measures,
    ]
    max_steps, chosen = settings.images // batch_size, loggers(config, run_dir)
    trainer = trainer_of(settings, max_steps, settings.minutes, config.seed, chosen, callbacks)
    interrupted = fit(trainer, gan, dataset, batch_size, config)
    save_checkpoint(trainer, run_dir / "last.ckpt")
    return interrupted, measures[0].latest if measures else {}


def scene_metrics(config, run_dir: Path) -> list:
    """The measures that scenes allow; other data has none yet."""
    from cgan.callbacks import SceneMetrics
    from cgan.evaluation import SceneEvaluator
    from cgan.joint import JointEncoder
    from cgan.metrics.scenes import load_judge
    from cgan.retrieval import STARTER

    settings = config.trainer
    if config.data.source != "scenes" or settings.evaluate_every <= 0:
        return []
    joint = JointEncoder.load(STARTER)  # not the one that the generator is trained against
    evaluator = SceneEvaluator(load_judge(), config.data.resolution, settings.evaluation_images, joint=joint)
    return [SceneMetrics(evaluator, run_dir, settings.evaluate_every)]


def captions_for_grids(config, dataset) -> list[str]:
    """Fixed captions of scenes, or the first captions of pictures spread over the data set."""
    from cgan.callbacks import CAPTIONS

    if config.data.source == "scenes":
        return list(CAPTIONS)
    count = min(len(CAPTIONS), len(dataset))
    return [dataset.captions_of(i * len(dataset) // count)[0] for i in range(count)]


def summarise(gan, run_dir: Path, metrics: dict[str, float], seconds: float, interrupted: bool, source: str) -> None:
    """What came of it, as a table, and the next command to type."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", "", show_header=False)
    table.add_row("stopped after" if interrupted else "time", f"{seconds / 60:.1f} min")
    table.add_row("images seen", f"{int(gan.images_seen):,}")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.3f}")
    files = ["last.ckpt", "best.ckpt", "samples/", "metrics.csv", "config.yaml", "joint.safetensors"]
    table.add_row(f"in {run_dir}", " ".join(name for name in files if (run_dir / name).exists()))
    Console().print(table)
    caption = "YOUR WORDS" if source != "scenes" else "a dog on grass"
    print(f'next: python sample.py "{caption}" --checkpoint {run_dir / "last.ckpt"}')


def loggers(config, run_dir: Path) -> list:
    """metrics.csv always; W&B online when logged in, otherwise offline, and never with a prompt."""
    from pytorch_lightning.loggers import CSVLogger

    from cgan.cli.fitting import is_first_process

    chosen = [CSVLogger(run_dir, name="", version="")]
    mode = config.trainer.wandb
    if mode == "disabled" or not is_first_process():
        return chosen
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    if mode != "offline":
        online = wandb.login(prompt=False)
        mode = "online" if online else "offline"
    chosen.append(wandb_logger(run_dir, mode))
    try:
        chosen[-1].experiment.id  # noqa: B018 (it connects)
    except wandb.errors.Error:
        print("W&B can't be used online: logging offline")
        chosen[-1] = wandb_logger(run_dir, "offline")
    return chosen


def wandb_logger(run_dir: Path, mode: str):
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    settings = wandb.Settings(mode=mode, init_timeout=60, finish_timeout=60, silent=True)
    offline = mode == "offline"
    return WandbLogger(project="cgan", name=run_dir.name, save_dir=run_dir, offline=offline, settings=settings)
