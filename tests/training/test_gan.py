import copy
import time
from collections import Counter
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Timer
from torch.nn import functional as F
from torch.utils.data import DataLoader

from cgan.data.caption_table import caption_ids
from cgan.data.loading import endless_loader
from cgan.data.scenes.dataset import Scenes
from cgan.models.joint import JointConfig, JointEncoder
from cgan.models.text.lstm import Vocabulary
from cgan.training import step
from cgan.training.callbacks.throughput import GAN_PARTS, Stopwatch, Throughput
from cgan.training.gan import TextToImageGAN
from cgan.training.joint import JointTraining
from cgan.training.losses import exact_gradient_penalty
from cgan.training.microbatch import draw_discriminator_noise, mismatched_captions
from cgan.training.schedule import progress_of
from helpers.gan import CAPTIONS, fit, moved, some_batch, tiny_gan


def without_images(gan: TextToImageGAN) -> TextToImageGAN:
    """The same without an image encoder."""
    gan.config.discriminator.form = "trunk"
    torch.manual_seed(0)
    return TextToImageGAN(gan.config, gan.text_encoder, None, 32)


@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_a_players_step_moves_only_that_player(player, tmp_path):
    gan = tiny_gan()
    frozen = "discriminator" if player == "generator" else "generator"
    rate = {"generator": "learning_rate", "discriminator": "discriminator_learning_rate"}[frozen]
    setattr(gan.config, rate, 0.0)  # the other player's step is taken, but of no length
    if frozen == "generator":
        gan.config.latent_prior_learning_rate = gan.config.matrix_learning_rate = 0.0
    before = {name: dict(copy.deepcopy(getattr(gan, name)).named_parameters()) for name in (player, frozen)}
    fit(gan, tmp_path, max_steps=1)
    assert moved(before[player], getattr(gan, player)) and not moved(before[frozen], getattr(gan, frozen))


class Gradients(pl.Callback):
    """Of each player, as they are when it steps."""

    def __init__(self) -> None:
        self.seen = []

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        moving = {name: p for name, p in module.named_parameters() if p.requires_grad and "prior" not in name}
        self.seen.append({name: p.grad.clone() for name, p in moving.items()})


def test_spectral_norms_move_on_once_a_step(tmp_path):
    gan, expected = tiny_gan(discriminator_learning_rate=0.0), []
    for norms in gan.discriminator.spectral_norms:
        norms.right.normal_()  # far from the singular vectors, so that each iteration shows
        for weight, vector in zip(norms.weights, norms.right, strict=True):
            matrix, vector = weight.original.detach().flatten(1), vector.flatten()
            for _ in range(2):
                vector = F.normalize(matrix.t() @ F.normalize(matrix @ vector, dim=0), dim=0)
            expected.append(vector)
    fit(gan, tmp_path, max_steps=2)
    found = [vector.flatten() for norms in gan.discriminator.spectral_norms for vector in norms.right]
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(found, expected, strict=True))


def test_backward_passes_run_outside_of_autocast(tmp_path):
    gan, inside = tiny_gan(), []
    for network in (gan.generator, gan.discriminator):  # autocast would convert products of float32 once more
        for weight in network.parameters():
            weight.register_hook(lambda gradient: inside.append(torch.is_autocast_enabled("cpu")))
    fit(gan, tmp_path, max_steps=1, precision="bf16-mixed")
    assert inside and not any(inside)


def gradients_of(gan: TextToImageGAN, tmp_path) -> list[dict[str, torch.Tensor]]:
    seen = Gradients()
    torch.manual_seed(1)
    fit(gan, tmp_path, max_steps=1, callbacks=[seen])
    return seen.seen


def assert_near(ones: list[dict[str, torch.Tensor]], others: list[dict[str, torch.Tensor]]) -> None:
    """Gradients of both players, relative to the size of all of a player's."""
    assert len(ones) == len(others) == 2
    for one, other in zip(ones, others, strict=True):
        flat = [torch.cat([x.flatten() for x in gradients.values()]) for gradients in (one, other)]
        assert one.keys() == other.keys() and (flat[0] - flat[1]).norm() < 1e-5 * flat[0].norm()


