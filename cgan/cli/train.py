"""python train.py: scenes, then the joint encoder, then the GAN, all in one run directory."""

import time
import warnings
from datetime import datetime
from pathlib import Path

USAGE = """usage: python train.py [CONFIG.yaml ...] [key=value ...]

Trains a text-to-image GAN; without arguments on the built-in scenes. Writes checkpoints, sample grids and
metrics.csv into a run directory under runs/.

  python train.py
  python train.py configs/gan/scenes.yaml trainer.images=200000 gan.learning_rate=5e-4
"""


def main(arguments: list[str]) -> None:
    """Train by the configuration that arguments give; raises UserError for a mistake in them."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE, end="")
        return
    from cgan.config import load_config

    train(load_config(arguments))


def train(config) -> None:
    import pytorch_lightning as pl
    from omegaconf import OmegaConf

    from cgan.data import build_dataset
    from cgan.gan import TextToImageGAN

    warnings.filterwarnings("ignore", module="pytorch_lightning")
    pl.seed_everything(config.seed)
    run_dir = Path(config.run_dir or f"runs/{config.name}-{datetime.now():%Y%m%d-%H%M%S}")
    run_dir.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.structured(config), run_dir / "config.yaml")
    start = time.monotonic()
    print("preparing the pictures (once; they are kept)")
    dataset = build_dataset(config.data)
    joint = train_joint(config, dataset, run_dir)
    gan = TextToImageGAN(config.gan, joint.text, joint.image, config.data.resolution)
    interrupted = train_gan(config, gan, dataset, run_dir)
    checkpoint = run_dir / "last.ckpt"
    print(
        f"{'stopped' if interrupted else 'done'} after {time.monotonic() - start:.0f} s, {int(gan.images_seen)} images"
    )
    print(f'{checkpoint}\nnext: python sample.py "a dog on grass" --checkpoint {checkpoint}')
    if interrupted:
        raise SystemExit(130)


def train_joint(config, dataset, run_dir: Path):
    """The joint encoder of pictures and captions, trained on the same data."""
    import pytorch_lightning as pl
    from pytorch_lightning.loggers import CSVLogger

    from cgan.data.loading import endless_loader
    from cgan.joint import JointEncoder
    from cgan.text.lstm import Vocabulary

    settings = config.trainer
    captions = (caption for i in range(len(dataset)) for caption in dataset.captions_of(i))
    joint = JointEncoder(config.joint, Vocabulary.of(captions))
    trainer = pl.Trainer(
        max_steps=max(1, settings.joint_images // settings.joint_batch_size),
        precision=settings.precision,
        logger=CSVLogger(run_dir, name="joint", version=""),
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    print("training the joint encoder")
    trainer.fit(joint, endless_loader(dataset, settings.joint_batch_size, config.seed))
    return joint


def train_gan(config, gan, dataset, run_dir: Path) -> bool:
    """Train the GAN and keep last.ckpt; returns whether Ctrl-C ended it."""
    import pytorch_lightning as pl

    from cgan.callbacks import Checkpoints, SampleGrid, Throughput, save_checkpoint
    from cgan.data.loading import endless_loader

    settings = config.trainer
    callbacks = [
        SampleGrid(run_dir / "samples", settings.sample_every),
        Checkpoints(run_dir, settings.checkpoint_every),
        Throughput(),
    ]
    trainer = pl.Trainer(
        max_steps=max(1, settings.images // settings.batch_size),
        precision=settings.precision,
        logger=loggers(config, run_dir),
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_model_summary=False,
        log_every_n_steps=20,
    )
    print("training the GAN; sample grids go to", run_dir / "samples")
    interrupted = False
    try:
        trainer.fit(gan, endless_loader(dataset, settings.batch_size, config.seed))
    except (KeyboardInterrupt, SystemExit):  # Lightning turns Ctrl-C into SystemExit
        interrupted = True
    save_checkpoint(trainer, run_dir / "last.ckpt")
    return interrupted


def loggers(config, run_dir: Path) -> list:
    """metrics.csv always; W&B online when logged in, otherwise offline, and never with a prompt."""
    from pytorch_lightning.loggers import CSVLogger, WandbLogger

    chosen = [CSVLogger(run_dir, name="", version="")]
    mode = config.trainer.wandb
    if mode == "disabled":
        return chosen
    import wandb

    if mode != "offline":
        online = wandb.login(prompt=False)
        mode = "online" if online else "offline"
    settings = wandb.Settings(init_timeout=60, finish_timeout=60, silent=True)
    logger = WandbLogger(project="cgan", save_dir=run_dir, offline=mode == "offline", settings=settings)
    try:
        logger.experiment.id  # noqa: B018 (it connects)
    except wandb.errors.CommError:
        print("W&B cannot be reached: logging offline")
        logger = WandbLogger(project="cgan", save_dir=run_dir, offline=True, settings=settings)
    return [*chosen, logger]
