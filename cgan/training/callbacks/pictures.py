"""Logs pictures to those loggers of a training that can display them: W&B and TensorBoard."""

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

from cgan.training.tensorboard_logger import ImagesSeenTensorBoard


def log_pictures(
    trainer: pl.Trainer, name: str, pictures: list[np.ndarray], seen: int, captions: list[str] | None = None
) -> None:
    """Log pictures, each (H, W, 3) uint8, at a number of images seen; W&B has a slider over these.

    captions: a line for each picture, which W&B displays below it.
    """
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            lines = captions or [None] * len(pictures)
            shown = [wandb.Image(picture, caption=line) for picture, line in zip(pictures, lines, strict=True)]
            logger.log_metrics({name: shown, "images_seen": seen}, trainer.global_step)  # pyright: ignore[reportArgumentType]  # W&B takes pictures as well
        elif isinstance(logger, ImagesSeenTensorBoard):
            logger.log_pictures(name, pictures, seen)
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_images(name, np.stack(pictures), trainer.global_step, dataformats="NHWC")