def test_a_batch_in_parts_gives_both_players_the_gradients_of_the_whole(tmp_path):
    whole, parts = (tiny_gan(matching_weight=0.0, accumulate=n) for n in (1, 2))
    for gan in (whole, parts):
        gan.eval()  # Lightning leaves it so; spectral norms, which drift with each look, then stay as they are
    assert_near(gradients_of(whole, tmp_path), gradients_of(parts, tmp_path))


def saved_bytes(gan: TextToImageGAN) -> int:
    """What a drawing keeps for its gradient, weights apart."""
    kept, weights = {}, {p.data_ptr() for p in gan.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.setdefault(x.data_ptr(), x), lambda x: x):
        step.generate_fakes(gan.networks, gan.prepare(some_batch())[0])
    return sum(x.nbytes for place, x in kept.items() if place not in weights)


def test_recomputing_saves_memory_and_leaves_the_gradients(tmp_path):
    kept, recomputed = (tiny_gan(recompute=again) for again in (False, True))
    assert saved_bytes(recomputed) < 0.6 * saved_bytes(kept)
    assert_near(gradients_of(kept, tmp_path), gradients_of(recomputed, tmp_path))


@pytest.mark.parametrize(("share", "num_reconstructed"), [(0.0, 1), (0.5, 2), (1.0, 4)])
def test_the_rest_of_a_batch_is_drawn_from_the_prior(share, num_reconstructed):
    gan = tiny_gan(reconstructed_fraction=share)
    (part,) = gan.prepare(some_batch())
    drawn = []
    for _ in range(2):
        drawn.append(step.generate_fakes(gan.networks, part))
        gan.generator.latent_prior.end.bias.data += 1  # a change of the prior shows where it is used
    same = [torch.equal(one, two) for one, two in zip(drawn[0].images, drawn[1].images, strict=True)]
    assert drawn[0].num_reconstructed == num_reconstructed and same == [i < num_reconstructed for i in range(4)]


def test_frozen_encoders_never_move(tmp_path):
    gan = tiny_gan()
    before = {name: value.clone() for name, value in gan.state_dict().items() if "_encoder" in name}
    fit(gan, tmp_path, max_steps=2)
    assert all(torch.equal(value, gan.state_dict()[name]) for name, value in before.items())


