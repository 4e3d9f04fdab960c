"""A run that is killed and resumed has one history in W&B: no images_seen twice, none missing."""

import csv
import json
import os
from pathlib import Path

import pytest

from cgan.training.history import History, first_missing, images_seen_in
from helpers.runs import TINY, ended, killed_in_training, start

pytest.importorskip("wandb")

LOGGED = [*(each for each in TINY if not each.startswith("trainer.wandb")), "trainer.wandb=offline"]
LOGGED += ["trainer.images=1600", "trainer.checkpoint_every=160", "trainer.sample_every=640", "run_dir=run"]


def test_all_that_is_logged_at_one_number_of_images_is_one_row():
    history = History()
    assert history.add({"images_seen": 320.0, "samples/grid": "x"}) == {}
    assert history.add({"images_seen": 320.0, "train/loss": 1.0}) == {}
    assert history.add({"train/more": 2.0}) == {}  # of the same step, by a logger of a user's own
    ready = history.add({"images_seen": 640.0, "train/loss": 0.5})
    assert ready == {"images_seen": 320, "samples/grid": "x", "train/loss": 1.0, "train/more": 2.0}
    assert history.take() == {"images_seen": 640, "train/loss": 0.5} and history.take() == {}


@pytest.mark.parametrize(
    ("last", "num_images", "kept"),
    [
        (-1, 0, [160, 320, 480, 640]),  # a new run
        (480, 320, [640]),  # killed after 480, goes on from 320
        (480, 480, [480, 640]),  # stopped in the evaluation at 480, which is made up for
        (160, 320, [320, 480, 640]),  # what W&B has lost since 160 is sent once more
    ],
)
def test_a_row_is_sent_once(last, num_images, kept):
    history = History(first_missing(last, num_images))
    sent = [history.add({"images_seen": seen, "loss": 1.0}) for seen in (160, 320, 480, 640)] + [history.take()]
    assert [row["images_seen"] for row in sent if row] == kept


def lines_of(run: Path) -> list[int]:
    """images_seen of the rows with losses in metrics.csv."""
    rows = csv.DictReader((run / "metrics.csv").open())
    return [int(float(row["images_seen"])) for row in rows if row["loss/generator"]]


@pytest.mark.slow
@pytest.mark.parametrize("kill", [os.kill, os.killpg], ids=["wandb writes on", "wandb dies too"])
def test_a_run_that_was_killed_has_a_history_without_gap_and_repetition(kill, tmp_path):
    run = tmp_path / "run"
    killed_in_training(640, 0.1, *LOGGED, cwd=tmp_path, kill=kill)
    status, _, errors = ended(start("--resume", "run", cwd=tmp_path))
    assert status == 0, errors
    assert len({path.name.rpartition("-")[2] for path in run.glob("wandb/offline-run-*")}) == 1  # the same run
    seen = [images for path in sorted(run.glob("wandb/offline-run-*")) for images in images_seen_in(path)]
    assert seen == sorted(set(seen))
    assert set(lines_of(run)) <= set(seen) and seen[-1] == 1600
    first, second = json.loads((run / "sessions.json").read_text()).values()
    assert first["command"].endswith("run_dir=run") and second["command"].endswith("--resume run")
