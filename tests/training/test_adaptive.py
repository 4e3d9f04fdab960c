"""ADA: the probability of augmentation follows the overfitting, on the device, and survives a resume."""

import pytest
import torch
from PIL import Image
from torch._dynamo.testing import CompileCounterWithBackend

from cgan.config import load_config
from cgan.interfaces import UserError
from cgan.models.augment import augment, draw_augmentation
from cgan.training.adaptive import EVERY, LARGEST, AdaptiveAugmentation, HeldOut, check_adaptive, held_out_pictures
from cgan.training.callbacks.seeding import SeededSteps
from helpers.gan import fit, some_batch, tiny_gan

ADA = {"augmentation": ["translation", "cutout"], "adaptive_augmentation": True, "adaptive_images": 400.0}


def adaptive(**changes) -> AdaptiveAugmentation:
    return AdaptiveAugmentation(tiny_gan(**ADA | changes).config)


def observed(real: float, fake: float, sign: float) -> dict[str, torch.Tensor]:
    names = {"logits/real": real, "logits/fake": fake, "logits/sign": sign}
    return {name: torch.tensor(value) for name, value in names.items()}


def after(strength: AdaptiveAugmentation, steps: int, scalars: dict, num_images: int = 10) -> list[float]:
    """The probability after each step."""
    found = []
    for _ in range(steps):
        strength.observe(scalars)
        strength.follow(None, num_images)  # pyright: ignore[reportArgumentType] -- no held-out pictures to look at
        found.append(round(float(strength.probability), 6))
    return found


def test_a_sure_discriminator_raises_the_probability_every_few_steps():
    step = EVERY * 10 / 400
    assert after(adaptive(), 2 * EVERY, observed(1, -1, 0.9)) == [0, 0, 0, step, step, step, step, 2 * step]


def test_the_probability_stays_between_nothing_and_what_does_not_leak():
    strength = adaptive()
    assert after(strength, 20 * EVERY, observed(1, -1, 0.9))[-1] == pytest.approx(LARGEST)
    assert after(strength, 40 * EVERY, observed(0, 0, 0.1))[-1] == 0


def test_a_logit_that_is_not_finite_leaves_it_where_it_is():
    strength = adaptive()
    before = after(strength, EVERY, observed(1, -1, 0.9))[-1]
    assert after(strength, EVERY, observed(torch.nan, torch.nan, torch.nan))[-1] == before > 0


@pytest.mark.parametrize("held_out, expected", [(1.0, 0.0), (-1.0, 1.0), (0.0, 0.5)])
def test_with_held_out_pictures_overfitting_is_the_papers_ratio(held_out, expected):
    strength = adaptive()
    strength.held_out = HeldOut(torch.zeros(1), torch.zeros(1))
    strength.sums.copy_(EVERY * torch.tensor([1.0, -1.0, 0.0, held_out]))
    assert float(strength.overfitting()) == pytest.approx(expected)


def test_a_discriminator_that_tells_nothing_apart_does_not_overfit():
    strength = adaptive()
    strength.held_out = HeldOut(torch.zeros(1), torch.zeros(1))
    strength.sums.copy_(torch.tensor([0.1, 0.5, 1.0, -3.0]))
    assert float(strength.overfitting()) == 0


def test_each_kind_changes_its_share_of_the_pictures():
    images = torch.rand(400, 3, 16, 16) + 0.5
    draws = draw_augmentation(["cutout"], 400, images.device, torch.tensor(0.3))
    changed = (augment(images, ["cutout"], draws) != images).flatten(1).any(dim=1)
    assert torch.equal(changed, draws[1][:, 0]) and 0.2 < float(changed.float().mean()) < 0.4
    none = draw_augmentation(["cutout"], 400, images.device, torch.tensor(0.0))
    assert torch.equal(augment(images, ["cutout"], none), images)


def test_without_it_the_random_numbers_are_those_of_before():
    torch.manual_seed(0)
    before = torch.rand(5, 2, 1)
    torch.manual_seed(0)
    assert torch.equal(*draw_augmentation(["translation"], 5, before.device), before)


