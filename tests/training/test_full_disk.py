"""Every file of a run directory on a disk that is full: one line, and what was there stays."""

from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from cgan.config import RunConfig, load_config
from cgan.figures.sheets import save_animation, save_png
from cgan.files import CannotWrite
from cgan.interfaces import Sample, UserError
from cgan.models.joint import JointConfig, JointEncoder
from cgan.models.text.lstm import Vocabulary
from cgan.sampling.weights import write
from cgan.training.callbacks.checkpointing import Checkpoints
from cgan.training.callbacks.interrupts import Signals, StopOnSignal
from cgan.training.metrics_file import MetricsFile
from cgan.training.resume import note_done
from cgan.training.run_directory import write_settings
from cgan.training.trainer import fit, trainer_of
from helpers.disks import full_disk
from helpers.gan import tiny_gan

PICTURE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)


def joint() -> JointEncoder:
    return JointEncoder(JointConfig(), Vocabulary(["dog"]), 32)


WRITERS = {
    "config.yaml": lambda path: write_settings(RunConfig(), path.parent),
    "progress.json": lambda path: note_done(path.parent, "gan", {"note": "x" * 200}),
    "joint.safetensors": lambda path: joint().save(path),
    "weights.safetensors": lambda path: write(path, {"a": torch.zeros(999)}, half=False, metadata={}),
    "samples/images.png": lambda path: save_png(PICTURE, path),
    "film.gif": lambda path: save_animation([PICTURE, PICTURE], path, "about"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_writer_says_that_the_disk_is_full_and_leaves_what_was_there(name, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    with full_disk(at=100), pytest.raises(CannotWrite, match=f"{path.name} can't be written: the disk is full"):
        WRITERS[name](path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path] and path.read_text() == "{}"
    WRITERS[name](path)
    assert path.stat().st_size > 100


class Fill(pl.Callback):
    """Something is written after the second step, when there is no room left."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer, *_) -> None:
        if trainer.global_step == 2:
            with full_disk(at=100):
                save_png(PICTURE, self.path)


def test_a_disk_that_fills_in_the_midst_of_training_is_one_line_that_says_how_to_go_on(tmp_path):
    config = load_config(["trainer.precision=32-true", "data.resolution=32"])
    callbacks = [Checkpoints(tmp_path, every_images=4, num_kept=2), StopOnSignal(Signals(), tmp_path)]
    loggers = [MetricsFile(tmp_path / "metrics.csv")]
    trainer = trainer_of(config.trainer, 4, None, 0, loggers, [*callbacks, Fill(tmp_path / "a.png")], num_optimizers=2)
    samples = [Sample(torch.zeros(3, 32, 32, dtype=torch.uint8), ["a red dog"], i) for i in range(4)]

    with pytest.raises(UserError, match="a.png can't be written: the disk is full") as caught:
        fit(trainer, tiny_gan(penalty_weight=0.01), samples, 4, config)
    assert f"last.ckpt is whole: cgan train --resume {tmp_path}" in str(caught.value)
    assert "\n" not in str(caught.value) and isinstance(caught.value.__cause__, CannotWrite)
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert content["global_step"] == 1 and content["draws"] == 4 and not list(tmp_path.glob(".*"))
