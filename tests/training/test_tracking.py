"""What W&B is told of a training that goes wrong, and of a race's runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from cgan.config import RunConfig, TrainerConfig, load_config
from cgan.errors import UserError
from cgan.training.callbacks.health import FiniteLosses
from cgan.training.callbacks.interrupts import Signals, StopOnSignal, Stopped
from cgan.training.callbacks.tracking import RunTracking, finish, same_images
from cgan.training.loggers import loggers
from helpers import ROOT
from helpers.forked import Forked
from helpers.gan import fit, tiny_gan
from helpers.runs import TINY, ended, environment_in

pytest.importorskip("wandb")
SWEEP = ROOT / "configs/sweeps/gan.yaml"


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """The loggers of an offline run in the folder run."""
    for name in ("WANDB_MODE", "WANDB_DATA_DIR", "WANDB_SWEEP_ID", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    chosen = loggers(RunConfig(trainer=TrainerConfig(wandb="offline")), tmp_path / "run")
    yield chosen
    finish(chosen, 1)


def records(folder: Path, kind: str) -> list[dict]:
    """The records of a kind in the files of an offline run."""
    (run,) = folder.glob("wandb/offline-run-*")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(run)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL)
    rows = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
    return [row[kind] for row in rows if row["type"] == kind]


@pytest.mark.slow
def test_nan_collapse_and_a_stop_are_alerts(offline, tmp_path):
    tracking, gan = RunTracking(offline, "run"), tiny_gan()
    heard, told = [], tracking.warning(lambda line: heard.append(line))
    told("warning: step 9: samples of one caption differ by 0.1 % of what real pictures do")
    gan.extra_losses = {"broken": lambda fakes, *_: fakes.sum() * torch.nan}
    with pytest.raises(UserError, match="not finite"):
        fit(gan, tmp_path, 3, callbacks=[tracking, FiniteLosses(tmp_path, every_steps=1)])
    stop = StopOnSignal(Signals())
    stop.signals.status = 75
    with pytest.raises(Stopped):
        fit(tiny_gan(), tmp_path, 3, callbacks=[tracking, stop])
    fit(tiny_gan(), tmp_path, 1, callbacks=[RunTracking(offline, "run", lambda: {"scene_accuracy": 0.75})])
    finish(offline, 0)
    alerts = records(tmp_path / "run", "alert")
    assert [(alert["title"], alert["level"]) for alert in alerts] == [
        ("run: warning", "WARN"), ("run: not finite", "ERROR"), ("run: stopped", "INFO"), ("run: finished", "INFO"),
    ]  # fmt: skip
    assert heard[0] == alerts[0]["text"] and "loss/broken is not finite" in alerts[1]["text"]
    assert alerts[3]["text"].endswith("after 1 steps: scene_accuracy 0.75")


@pytest.mark.slow
def test_the_next_training_of_a_process_has_a_run_of_its_own(offline, tmp_path):
    finish(offline, 0)
    second = loggers(RunConfig(trainer=TrainerConfig(wandb="offline")), tmp_path / "second")
    names = [logger.experiment.id for logger in (offline[-1], second[-1])]
    finish(second, 0)
    assert len(set(names)) == 2


@pytest.mark.slow
def test_what_is_logged_after_a_fit_joins_its_last_row(offline, tmp_path):
    logger = offline[-1]
    logger.log_metrics({"loss/contrastive": 1.0, "images_seen": 64.0}, 2)
    logger.finalize("success")  # as Lightning does at the end of a fit
    logger.log_metrics({"agreement": 0.5, "images_seen": 64.0})
    finish(offline, 0)
    (row,) = (record["item"] for record in records(tmp_path / "run", "history"))
    assert row["train/loss/contrastive"] == 1 and row["eval/agreement"] == 0.5 and row["_step"] == 64


def test_checkpoints_of_the_same_images_are_one_version(tmp_path):
    for name in ("best", "last"):
        (tmp_path / name).touch()
    paths = {"best": tmp_path / "best", "last": tmp_path / "last"}
    same, other = {"images_seen": 9.0}, {"images_seen": 5.0}
    assert same_images(paths, {"best": same, "last": same}) == [["best", "last"]]
    assert same_images(paths, {"best": other, "last": same}) == [["best"], ["last"]]
    assert same_images({"best": tmp_path / "none", "last": tmp_path / "last"}, {"best": {}, "last": same}) == [["last"]]


# ------------------------------------------------------------------------------------------------ sweeps


def trials(count: int) -> list[list[str]]:
    """Command lines of trials of the sweep file, as wandb's agent makes them."""
    utils = pytest.importorskip("wandb.sdk.launch.sweeps.utils")
    sweep, commands = yaml.safe_load(SWEEP.read_text()), []
    for number in range(count):
        drawn = {}
        for key, about in sweep["parameters"].items():
            values = [about["value"]] if "value" in about else about.get("values") or [about["min"], about["max"]]
            drawn[key] = {"value": values[number % len(values)]}
        filled = utils.create_sweep_command_args({"args": drawn})
        command = []
        for part in utils.create_sweep_command(sweep["command"]):
            command += filled.get(part[2:-1], [part]) if part.startswith("${") else [part]
        commands.append(command)
    return commands


def test_every_trial_of_the_sweep_is_a_configuration():
    one, two = trials(2)
    assert one[:3] == ["python", "train.py", "configs/gan/scenes.yaml"] and one != two
    configs = [load_config(command[2:]) for command in (one, two)]
    assert [config.gan.learning_rate for config in configs] == [3e-4, 3e-3]


@pytest.mark.slow
def test_two_trials_of_the_sweep_run_as_an_agent_starts_them(tmp_path):
    small = [each for each in TINY if "wandb" not in each and "evaluate_every" not in each]
    small += [
        "trainer.images=64",
        "trainer.joint_images=64",
        "trainer.evaluate_every=64",
        "trainer.evaluation_images=8",
    ]
    for number, command in enumerate(trials(2)):
        agent = {"WANDB_MODE": "offline", "WANDB_SWEEP_ID": "sweep", "WANDB_RUN_ID": f"trial{number}"}
        arguments = [*command[2:], *small, f"run_dir={tmp_path / str(number)}"]
        environment = environment_in(tmp_path) | agent
        status, _, stderr = ended(Forked(ROOT / command[1], *arguments, cwd=ROOT, environment=environment))
        assert status == 0, stderr
        (run,) = records(tmp_path / str(number), "run")
        assert run["run_id"] == f"trial{number}" and run["sweep_id"] == "sweep"
        (history,) = (
            row["item"] for row in records(tmp_path / str(number), "history") if row["item"]["images_seen"] == 64
        )
        assert yaml.safe_load(SWEEP.read_text())["metric"]["name"] in history