@pytest.mark.parametrize("kind", ["hinge", "nonsaturating", "relativistic"])
@pytest.mark.parametrize("form", ["trunk", "features"])
def test_every_loss_and_form_trains_with_finite_weights(kind, form, tmp_path):
    gan = tiny_gan(adversarial=kind)
    gan.config.discriminator.form = form
    gan = TextToImageGAN(gan.config, gan.text_encoder, gan.image_encoder, 32)
    fit(gan, tmp_path, max_steps=2)
    assert all(torch.isfinite(value).all() for value in gan.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("penalty", ["finite", "exact", "matching_aware"])
def test_a_penalty_holds_the_discriminator_back(penalty, tmp_path):
    free, held = (tiny_gan(penalty=penalty, penalty_weight=weight) for weight in (0.0, 1e4))
    for gan in (free, held):
        for parameter in gan.discriminator.parameters():
            parameter.data *= 3  # steep enough for the penalty to matter
        gan.config.discriminator_learning_rate = 3e-3
        fit(gan, tmp_path, max_steps=24)
    images = some_batch().images

    def steepness(gan: TextToImageGAN) -> torch.Tensor:
        gan.eval()
        text = gan.text_encoder(CAPTIONS)
        return exact_gradient_penalty(
            lambda x: gan.discriminator(x, text.sentence, step.frozen_features(gan.networks, x)[0]), images
        )

    assert steepness(held) < 0.9 * steepness(free)


@pytest.mark.parametrize(("form", "expected"), [("features", 1), ("trunk", 0)])
@pytest.mark.parametrize("penalty", ["finite", "exact", "matching_aware"])
def test_a_penalty_runs_the_frozen_encoder_only_for_a_discriminator_that_looks_at_its_maps(penalty, form, expected):
    gan = tiny_gan(penalty=penalty, penalty_weight=1.0)
    gan.config.discriminator.form = form
    gan = TextToImageGAN(gan.config, gan.text_encoder, gan.image_encoder, 32)
    (part,) = gan.prepare(some_batch())
    fakes, calls = step.generate_fakes(gan.networks, part), []
    noise = draw_discriminator_noise(gan.config, part.images)
    gan.image_encoder.register_forward_hook(lambda *_: calls.append(1))
    assert step.gradient_penalty(gan.networks, part, fakes, noise).isfinite()
    assert len(calls) == expected  # real and fake images together


def test_fakes_have_no_frozen_maps_where_nothing_asks_for_them():
    settings = {"reconstruction_weight": 0.0, "matching_weight": 0.0, "augmentation": ["cutout"]}
    gan, calls = tiny_gan(**settings), []  # the discriminator looks at the maps of changed pictures
    gan.image_encoder.register_forward_hook(lambda *_: calls.append(1))
    fakes = step.generate_fakes(gan.networks, gan.prepare(some_batch())[0])
    assert fakes.maps == [] and fakes.embedding is None and not calls


@pytest.mark.parametrize("kinds", [["translation"], ["cutout"], ["colour", "translation", "cutout"]])
def test_augmentation_changes_what_the_discriminator_sees(kinds):
    gan, images = tiny_gan(augmentation=kinds), some_batch().images
    maps = step.frozen_features(gan.networks, images)[0]
    draws = [draw_discriminator_noise(gan.config, images).real for _ in range(2)]
    once, twice = (step.seen_features(gan.networks, images, maps, some)[0] for some in draws)
    assert not torch.allclose(once, twice)


def test_it_trains_without_any_image_encoder(tmp_path):
    gan = without_images(tiny_gan())
    fit(gan, tmp_path, max_steps=2)
    assert gan.images_seen == 8


def test_muon_moves_the_matrices_inside_the_generator_by_steps_of_its_rate(tmp_path):
    gan = tiny_gan(matrix_learning_rate=0.05)
    before = copy.deepcopy(gan.generator)
    fit(gan, tmp_path, max_steps=1)
    for old, new in zip(before.inner_matrices(), gan.generator.inner_matrices(), strict=True):
        assert 0.2 < (new - old).square().mean().sqrt() / (0.2 * 0.05) < 1.3  # a gradient of 4 pictures is of low rank
    assert (gan.generator.style[0].weight - before.style[0].weight).abs().max() < 2e-3  # by Adam, at another rate


def test_muon_moves_the_matrices_inside_the_discriminator_by_steps_of_its_rate(tmp_path):
    gan = tiny_gan(discriminator_matrix_learning_rate=0.05)
    before = copy.deepcopy(gan.discriminator)
    fit(gan, tmp_path, max_steps=1)
    pairs = list(zip(before.inner_matrices(), gan.discriminator.inner_matrices(), strict=True))
    assert len(pairs) > len(gan.discriminator.heads)
    for old, new in pairs:
        assert 0.1 < (new - old).square().mean().sqrt() / (0.2 * 0.05) < 1.3
    everything = zip(before.parameters(), gan.discriminator.parameters(), strict=True)
    by_adam = [(old, new) for old, new in everything if old.dim() == 2]
    assert by_adam and all(0 < (new - old).abs().max() < 2e-3 for old, new in by_adam)


def test_the_rates_of_all_groups_of_both_players_are_logged(tmp_path):
    callback = Throughput(GAN_PARTS, Stopwatch())
    trainer = fit(tiny_gan(discriminator_matrix_learning_rate=0.05), tmp_path, max_steps=1)
    rates = callback.learning_rates(trainer)
    assert rates["learning_rate/discriminator_matrices"] == pytest.approx(0.05 * 0.05)  # at the end of the training
    assert "learning_rate/discriminator_matrices" not in callback.learning_rates(fit(tiny_gan(), tmp_path, max_steps=1))


class Rates(pl.Callback):
    """The learning rates of both players in each step."""

    def __init__(self) -> None:
        self.seen = []

    def on_train_batch_start(self, trainer, *_) -> None:
        self.seen.append([optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers])


def test_learning_rates_fall_to_a_twentieth_at_the_end(tmp_path):
    rates, gan = Rates(), tiny_gan(decay_from=0.5, learning_rate=0.01, discriminator_learning_rate=0.02)
    trainer = fit(gan, tmp_path, max_steps=8, callbacks=[rates])
    generator, discriminator = zip(*rates.seen, strict=True)
    assert generator == pytest.approx([0.01] * 5 + [0.007625, 0.00525, 0.002875])
    assert discriminator == pytest.approx([2 * rate for rate in generator])
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.0005)


