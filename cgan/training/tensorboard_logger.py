"""The TensorBoard logger of a run: W&B's names, over images seen, for those who have no W&B."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from cgan.errors import UserError
from cgan.training.history import SEEN
from cgan.training.panels import panel_name


def check_tensorboard() -> None:
    """Raises UserError where neither of the packages that write TensorBoard's files is installed."""
    if find_spec("tensorboard") is None and find_spec("tensorboardX") is None:
        raise UserError('trainer.loggers: tensorboard is not installed; pip install -e ".[tensorboard]"')


class ImagesSeenTensorBoard(TensorBoardLogger):
    """A TensorBoardLogger whose axis is images seen, and whose names are those of panel_name.

    Files lie in the folder tensorboard/ of a run directory. num_images: what a resumed training has seen; what was
    logged after that, by a training that was killed, is not displayed.
    """

    def __init__(self, run_dir: Path, num_images: int = 0) -> None:
        resumed: Any = {"purge_step": num_images + 1} if num_images > 0 else {}
        super().__init__(run_dir, name="tensorboard", version="", default_hp_metric=False, **resumed)
        self.seen = num_images

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs metrics at their images_seen, or at the last one."""
        self.seen = int(metrics.get(SEEN, self.seen))
        super().log_metrics({panel_name(name): value for name, value in metrics.items() if name != SEEN}, self.seen)

    @rank_zero_only
    def log_pictures(self, name: str, pictures: list[np.ndarray], seen: int) -> None:
        """Logs pictures, each (H, W, 3) uint8, at a number of images seen."""
        for number, picture in enumerate(pictures):
            place = f"{name}/{number}" if len(pictures) > 1 else name
            self.experiment.add_image(place, picture, seen, dataformats="HWC")
