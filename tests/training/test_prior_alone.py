"""At the end of a training the latent prior alone is trained."""

import copy
import csv
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from cgan.config import GANConfig
from cgan.training.adaptive import EVERY
from cgan.training.average import GeneratorAverage
from cgan.training.callbacks.progress import losses_of
from cgan.training.callbacks.seeding import SeededSteps
from cgan.training.gan import TextToImageGAN
from cgan.training.metrics_file import MetricsFile
from helpers.gan import fit, moved, some_batch, tiny_gan

PARTS = "generator", "latent_prior", "posterior", "discriminator", "generator_ema", "averaged_prior"


def parts_of(gan: TextToImageGAN) -> dict[str, dict[str, torch.Tensor]]:
    """The weights of each part; those of both priors apart from their generators'."""
    found: dict[str, dict[str, torch.Tensor]] = {name: {} for name in PARTS}
    for name, weight in gan.named_parameters():
        part, _, rest = name.partition(".")
        if rest.startswith("latent_prior."):
            part = {"generator": "latent_prior", "generator_ema": "averaged_prior"}[part]
        if part in found:
            found[part][name] = weight.detach().clone()
    return found


class Moves(pl.Callback):
    """Which parts each step moved, and the rates by which it did."""

    def __init__(self) -> None:
        self.moved, self.rates = [], []

    def on_train_batch_start(self, trainer, gan, *_) -> None:
        self.before = parts_of(gan)
        self.rates.append([group["lr"] for group in trainer.optimizers[0].param_groups][:2])

    def on_train_batch_end(self, trainer, gan, *_) -> None:
        after = parts_of(gan)
        same = {p: all(torch.equal(after[p][name], x) for name, x in self.before[p].items()) for p in PARTS}
        self.moved.append({part for part in PARTS if not same[part]})


def test_from_its_share_of_the_training_on_the_prior_and_its_average_alone_move(tmp_path):
    moves, gan = Moves(), tiny_gan(latent_prior_alone_from=0.5)
    fit(gan, tmp_path, max_steps=6, callbacks=[moves])
    assert moves.moved == [set(PARTS)] * 3 + [{"latent_prior", "averaged_prior"}] * 3
    assert gan.images_seen == 24


def test_the_rate_of_the_prior_falls_then_and_those_of_all_else_before(tmp_path):
    moves = Moves()
    gan = tiny_gan(latent_prior_alone_from=0.5, learning_rate=0.01, latent_prior_learning_rate=0.02)
    fit(gan, tmp_path, max_steps=8, callbacks=[moves])
    drawing, prior = zip(*moves.rates, strict=True)
    assert drawing[:4] == pytest.approx([0.01, 0.01, 0.01, 0.00525])  # on the way to a twentieth
    assert prior == pytest.approx([0.02] * 5 + [0.01525, 0.0105, 0.00575])


def test_the_last_losses_of_all_else_are_logged_even_if_the_next_row_comes_after_them(tmp_path):
    gan, logger = tiny_gan(latent_prior_alone_from=0.5), MetricsFile(tmp_path / "metrics.csv")
    fit(gan, tmp_path, max_steps=8, logger=logger, log_every_n_steps=3)  # after step 3, and 6 of which 5 is the prior's
    first, second = csv.DictReader(open(tmp_path / "metrics.csv"))
    assert first["loss/generator"] and second["loss/generator"] != first["loss/generator"]


def test_only_the_loss_of_the_prior_is_logged_and_shown_then(tmp_path):
    gan, logger, shown = tiny_gan(latent_prior_alone_from=0.5), MetricsFile(tmp_path / "metrics.csv"), []

    class Shown(pl.Callback):
        def on_train_batch_end(self, trainer, *_) -> None:
            shown.append(losses_of(trainer))

    fit(gan, tmp_path, max_steps=4, callbacks=[Shown()], logger=logger, log_every_n_steps=1)
    rows = list(csv.DictReader(open(tmp_path / "metrics.csv")))
    filled = [{name for name, value in row.items() if name.startswith("loss/") and value} for row in rows]
    assert len(rows) == 4 and all({"loss/generator", "loss/prior"} < names for names in filled[:2])
    assert filled[2:] == [{"loss/prior"}] * 2
    assert [", reconstruction " in line for line in shown] == [True, True, False, False]
    assert all(line.startswith(", prior ") for line in shown[2:])


def test_neither_is_the_augmentation_of_a_discriminator_that_no_longer_learns(tmp_path):
    ada = {"augmentation": ["translation"], "adaptive_augmentation": True}
    gan, logger = tiny_gan(latent_prior_alone_from=0.5, **ada), MetricsFile(tmp_path / "metrics.csv")
    fit(gan, tmp_path, max_steps=2 * EVERY, logger=logger, log_every_n_steps=1)
    rows = list(csv.DictReader(open(tmp_path / "metrics.csv")))
    of_discriminator = {"augmentation/probability", "augmentation/overfitting", "logits/real", "logits/fake"}
    assert all(rows[EVERY - 1][name] for name in of_discriminator)
    assert not any(row[name] for row in rows[EVERY:] for name in of_discriminator)


@pytest.mark.parametrize("changes", [{"reconstruction_weight": 0.0}, {"latent_prior_alone_from": 1.0}])
def test_without_a_posterior_or_by_a_share_of_one_all_is_trained_to_the_end(changes, tmp_path):
    moves, gan = Moves(), tiny_gan(**{"latent_prior_alone_from": 0.5} | changes)
    fit(gan, tmp_path, max_steps=4, callbacks=[moves])
    assert all({"generator", "generator_ema", "discriminator"} <= step for step in moves.moved)


def test_a_share_of_zero_trains_a_prior_for_given_networks(tmp_path):
    gan = tiny_gan(latent_prior_alone_from=0.0)
    before = dict(copy.deepcopy(gan.generator.latent_prior).named_parameters())
    fit(gan, tmp_path, max_steps=1)
    assert moved(before, gan.generator.latent_prior)


class Saving(pl.Callback):
    """Saves a checkpoint after five steps."""

    def on_train_batch_end(self, trainer, *_) -> None:
        if trainer.global_step == 5:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "part.ckpt")


def test_a_training_resumed_while_the_prior_is_alone_ends_as_if_never_stopped(tmp_path):
    batches, settings = [some_batch()] * 8, {"latent_prior_alone_from": 0.5, "adversarial_from": 0.2}
    whole, resumed = tiny_gan(**settings), tiny_gan(seed=1, **settings)
    fit(whole, tmp_path, max_steps=8, callbacks=[SeededSteps(0), Saving()], batches=batches)
    fit(resumed, tmp_path, 8, tmp_path / "part.ckpt", batches, callbacks=[SeededSteps(0)])
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())


def test_the_average_of_a_prior_alone_is_slower_but_never_longer_than_a_quarter_of_its_time():
    average = GeneratorAverage(GANConfig(ema_half_life=1000, ema_ramp_up=0.05))
    assert average.half_life(10, 100_000, prior_alone=False) == 1000
    found = [average.half_life(10, 100_010 + 10 * seen, prior_alone=True) for seen in (0, 500, 999, 5000)]
    assert found == [1000, 1252.5, 2500, 3000]