def test_the_adversary_joins_when_its_share_of_the_training_has_come(tmp_path):
    gan = tiny_gan(adversarial_from=0.5)
    before = dict(copy.deepcopy(gan.discriminator).named_parameters())
    plays = []
    gan.on_train_batch_end = lambda *_: plays.append(moved(before, gan.discriminator))
    fit(gan, tmp_path, max_steps=6)
    assert plays == [False, False, False, True, True, True]


class Terms:
    """The names of the terms that the generator's loss had in each step."""

    def __init__(self, gan) -> None:
        self.seen, loss_of = [], gan.generator_loss
        gan.generator_loss = lambda *arguments: self.noted(loss_of(*arguments))

    def noted(self, found):
        self.seen.append(set(found[1]))
        return found


@pytest.mark.parametrize(
    ("changes", "joins"),
    [
        ({"matching_from": 0.5, "adversarial_from": 1.0}, 3),
        ({"adversarial_from": 0.5}, 3),  # with the discriminator
        ({"adversarial_from": 0.5, "reconstruction_weight": 0.0}, 0),
        ({"adversarial_from": 0.5, "reconstructed_fraction": 0.5}, 0),
    ],
)
def test_the_matching_term_joins_in_time_or_at_once_where_it_alone_teaches_some_fakes(changes, joins, tmp_path):
    gan = tiny_gan(**changes)
    terms = Terms(gan)
    fit(gan, tmp_path, max_steps=6)
    assert ["loss/matching" in names for names in terms.seen] == [False] * joins + [True] * (6 - joins)


def test_the_relational_matching_term_is_nothing_for_the_real_pictures_themselves():
    gan = tiny_gan()
    (part,) = gan.prepare(some_batch())
    fakes = step.generate_fakes(gan.networks, part)
    assert step.matching_loss(gan.networks, part, fakes) > 1e-4
    perfect = fakes._replace(embedding=fakes.real_embedding)
    assert step.matching_loss(gan.networks, part, perfect).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("step", "progress"), [(0, 0.25), (10, 0.25), (40, 0.4), (100, 1.0)])
def test_progress_follows_whichever_of_steps_and_time_is_nearer_to_its_end(step, progress):
    timer = Timer({"minutes": 10})
    timer.time_elapsed, timer.time_remaining = lambda: 150.0, lambda: 450.0
    alone = SimpleNamespace(broadcast=lambda x: x)
    trainer = SimpleNamespace(global_step=step, max_steps=100, callbacks=[timer], strategy=alone)
    assert progress_of(trainer) == progress


