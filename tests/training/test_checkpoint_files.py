"""What is written, kept, believed and refused, in one process and quickly."""

import os
import random
import shutil
import signal
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from cgan.interfaces import Batch, UserError
from cgan.training.callbacks.checkpointing import Checkpoints
from cgan.training.callbacks.health import CollapseSigns, FiniteLosses, SteppingRules
from cgan.training.callbacks.interrupts import EvaluationInterrupted, Signals, StopOnSignal, Stopped, interruptible
from cgan.training.checkpoint_files import (
    PlainFiles,
    checkpoints_in,
    intact,
    make_room,
    newest_intact,
    save_checkpoint,
)
from helpers.disks import full_disk, no_more_files
from helpers.gan import CAPTIONS, tiny_gan


def batches(num: int, spoiled: tuple[int, ...] = ()) -> list[Batch]:
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(num, 4, 3, 32, 32, generator=generator) * 2 - 1
    images[list(spoiled)] = float("nan")
    return [Batch(some, CAPTIONS, torch.tensor([0, 1, 2, 1])) for some in images]


def trainer_with(folder: Path, callbacks: list, max_steps: int = 4) -> pl.Trainer:
    return pl.Trainer(
        max_steps=max_steps, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=folder,
        enable_checkpointing=False, enable_model_summary=False, callbacks=callbacks, plugins=[PlainFiles()],
    )  # fmt: skip


def trained(folder: Path, callbacks: list, spoiled: tuple[int, ...] = (), max_steps: int = 4) -> pl.Trainer:
    trainer = trainer_with(folder, callbacks, max_steps)
    trainer.fit(tiny_gan(penalty_weight=0.01), DataLoader(batches(max_steps, spoiled), batch_size=None))
    return trainer


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run directory with last.ckpt, last-1.ckpt and last-2.ckpt, of steps 3, 2 and 1."""
    folder = tmp_path_factory.mktemp("run")
    trained(folder, [Checkpoints(folder, every_images=4, num_kept=3)])
    return folder


@pytest.fixture
def copy(run, tmp_path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def steps(run: Path) -> list[int]:
    names = ("last.ckpt", "last-1.ckpt", "last-2.ckpt")
    return [intact(run / name)["global_step"] for name in names if (run / name).exists()]


def test_the_last_few_checkpoints_are_kept_in_their_order(run):
    assert steps(run) == [3, 2, 1] and not list(run.glob(".*.tmp"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path, place: float = 0.4) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 4
    path.write_bytes(content)


def replace_by_text(path: Path) -> None:
    path.write_text("disk quota exceeded")


@pytest.mark.parametrize("damage", [cut, empty, flip, replace_by_text])
def test_a_damaged_checkpoint_is_passed_over_with_a_word(damage, copy):
    damage(copy / "last.ckpt")
    found = newest_intact(copy)
    assert found.path.name == "last-1.ckpt" and found.content["global_step"] == 2
    assert len(found.damaged) == 1 and f"{copy}/last.ckpt is damaged" in found.damaged[0]


def test_where_all_are_damaged_one_line_says_so(copy):
    for path in copy.glob("*.ckpt"):
        cut(path)
    with pytest.raises(UserError, match="no checkpoint of this run is left") as error:
        newest_intact(copy)
    assert "\n" not in str(error.value)


def test_no_flipped_bit_ever_changes_what_is_loaded(copy):
    true, place = intact(copy / "last.ckpt")["state_dict"], random.Random(0)
    for _ in range(30):
        shutil.copy(copy / "last.ckpt", copy / "one.ckpt")
        flip(copy / "one.ckpt", place.random())
        try:
            loaded = intact(copy / "one.ckpt")["state_dict"]
        except Exception:  # noqa: S112 (refused, however)
            continue
        assert all(torch.equal(value, loaded[name]) for name, value in true.items())  # it hit padding


def test_code_in_a_checkpoint_is_not_run(copy, tmp_path):
    class Hostile:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harmed",))

    content = {"state_dict": {}, "optimizer_states": [], "global_step": 9, "loops": Hostile()}
    torch.save(content, copy / "last.ckpt")
    assert newest_intact(copy).path.name == "last-1.ckpt"
    with pytest.raises(Exception, match="Weights only load failed"):
        PlainFiles().load_checkpoint(copy / "last.ckpt", weights_only=False)
    assert not (tmp_path / "harmed").exists()


def test_a_full_disk_ends_the_training_with_the_last_checkpoint_intact(copy):
    trainer = trainer_with(copy, [])
    trainer.fit(tiny_gan(penalty_weight=0.01), DataLoader(batches(4), batch_size=None))
    with full_disk(at=100_000), pytest.raises(UserError, match="can't be written") as error:
        save_checkpoint(trainer, copy / "last.ckpt", num_kept=3)
    assert "\n" not in str(error.value) and f"cgan train --resume {copy}" in str(error.value)
    assert "the disk is full" in str(error.value)
    assert steps(copy) == [3, 2, 1] and not list(copy.glob(".*.tmp"))


def test_a_loss_that_is_not_finite_is_named_with_its_step_and_spoils_no_checkpoint(tmp_path):
    callbacks = [FiniteLosses(tmp_path), Checkpoints(tmp_path, every_images=4, num_kept=3)]
    with pytest.raises(UserError, match=r"loss/\w+ is not finite in step 3") as error:
        trained(tmp_path, callbacks, spoiled=(2,), max_steps=6)
    assert "last.ckpt is whole" in str(error.value)
    assert steps(tmp_path) == [2, 1]


def test_weights_that_are_not_finite_are_never_written(tmp_path):
    with pytest.raises(UserError, match="weights are not finite after step 2"):
        trained(tmp_path, [Checkpoints(tmp_path, every_images=4, num_kept=3)], spoiled=(1,))
    assert steps(tmp_path) == [1]


def test_a_step_without_finite_gradients_is_left_out_and_counted(tmp_path):
    rules = SteppingRules("skip", clip=None)
    trainer = trained(tmp_path, [rules], spoiled=(1, 2), max_steps=4)
    assert rules.num_skipped == 4 and trainer.global_step == 4  # two steps of both players
    assert all(torch.isfinite(weight).all() for weight in trainer.lightning_module.parameters())


def test_a_training_that_leaves_out_everything_ends(tmp_path):
    with pytest.raises(UserError, match="no finite gradient of the discriminator in 2 steps"):
        trained(tmp_path, [SteppingRules("skip", None, most_in_a_row=2)], spoiled=(1, 2, 3, 4), max_steps=6)


class Norms(pl.Callback):
    """Of the gradients that the players step with."""

    def __init__(self) -> None:
        self.seen = []

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        weights = (weight for group in optimizer.param_groups for weight in group["params"])
        self.seen.append(float(torch.nn.utils.get_total_norm([w.grad for w in weights if w.grad is not None])))


def test_gradients_are_clipped_to_their_norm(tmp_path):
    norms = Norms()
    trained(tmp_path, [SteppingRules("stop", clip=0.01), norms], max_steps=2)
    assert norms.seen == pytest.approx([0.01] * 4, rel=1e-3)


class Between(pl.Callback):
    """Logs between the players' steps, and keeps what is logged."""

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        module.log("between", 1.0)

    def on_train_batch_end(self, trainer, *_) -> None:
        self.logged = dict(trainer.callback_metrics)


