"""Steps between those that are logged never wait for a device: no value is read, copied to the host or synchronised."""

import csv
import math
from contextlib import suppress
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from cgan.config import RunConfig, TrainerConfig
from cgan.training.callbacks.fault_tolerance import fault_tolerance_callbacks
from cgan.training.callbacks.progress import ProgressLine
from cgan.training.callbacks.samples import SampleGridCallback
from cgan.training.callbacks.seeding import SeededSteps
from cgan.training.callbacks.throughput import GAN_PARTS, Stopwatch, Throughput
from cgan.training.metrics_file import MetricsFile
from cgan.training.trainer import trainer_of
from cgan.training.turns import only_updated
from helpers.gan import CAPTIONS, fit, some_batch, tiny_gan


class Reads(TorchDispatchMode):
    """The steps, from 1, in which the value of a tensor is read by item, float, bool, tolist, cpu or numpy."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.trainer: pl.Trainer | None = None
        self.steps: list[int] = []
        for name in ("tolist", "cpu", "numpy"):  # these do not dispatch an operation on a CPU
            monkeypatch.setattr(Tensor, name, self.noting(getattr(Tensor, name)))

    def noting(self, method):
        def noted(*arguments, **named):
            self.note()
            return method(*arguments, **named)

        return noted

    def note(self) -> None:
        if self.trainer is not None and self.trainer.training:
            self.steps.append(self.trainer.fit_loop.epoch_loop.batch_idx + 1)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            self.note()
        return function(*args, **(kwargs or {}))


class Follow(pl.Callback):
    """Tells Reads when steps begin and that they are over."""

    def __init__(self, reads: Reads) -> None:
        self.reads, self.seen = reads, []

    def on_train_batch_start(self, trainer, *_) -> None:
        self.reads.trainer = trainer

    def on_train_batch_end(self, trainer, *_) -> None:
        self.seen.append(float(trainer.callback_metrics["loss/generator"]) if len(self.seen) == 1 else None)

    def on_train_end(self, *_) -> None:
        self.reads.trainer = None


def steps_that_read(tmp_path, monkeypatch, num_steps: int, on_nan: str = "stop") -> list[int]:
    """Those of a tiny GAN's training, by the trainer and with the callbacks of a real one."""
    settings = TrainerConfig(precision="32-true", batch_size=4, sample_every=0, on_nan=on_nan, gradient_clip=1.0)
    reads, config = Reads(monkeypatch), RunConfig(trainer=settings)
    grid = SampleGridCallback(tmp_path, [], 8, every_images=0)
    callbacks = [grid, ProgressLine("GAN", 4), *fault_tolerance_callbacks(config, tmp_path)]
    log = MetricsFile(tmp_path / "metrics.csv")
    trainer = trainer_of(settings, num_steps, 60.0, 0, [log], [*callbacks, Follow(reads)], num_optimizers=2)
    trainer.log_every_n_steps = 4
    loader = DataLoader([some_batch() for _ in range(num_steps)], batch_size=None, collate_fn=lambda batch: batch)
    gan = tiny_gan()
    text = gan.text_encoder(CAPTIONS)
    gan.text_encoder.forward = lambda captions: text  # it packs sequences by their lengths, which are on the host
    with reads:
        trainer.fit(gan, loader)
    return reads.steps


def test_a_training_reads_values_in_logged_steps_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = steps_that_read(tmp_path, monkeypatch, 7)
    assert set(found) == {2, 4}  # 2: a user's callback looks at a loss
    (row,) = csv.DictReader((tmp_path / "metrics.csv").open(newline=""))
    assert {"loss/generator", "loss/discriminator", "gradient_norm/generator", "data_wait", "images_seen"} <= set(row)


def test_to_skip_what_is_not_finite_means_to_wait_in_each_step(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert set(steps_that_read(tmp_path, monkeypatch, 3, on_nan="skip")) == {1, 2, 3}


def test_a_gpu_is_waited_for_in_logged_steps_alone(monkeypatch):
    waits, step = [], 0
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: waits.append(step))
    throughput = Throughput(GAN_PARTS, Stopwatch())
    module = SimpleNamespace(device=torch.device("cuda"), images_seen=0)
    loop = SimpleNamespace(epoch_loop=tiny_trainer().fit_loop.epoch_loop)
    trainer = SimpleNamespace(
        global_step=0, log_every_n_steps=20, world_size=1, optimizers=[], fit_loop=loop, should_stop=False
    )
    throughput.learning_rates = lambda _: {}
    throughput.on_train_start(trainer, module)
    for step in range(1, 45):
        trainer.global_step = step - 1
        throughput.on_train_batch_start(trainer, module)
        throughput.on_train_batch_end(trainer, module, None, some_batch())
    assert waits == [20, 40]


def tiny_trainer() -> pl.Trainer:
    """A trainer that has not trained."""
    return trainer_of(TrainerConfig(precision="32-true"), 1, None, 0, [], [], num_optimizers=2)


def test_hooks_that_no_callback_has_changed_are_passed_over():
    user = Losses()
    trainer = trainer_of(TrainerConfig(precision="32-true"), 1, None, 0, [], [user], num_optimizers=2)
    assert user.on_before_backward is None and callable(user.on_train_batch_end) and callable(user.on_train_start)
    assert all(callback.on_after_backward is None for callback in trainer.callbacks)


def test_the_random_numbers_of_a_step_are_those_of_torch_manual_seed():
    trainer = SimpleNamespace(global_step=7, strategy=SimpleNamespace(root_device=torch.device("cpu")))
    SeededSteps(3).on_train_batch_start(trainer)
    found = torch.rand(5), torch.randn(5)
    torch.manual_seed(3 * 1_000_003 + 7)
    assert torch.equal(found[0], torch.rand(5)) and torch.equal(found[1], torch.randn(5))


def test_only_the_weights_of_the_chosen_optimizer_get_gradients_and_frozen_ones_stay_frozen():
    one, other, frozen = (nn.Parameter(torch.ones(2), requires_grad=wanted) for wanted in (True, True, False))
    optimizers = [torch.optim.SGD([one]), torch.optim.SGD([other, frozen])]
    with suppress(ValueError), only_updated(optimizers, optimizers[0]):
        assert one.requires_grad and not other.requires_grad and not frozen.requires_grad
        raise ValueError
    assert one.requires_grad and other.requires_grad and not frozen.requires_grad


class Losses(pl.Callback):
    """The generator's loss of each step, as trainer.callback_metrics has it, and one that a user logs."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer, module, *_) -> None:
        module.log("mine", 1.0)
        assert float(trainer.callback_metrics["mine"]) == 1
        self.seen.append(float(trainer.callback_metrics["loss/generator"]))


def test_callbacks_see_the_losses_of_the_step_in_each_step(tmp_path):
    losses = Losses()
    trainer = fit(tiny_gan(), tmp_path, 4, callbacks=[losses])
    assert len(set(losses.seen)) == 4 and all(map(math.isfinite, losses.seen))
    assert trainer.callback_metrics["loss/generator"] == losses.seen[-1]


def test_the_loss_of_a_batch_in_parts_is_the_mean_of_its_parts(tmp_path):
    gan = tiny_gan(accumulate=2)
    seen, original = [], gan.generator_loss
    gan.generator_loss = lambda *given: seen.append(original(*given)) or seen[-1]
    trainer = fit(gan, tmp_path, 1)
    parts = [scalars["loss/reconstruction"] for _, scalars in seen]
    assert len(parts) == 2 and parts[0] != parts[1]
    assert torch.allclose(trainer.callback_metrics["loss/reconstruction"], (parts[0] + parts[1]) / 2)