def test_training_ends_when_its_time_is_up(tmp_path, monkeypatch):
    gan, now = tiny_gan(), [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    gan.on_train_batch_start = lambda *_: now.append(now.pop() + 0.125)  # what a step takes
    trainer = pl.Trainer(
        max_steps=1_000_000, max_time={"seconds": 1}, accelerator="cpu", logger=False, enable_progress_bar=False,
        default_root_dir=tmp_path, enable_checkpointing=False, enable_model_summary=False, max_epochs=-1,
    )  # fmt: skip
    trainer.fit(gan, DataLoader([some_batch() for _ in range(8)], batch_size=None))
    assert trainer.global_step == 8
    assert trainer.optimizers[0].param_groups[0]["lr"] < 0.5 * gan.config.learning_rate


def test_pictures_travel_as_bytes_and_are_floats_once_they_are_on_the_device(tmp_path):
    seen = []

    class Seen(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
            seen.append(batch.images)

    scenes = Scenes(4, 32, cache=tmp_path)
    sent = next(iter(endless_loader(scenes, 4, 0)))
    assert sent.images.dtype == torch.uint8
    joint = JointEncoder(JointConfig(picture_weight=0, caption_weight=0), Vocabulary.of(CAPTIONS), 32)
    for module in (tiny_gan(), JointTraining(joint)):
        trainer = pl.Trainer(
            max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path,
            enable_checkpointing=False, enable_model_summary=False, callbacks=[Seen()],
        )  # fmt: skip
        trainer.fit(module, endless_loader(scenes, 4, 0))
    assert len(seen) == 2 and all(torch.allclose(x, sent.images.float() / 127.5 - 1) for x in seen)


def test_global_step_counts_batches_and_images_are_counted(tmp_path):
    gan = tiny_gan()
    trainer = fit(gan, tmp_path, max_steps=3)
    assert trainer.global_step == 3 and gan.images_seen == 12


def test_mismatched_pairs_are_never_matched_ones():
    batch = some_batch()
    for _ in range(200):
        index, valid = mismatched_captions(batch.image_ids, caption_ids(batch.captions))
        for i, j in enumerate(index.tolist()):
            assert valid[i] and batch.image_ids[i] != batch.image_ids[j] and CAPTIONS[i] != CAPTIONS[j]


def test_mismatched_captions_may_be_near_ones_but_none_that_mean_the_same():
    ids, words = torch.arange(4), torch.arange(4)
    cosines = torch.tensor([[1, 0.9, 0.7, 0.5], [0.9, 1, 0.2, 0.3], [0.7, 0.2, 1, 0.6], [0.5, 0.3, 0.6, 1]])
    index, valid = mismatched_captions(ids, words, cosines, hard=True)
    assert index.tolist() == [2, 3, 0, 2] and valid.all()
    drawn = Counter(mismatched_captions(ids, words, cosines)[0][0].item() for _ in range(500))
    assert set(drawn) == {2, 3} and 30 < drawn[3] < 100  # e^2 to 1 in favour of the nearer one: 60
    assert not mismatched_captions(ids, words, torch.ones(4, 4), hard=True)[1].any()


@pytest.mark.parametrize("mismatched", ["soft", "hard"])
def test_a_gan_trains_with_near_captions_as_mismatched(mismatched, tmp_path):
    gan = tiny_gan(mismatched=mismatched)
    before = dict(copy.deepcopy(gan.discriminator).named_parameters())
    fit(gan, tmp_path, max_steps=1)
    assert moved(before, gan.discriminator)


def test_a_batch_of_one_caption_has_no_mismatched_pair():
    assert not mismatched_captions(torch.arange(3), caption_ids(["a dog"] * 3))[1].any()


def test_the_average_moves_by_half_in_one_half_life():
    gan = tiny_gan(ema_half_life=100)
    gan.images_seen += 1_000_000
    start = [p.clone() for p in gan.generator_ema.parameters()]
    for parameter in gan.generator.parameters():
        parameter.data += 1
    for _ in range(10):
        gan.average_generator(10)
    for old, new in zip(start, gan.generator_ema.parameters(), strict=True):
        assert torch.allclose(new - old, torch.full_like(old, 0.5), atol=1e-5)
