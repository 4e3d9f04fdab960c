import os
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from cgan.config import load_config
from cgan.interfaces import UserError
from cgan.renamed import OLDER
from cgan.training.resume import budget, chosen_run, note_done


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    """A working directory with three runs, the oldest of which is finished, the newest of another name."""
    monkeypatch.chdir(tmp_path)
    for age, (folder, name) in enumerate([("scenes-3", "birds"), ("scenes-2", "scenes"), ("scenes-1", "scenes")]):
        run = tmp_path / "runs" / folder
        run.mkdir(parents=True)
        OmegaConf.save(OmegaConf.structured(load_config([f"name={name}"])), run / "config.yaml")
        os.utime(run / "config.yaml", (1e9 - age, 1e9 - age))
    note_done(Path("runs/scenes-1"), "gan", budget(load_config([])))
    return tmp_path / "runs"


def chosen(*arguments: str) -> Path:
    return chosen_run(load_config(list(arguments)), "20261125-120000")[1]


def test_auto_goes_on_in_the_newest_unfinished_run_of_its_name(runs):
    assert chosen("resume=auto") == Path("runs/scenes-2")


def test_auto_begins_a_new_run_where_the_newest_one_is_finished(runs):
    note_done(Path("runs/scenes-2"), "gan", budget(load_config([])))
    assert chosen("resume=auto") == Path("runs/scenes-20261125-120000")


def test_a_finished_run_goes_on_when_more_is_asked_of_it(runs):
    note_done(Path("runs/scenes-2"), "gan", budget(load_config([])))
    assert chosen("resume=auto", "trainer.images=500000") == Path("runs/scenes-2")


def test_without_resume_a_new_run_begins(runs):
    assert chosen() == Path("runs/scenes-20261125-120000")


def test_a_run_from_before_there_were_keys_is_resumed(runs):
    file = runs / "scenes-2" / "config.yaml"
    settings = OmegaConf.load(file)
    for section, older in OLDER.items():
        for key in older:
            del OmegaConf.select(settings, section)[key]
    OmegaConf.save(settings, file)
    config, run_dir = chosen_run(load_config([f"resume={file.parent}"]), "20261125-120000")
    assert run_dir == file.parent and config.gan.matching == OLDER["gan"]["matching"]


def test_a_folder_that_is_no_run_is_one_line(runs):
    with pytest.raises(UserError, match="resume=elsewhere: no run directory"):
        chosen("resume=elsewhere")
