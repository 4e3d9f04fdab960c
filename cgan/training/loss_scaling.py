"""Loss scaling for 16-bit mixed precision, which keeps small gradients from vanishing."""

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor


class ScalerForEach(MixedPrecision):
    """A loss scale for each optimizer, all of them in the checkpoints; Lightning has one scale for all optimizers.

    16-mixed is the only mixed precision of GPUs before Ampere. The scales of a tiny GAN settle at 2^12 (generator) and
    2^17 (discriminator), so a common scale would cost the discriminator 5 bits.
    """

    def __init__(self, device: str) -> None:
        """Sets the device of the training, "cuda" or "cpu"."""
        super().__init__("16-mixed", device, torch.amp.GradScaler(device))
        self.scalers = {0: self.scaler}

    def pre_backward(self, tensor: Tensor, module: pl.LightningModule) -> Tensor:
        """Scales a loss for the optimizer whose weights are not frozen now; its step comes next."""
        number = next(i for i, optimizer in enumerate(module.trainer.optimizers) if moves(optimizer))
        self.scaler = self.of(number)
        return super().pre_backward(tensor, module)

    def of(self, number: int) -> torch.amp.GradScaler:
        """Returns the scaler of an optimizer by its number, a new one at first."""
        if number not in self.scalers:
            self.scalers[number] = torch.amp.GradScaler(self.device)
        return self.scalers[number]

    def state_dict(self) -> dict:
        """Returns the state of each optimizer's scaler, by its number as text."""
        return {str(number): scaler.state_dict() for number, scaler in self.scalers.items()}

    def load_state_dict(self, state_dict: dict) -> None:
        """Restores the scalers from a state_dict()."""
        for number, state in state_dict.items():
            self.of(int(number)).load_state_dict(state)


def moves(optimizer: torch.optim.Optimizer) -> bool:
    """Returns whether any weight of an optimizer requires a gradient now."""
    return any(weight.requires_grad for group in optimizer.param_groups for weight in group["params"])
