"""Whether and how a run is logged to W&B."""

import os
from types import SimpleNamespace

import pytest

from cgan.config import RunConfig, TrainerConfig
from cgan.errors import UserError
from cgan.training import loggers as logs
from cgan.training.callbacks.tracking import finish
from cgan.training.loggers import loggers, wandb_mode


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name in ("WANDB_MODE", "WANDB_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(logs, "is_installed", lambda: True)


@pytest.mark.parametrize(
    ("variables", "asked", "mode"),
    [
        ({}, "auto", "auto"),
        ({"WANDB_MODE": "disabled"}, "auto", "disabled"),
        ({"WANDB_MODE": "offline"}, "auto", "offline"),
        ({"WANDB_MODE": "dryrun"}, "auto", "offline"),
        ({"WANDB_MODE": "online"}, "auto", "online"),
        ({"WANDB_MODE": "nonsense"}, "auto", "auto"),
        ({"WANDB_DISABLED": "true"}, "auto", "disabled"),
        ({"WANDB_MODE": "disabled"}, "offline", "offline"),  # what is said here counts for more
        ({"WANDB_MODE": "online"}, "disabled", "disabled"),
    ],
)
def test_the_variables_of_wandb_are_heeded(variables, asked, mode, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert wandb_mode(asked) == mode


def test_without_wandb_runs_are_not_logged_to_it_unless_that_is_asked_for(monkeypatch):
    monkeypatch.setattr(logs, "is_installed", lambda: False)
    assert wandb_mode("auto") == wandb_mode("disabled") == "disabled"
    with pytest.raises(UserError, match="wandb is not installed"):
        wandb_mode("online")


@pytest.mark.parametrize(("mode", "made"), [("disabled", []), ("offline", ["offline"])])
def test_a_mode_of_the_environment_asks_no_server(mode, made, monkeypatch, tmp_path):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setattr(logs, "may_be_online", lambda: pytest.fail("asked"))
    modes = []
    logger = SimpleNamespace(experiment=SimpleNamespace(id="x"), attempt=lambda *_: None, describe=None)
    monkeypatch.setattr(logs, "wandb_logger", lambda run_dir, mode, report: modes.append(mode) or logger)
    loggers(RunConfig(), tmp_path)
    assert modes == made


def test_a_mode_that_wandb_does_not_know_is_one_line_and_an_empty_one_is_none(monkeypatch, tmp_path):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setattr(logs, "answers", lambda url: False)
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(UserError, match="^WANDB_MODE=ofline: not one of online, offline"):
        loggers(RunConfig(), tmp_path)
    monkeypatch.setenv("WANDB_MODE", "")
    lines = []
    finish(loggers(RunConfig(), tmp_path, report=lines.append), 0)
    assert any("can't be reached: logging offline" in line for line in lines)
    wandb.teardown()


def test_an_offline_run_leaves_nothing_that_a_later_run_of_the_process_would_heed(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    for name in ("WANDB_MODE", "WANDB_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("one", "two"):
        finish(loggers(RunConfig(trainer=TrainerConfig(wandb="offline")), tmp_path / name), 0)
        assert "WANDB_MODE" not in os.environ
        assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / name / "wandb")
    monkeypatch.delenv("WANDB_DATA_DIR")
