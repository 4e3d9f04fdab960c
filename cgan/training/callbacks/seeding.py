"""Callback that seeds every training step."""

import pytorch_lightning as pl
import torch


class SeededSteps(pl.Callback):
    """Makes the random numbers of a step depend on the seed and the step's number alone, alike in all processes.

    So a resumed training draws the same random numbers as one that was never stopped.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: pl.Trainer, *_) -> None:
        """Seeds torch for the step."""
        torch.manual_seed(self.seed * 1_000_003 + trainer.global_step)