def test_the_first_step_logs_both_players_losses(tmp_path):
    between = Between()
    trained(tmp_path, [between, Checkpoints(tmp_path, every_images=100, num_kept=1)], max_steps=1)
    assert {"loss/discriminator", "loss/generator", "between"} <= set(between.logged)


class Ask(pl.Callback):
    """Sends this process a signal in a step."""

    def __init__(self, number: int, step: int) -> None:
        self.number, self.step = number, step

    def on_train_batch_end(self, trainer, *_) -> None:
        if trainer.global_step == self.step:
            signal.raise_signal(self.number)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)], ids=lambda x: str(x)
)
def test_a_signal_ends_a_training_after_its_step_with_a_checkpoint(number, status, tmp_path):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    signals = Signals()
    trainer = trainer_with(tmp_path, [Ask(number, 2), StopOnSignal(signals, tmp_path)])
    trainer._signal_connector.register_signal_handlers = lambda: None
    with pytest.raises(Stopped), signals:
        trainer.fit(tiny_gan(penalty_weight=0.01), DataLoader(batches(4), batch_size=None))
    assert signals.status == status and steps(tmp_path) == [2]


def test_signs_of_collapse_are_reported_once(tmp_path):
    messages = []
    signs = CollapseSigns("hinge", every_images=4, report=messages.append, least_diversity=1e9)
    trainer = trained(tmp_path, [signs], max_steps=4)
    for _ in range(45):
        signs.check_discriminator(trainer, 0.001)
    said = "\n".join(messages)
    assert said.count("the discriminator's loss is near 0") == said.count("samples of one caption differ") == 1


def test_a_signal_breaks_off_a_measurement_and_nothing_else():
    with Signals() as signals:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(EvaluationInterrupted), interruptible():
            raise AssertionError("not begun when a signal waits")
    assert signals.status == 75
    with Signals(), pytest.raises(EvaluationInterrupted), interruptible():
        signal.raise_signal(signal.SIGUSR1)
        raise AssertionError("not gone on with")
    with Signals(), interruptible():
        pass


@pytest.mark.parametrize("name", ["last-old.ckpt", "lastgood.ckpt", "last-01.ckpt", "last-.ckpt", "last.tmp.ckpt"])
def test_files_of_other_names_are_no_checkpoints(name, copy):
    shutil.copy(copy / "last.ckpt", copy / name)
    assert [path.name for path in checkpoints_in(copy)] == ["last.ckpt", "last-1.ckpt", "last-2.ckpt"]
    for path in checkpoints_in(copy):
        path.unlink()
    assert newest_intact(copy) is None


def test_a_checkpoint_that_the_system_cannot_read_is_not_passed_over(copy):
    newest_intact(copy)
    with no_more_files(spare=1), pytest.raises(UserError, match=r"last.ckpt can't be read: Too many open files"):
        newest_intact(copy)
    with no_more_files(), pytest.raises(UserError, match="run can't be read: Too many open files"):
        newest_intact(copy)


def test_a_killed_writer_leaves_the_newest_checkpoint_under_its_name(copy):
    make_room(copy / "last.ckpt", num_kept=3)
    assert steps(copy) == [3, 3, 2]


def test_where_there_are_no_hard_links_checkpoints_move_on_all_the_same(copy, monkeypatch):
    def refused(*_) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    make_room(copy / "last.ckpt", num_kept=3)
    assert steps(copy) == [3, 2]
