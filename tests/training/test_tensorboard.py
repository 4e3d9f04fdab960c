"""TensorBoard, for those without W&B."""

import importlib.util

import numpy as np
import pytest

from cgan.config import RunConfig, TrainerConfig, load_config
from cgan.errors import UserError
from cgan.training import tensorboard_logger
from cgan.training.loggers import loggers
from cgan.training.metrics_file import MetricsFile

CONFIG = RunConfig(trainer=TrainerConfig(wandb="disabled", loggers=["csv", "tensorboard"]))
WRITER = next((name for name in ("tensorboard", "tensorboardX") if importlib.util.find_spec(name)), None)


def test_a_logger_that_is_not_installed_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(tensorboard_logger, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'trainer.loggers: tensorboard is not installed; pip install -e "\.\[tens'):
        loggers(CONFIG, tmp_path)


def test_metrics_csv_is_written_whatever_else_is(tmp_path):
    assert load_config([]).trainer.loggers == ["csv"]
    with pytest.raises(UserError, match="trainer.loggers"):
        load_config(["trainer.loggers=[csv,tensorbord]"])
    config = RunConfig(trainer=TrainerConfig(wandb="disabled", loggers=[]))
    (table,) = loggers(config, tmp_path)
    assert isinstance(table, MetricsFile)


@pytest.mark.skipif(WRITER is None, reason="neither tensorboard nor tensorboardX is installed")
def test_panels_are_over_images_seen(tmp_path):
    table, board = loggers(CONFIG, tmp_path)
    board.log_metrics({"loss/generator": 1.0, "images_seen": 320.0}, 20)
    board.log_metrics({"scene_accuracy": 0.5}, 20)
    board.log_pictures("samples/grid", [np.zeros((8, 8, 3), np.uint8)], 320)
    board.finalize("success")
    (file,) = (tmp_path / "tensorboard").glob("events.out.tfevents.*")
    content = file.read_bytes()
    assert all(name in content for name in (b"train/loss/generator", b"eval/scene_accuracy", b"samples/grid"))
    assert b"images_seen" not in content and b"\x10\xc0\x02" in content  # step 320 as a varint
