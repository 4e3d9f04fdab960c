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
        """Seeds the random numbers of the CPU and of the training's device, as torch.manual_seed does.

        torch.manual_seed would also look for devices of all other kinds and, where CUDA is not in use, write down the
        call stack for it: about a millisecond a step.
        """
        seed = self.seed * 1_000_003 + trainer.global_step
        torch.default_generator.manual_seed(seed)
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.manual_seed(seed)
