"""Run directories: one writer, what was there before, settings that are whole, and pictures that have changed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from PIL import Image

from cgan.cli.runs import main as runs_main
from cgan.config import RunConfig, load_config
from cgan.data.fingerprint import differences, fingerprint_of
from cgan.data.sources import DataConfig, build_dataset
from cgan.files import CannotWrite, temporary_name
from cgan.interfaces import UserError
from cgan.training.resume import chosen_run, stored_settings
from cgan.training.run import train
from cgan.training.run_directory import HALF_ASIDE, begin, set_aside, taken, tidy, write_settings
from cgan.training.run_records import read_run, settings_in
from helpers.pictures import shards_of, some_pictures
from helpers.runs import RUN_FILES, files_in, run_of, settings

pytestmark = pytest.mark.usefixtures("place")


# ---------------------------------------------------------------------------------------------- an earlier training


def test_everything_of_an_earlier_training_is_set_aside_and_no_earlier_one_is_lost(capsys):
    for content in ("one", "two", "three"):
        run = run_of(content)
        (run / "notes.txt").write_text("mine")
        set_aside(run, print)
    assert {p.name for p in run.iterdir()} == {"earlier-1", "earlier-2", "earlier-3", "notes.txt"}
    for number, content in enumerate(("one", "two", "three"), start=1):
        folder = run / f"earlier-{number}"
        assert files_in(folder) == set(RUN_FILES)
        assert (folder / "last.ckpt").read_text() == (folder / "wandb-id").read_text() == content
    said = capsys.readouterr().out.splitlines()[-1]
    resumed = f"resume={said.rpartition('--resume ')[2].rstrip(')')}"
    assert chosen_run(load_config([resumed]), "now")[1] == run / "earlier-3"


def test_settings_alone_are_no_training():
    write_settings(load_config([]), Path("r"))
    set_aside(Path("r"))
    assert files_in(Path("r")) == {"config.yaml"}


@pytest.mark.parametrize("num_moved", range(0, 13, 3))
def test_a_training_that_is_killed_while_it_sets_aside_loses_nothing(num_moved, monkeypatch):
    run, moved = run_of("one"), []
    replace = Path.replace

    def killed(self, target):
        if len(moved) == num_moved:
            raise KeyboardInterrupt  # whatever comes after is not done
        moved.append(target)
        return replace(self, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", killed)
        set_aside(run)
    assert (run / HALF_ASIDE).exists()
    tidy(run)
    assert files_in(run) == set(RUN_FILES)
    set_aside(run)
    assert files_in(run / "earlier-1") == set(RUN_FILES)


def test_a_start_removes_the_unfinished_files_of_killed_processes():
    run = run_of("one")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for name in ("last.ckpt", "samples/a.png", "joint/metrics.csv"):
        path = temporary_name(run / name)
        path.with_name(path.name.replace(f"-{os.getpid()}-", f"-{ended.pid}-")).touch()
    with taken(load_config(["run_dir=r"]), run):
        assert not list(run.rglob(".*.tmp")) and files_in(run) == set(RUN_FILES)


# ---------------------------------------------------------------------------------------------- config.yaml


def test_settings_come_back_as_they_were_written():
    config = load_config(["seed=7", "trainer.images=64", "gan.generator.width=8", "init=x.ckpt"])
    write_settings(config, Path("r"))
    assert stored_settings(Path("r")) == config


def test_settings_that_are_not_whole_are_refused_wherever_they_are_cut():
    write_settings(load_config([]), Path("r"))
    content = Path("r/config.yaml").read_text()
    ends = [i + 1 for i, letter in enumerate(content) if letter == "\n"]
    for end in (*range(0, len(content) - 4, 311), *ends[:-3:8], ends[-2] - 1, ends[-2] - 3):
        Path("r/config.yaml").write_text(content[:end])
        with pytest.raises(UserError, match=r"r.*(not whole|empty|damaged|other keys)") as caught:
            settings_in(Path("r"))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "\n", "a: [", "just text", "- 1\n", "task: gan\ntrainer:\n", "\0\0\0"])
def test_a_damaged_run_is_one_line_and_hides_no_other(content, capsys):
    whole = run_of("one", Path("runs/scenes-1"))
    Path(whole / "metrics.csv").write_text("step\n1\n")
    Path(whole / "joint/metrics.csv").unlink()
    Path("runs/scenes-2").mkdir()
    Path("runs/scenes-2/config.yaml").write_text(content)
    with pytest.raises(UserError) as caught:
        read_run(Path("runs/scenes-2"))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError) as caught:
        chosen("resume=runs/scenes-2")
    assert "\n" not in str(caught.value)
    assert chosen("resume=auto").run_dir == str(whole)
    assert "passed over: runs/scenes-2" in capsys.readouterr().out
    runs_main([])
    said = capsys.readouterr()
    assert "scenes-1" in said.out and "passed over: runs/scenes-2" in said.err


def test_settings_of_runs_before_the_end_was_marked_are_read():
    Path("r").mkdir()
    OmegaConf.save(OmegaConf.structured(load_config([])), "r/config.yaml")
    assert stored_settings(Path("r")) == load_config([])


# ---------------------------------------------------------------------------------------------- what has changed


def test_init_is_refused_where_a_run_goes_on_by_its_name_and_said_where_it_does_so_by_itself(capsys):
    run = run_of("one")
    with pytest.raises(UserError, match="init=x.ckpt is for a new training.*leave init out"):
        chosen("resume=r", "init=x.ckpt")
    config = chosen("resume=auto", "run_dir=r", "init=x.ckpt")
    assert config.init is None and "init=x.ckpt is not used" in capsys.readouterr().out
    for path in run.glob("*.ckpt"):
        path.unlink()
    assert chosen("resume=auto", "run_dir=r", "init=x.ckpt").init == "x.ckpt"


def chosen(*arguments: str) -> RunConfig:
    return chosen_run(load_config(list(arguments)), "now", print)[0]


def test_a_run_that_goes_on_before_its_first_checkpoint_starts_from_its_init():
    write_settings(load_config(["init=x.ckpt"]), Path("r"))
    assert chosen("resume=r").init == chosen("resume=auto", "run_dir=r").init == "x.ckpt"


def begun(root: Path, *more: str) -> RunConfig:
    """A run directory r of these pictures."""
    config = load_config(settings(str(root), "run_dir=r", *more))
    begin(config, Path("r"), build_dataset(config.data))
    Path("r/last.ckpt").touch()
    return config


def gone_on(*more: str) -> None:
    arguments = ["resume=r", *more]
    config, run_dir = chosen_run(load_config(arguments), "now", print)
    begin(config, run_dir, build_dataset(config.data), print)


def test_other_pictures_are_noticed_when_a_run_goes_on(place, capsys):
    begun(some_pictures(place / "pics", 6))
    gone_on()
    assert "pictures before" not in capsys.readouterr().out
    for i in range(3):
        (place / f"pics/{i}.png").unlink()
        (place / f"pics/{i}.txt").unlink()
    gone_on()
    assert "6 pictures before, 3 now: to go on is no longer the same, bit for bit" in capsys.readouterr().out
    (place / "pics/4.txt").write_text("other words")
    gone_on()
    assert "with other captions" in capsys.readouterr().out
    Image.new("RGB", (32, 32), "red").save(place / "pics/4.png")
    gone_on()
    assert "they look different" in capsys.readouterr().out
    gone_on()
    assert "before" not in capsys.readouterr().out


def test_words_that_the_vocabulary_does_not_hold_are_told(place, capsys):
    from cgan.models.joint import JointConfig, JointEncoder
    from cgan.models.text.lstm import Vocabulary

    begun(some_pictures(place / "pics"))
    JointEncoder(JointConfig(), Vocabulary(["card", "number", "0"]), 32).save(Path("r/joint.safetensors"))
    (place / "pics/0.txt").write_text("completely other card")
    gone_on()
    assert "words that the vocabulary does not hold: completely, other, 1, 2, 3" in capsys.readouterr().out


def test_pictures_may_move_where_they_are_the_same(place, capsys):
    begun(some_pictures(place / "pics"))
    (place / "pics").rename(place / "moved")
    gone_on(f"data.root={place}/moved")
    assert f"data.root: {place}/moved from now on, {place}/pics before" in capsys.readouterr().out
    assert stored_settings(Path("r")).data.root == f"{place}/moved"
    some_pictures(place / "others", 5)
    with pytest.raises(UserError, match=r"data.root can't change on the way \(6 pictures before, 5 now\)"):
        gone_on(f"data.root={place}/others")
    assert stored_settings(Path("r")).data.root == f"{place}/moved"
    Path("r/data.json").unlink()
    with pytest.raises(UserError, match="it has no record of its pictures"):
        gone_on(f"data.root={place}/others")


def test_a_record_depends_on_nothing_but_the_pictures(place):
    datasets = [load_config(["data.num_images=8", "data.resolution=32", *more]).data for more in ([], ["data.seed=1"])]
    one, other = (fingerprint_of(build_dataset(data)) for data in datasets)
    assert differences(one, fingerprint_of(build_dataset(datasets[0]))) is None and differences(one, other) is not None


# ---------------------------------------------------------------------------------------------- disks


@pytest.mark.parametrize("run_dir", ["file", "file/below", "file/below/deeper", "n" * 300, "/proc/nowhere/r"])
@pytest.mark.parametrize("more", [[], ["resume=auto"]])
def test_a_run_dir_that_cannot_be_written_is_one_line_before_any_work(run_dir, more, place):
    Path("file").touch()
    with pytest.raises(CannotWrite, match="can't be written: .*; give another run_dir") as caught:
        train(load_config([f"run_dir={run_dir}", *more]))
    assert "\n" not in str(caught.value) and not (place / "cache").exists()


def test_the_record_of_a_run_is_plain_json(place):
    begun(some_pictures(place / "pics"))
    assert set(json.loads(Path("r/data.json").read_text())) == {"num_pictures", "captions", "pictures"}


def test_shards_are_known_again_elsewhere_and_others_are_not(place):
    some_pictures(place / "pictures", 6)
    for name in ("one", "two"):
        shards_of(place / "pictures", place / name)
        (place / "pictures/3.txt").write_text("longer words than those before")
    shutil.copytree(place / "one", place / "copied")
    one, copied, two = (
        fingerprint_of(build_dataset(DataConfig("shards", root=str(place / name), resolution=32)))
        for name in ("one", "copied", "two")
    )
    assert differences(one, copied) is None and "other captions" in differences(one, two)