def test_held_out_pictures_are_looked_at_in_turn_and_what_follows_is_logged(tmp_path):
    gan = tiny_gan(**ADA)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (6, 3, 32, 32), generator=generator, dtype=torch.uint8)
    gan.adaptive.held_out = HeldOut(images, torch.randn(6, 16, generator=generator))
    trainer = fit(gan, tmp_path, max_steps=2 * EVERY)
    metrics = trainer.callback_metrics
    assert gan.adaptive.num_steps == 2 * EVERY and torch.isfinite(metrics["augmentation/overfitting"])
    assert float(metrics["augmentation/probability"]) == float(gan.adaptive.probability)


@pytest.mark.slow
def test_a_resumed_training_is_the_one_that_was_never_stopped(tmp_path):
    torch.manual_seed(1)
    settings = {"batches": [some_batch()] * 8, "callbacks": [SeededSteps(3)]}  # Lightning begins the epoch anew
    whole, first, second = (tiny_gan(**ADA, adaptive_target=-2.0, decay_from=1.0) for _ in range(3))
    fit(whole, tmp_path, 8, **settings)
    fit(first, tmp_path, 5, **settings).save_checkpoint(tmp_path / "last.ckpt")  # one step after a change
    fit(second, tmp_path, 8, tmp_path / "last.ckpt", **settings)
    assert float(second.adaptive.probability) == float(whole.adaptive.probability) > 0
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))


def test_a_checkpoint_holds_probability_sums_and_steps_and_no_further_weights():
    first, second = tiny_gan(**ADA), tiny_gan(**ADA)
    after(first.adaptive, EVERY + 1, observed(1, -1, 0.9))
    checkpoint = {"state_dict": first.state_dict()}
    first.on_save_checkpoint(checkpoint)
    second.on_load_checkpoint(checkpoint)
    assert second.adaptive.num_steps == EVERY + 1 and torch.equal(second.adaptive.sums, first.adaptive.sums)
    assert float(second.adaptive.probability) == float(first.adaptive.probability) > 0
    assert checkpoint["state_dict"].keys() == tiny_gan().state_dict().keys()


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_losses_with_it_compile_whole_and_once(accumulate, tmp_path):
    gan, count = tiny_gan(**ADA, accumulate=accumulate, adaptive_target=-2.0), CompileCounterWithBackend("eager")
    gan.compile_losses(count, report=pytest.fail)
    graphs = []
    gan.on_train_batch_end = lambda *_: graphs.append(count.frame_count)
    fit(gan, tmp_path, max_steps=2 * EVERY)
    assert graphs == [4 - accumulate] * (2 * EVERY)  # as the probability rises


def test_what_there_is_nothing_to_adapt_for_is_one_line():
    with pytest.raises(UserError, match=r"gan.augmentation is empty"):
        adaptive(augmentation=[])
    folder = ["data.source=folder", "data.root=x", "gan.adaptive_augmentation=true", "gan.adversarial=relativistic"]
    with pytest.raises(UserError, match=r"relativistic.*data.test_images"):
        check_adaptive(load_config(folder))
    check_adaptive(load_config([*folder, "data.test_images=20"]))


def test_held_out_pictures_are_those_of_test_images_with_a_caption_each(tmp_path, monkeypatch):
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path / "cache"))
    for i in range(24):
        Image.new("RGB", (32, 32), (10 * i, 0, 0)).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text("a red dog")
    folder = ["data.source=folder", f"data.root={tmp_path}", "data.resolution=32"]
    encoder = tiny_gan().text_encoder
    held_out = held_out_pictures(load_config([*folder, "data.test_images=17"]), encoder)
    assert held_out is not None and held_out.images.shape == (17, 3, 32, 32) and held_out.sentences.shape == (17, 16)
    assert held_out_pictures(load_config([*folder, "data.test_images=3"]), encoder) is None
