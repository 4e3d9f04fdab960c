"""The accuracy of images in parts: for each part the share of images that are right among those that count."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchmetrics import Metric

from cgan.metrics.scenes import Reading

Compared = Callable[[Reading, Tensor], list[tuple[Tensor, Tensor]]]


class PartAccuracy(Metric):
    """Shares of images by part.

    compared: returns for each of `parts`, from readings and what captions mention, which images are right and which
    images count, both (B,) bool.
    """

    right: Tensor  # (parts,) int64
    total: Tensor  # (parts,) int64
    full_state_update = False

    def __init__(self, parts: tuple[str, ...], compared: Compared) -> None:
        super().__init__()
        self.parts, self.compared = parts, compared
        self.add_state("right", torch.zeros(len(parts), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros(len(parts), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, reading: Reading, mentioned: Tensor) -> None:
        """Adds the readings of B images; mentioned (B, values) holds what the captions say, -1 where nothing."""
        for place, (right, counted) in enumerate(self.compared(reading, mentioned)):
            self.right[place] += (right & counted).sum()
            self.total[place] += counted.sum()

    def compute(self) -> dict[str, Tensor]:
        """Returns the shares in [0, 1] by part; NaN where no image counts."""
        return dict(zip(self.parts, self.right.double() / self.total, strict=True))
