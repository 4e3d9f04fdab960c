"""The published recipes of configs/race/recipes, and the pieces that they are made of."""

import math
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Timer

from cgan.config import load_config
from cgan.interfaces import UserError
from cgan.models.coattention import CoAttention
from cgan.models.discriminator import Discriminator, DiscriminatorConfig
from cgan.models.encoders.resnet import SmallResNet
from cgan.models.generators import build_generator
from cgan.models.generators.base import GeneratorConfig
from cgan.models.generators.dfgan import DownBlock, StridedTrunk
from cgan.models.generators.r3gan import Bottleneck, PlainTrunk
from cgan.models.text.lstm import LSTMConfig, LSTMTextEncoder, Vocabulary
from cgan.training import step
from cgan.training.gan import TextToImageGAN
from cgan.training.losses import info_nce, spherical_distance
from cgan.training.schedule import by_cosine, minutes_of, pause_training_clock
from helpers import ROOT
from helpers.gan import CAPTIONS, fit, some_batch, some_text

SCENES = str(ROOT / "configs/gan/scenes.yaml")
RECIPES = sorted((ROOT / "configs/race/recipes").glob("*.yaml"))
TINY = """gan.generator.noise_dim=8 gan.generator.style_dim=16 gan.generator.width=4 gan.generator.max_channels=16
    gan.generator.latent_prior_dim=8 gan.discriminator.width=4 gan.discriminator.max_channels=16
    gan.discriminator.head_dim=8""".split()


def gan_of(*arguments: str, resolution: int = 32, width: int = 4, dim: int = 16) -> TextToImageGAN:
    """The networks of a configuration of size tiny, on encoders that nobody trained."""
    torch.manual_seed(0)
    text = LSTMTextEncoder(LSTMConfig(dim=dim, embedding_dim=8), Vocabulary.of(CAPTIONS))
    image, attention = SmallResNet(width=width, embedding_dim=dim), CoAttention(4 * width, dim, dim)
    config = load_config([SCENES, "gan.size=tiny", *arguments]).gan
    return TextToImageGAN(config, text, image, resolution, coattention=attention)


def num_weights(network: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_has_networks_of_the_default_ones_size_and_says_so(recipe):
    counts = {}
    for name, arguments in {"default": [], "recipe": [str(recipe)]}.items():
        gan = gan_of(*arguments, resolution=64, width=32, dim=128)
        counts[name] = [num_weights(network) for network in (gan.generator, gan.discriminator)]
    for own, default in zip(counts["recipe"], counts["default"], strict=True):
        assert 0.7 < own / default < 1.2 and f"{own / 1e6:.2f}M" in recipe.read_text()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_moves_both_players_and_stays_finite(recipe, tmp_path):
    gan = gan_of(str(recipe), *TINY)
    before = {name: value.clone() for name, value in gan.named_parameters()}
    fit(gan, tmp_path, max_steps=3)
    moved = {name.split(".")[0] for name, value in gan.named_parameters() if not torch.equal(before[name], value)}
    assert moved == {"generator", "discriminator", "generator_ema"}
    assert all(torch.isfinite(value).all() for value in gan.parameters())


@pytest.mark.parametrize("form", ["dfgan", "r3gan"])
@pytest.mark.parametrize(("resolution", "patch"), [(32, 1), (32, 2), (128, 2)])
def test_generators_of_papers_draw_within_range_and_hear_the_noise(form, resolution, patch):
    config = GeneratorConfig(form=form, patch=patch, noise_dim=8, style_dim=16, width=4, max_channels=16)
    generator, noise, text = build_generator(config, resolution, 16), torch.randn(2, 8), some_text()
    images = generator(noise, text)
    assert images.shape == (2, 3, resolution, resolution) and images.abs().max() <= 1
    assert not torch.allclose(images, generator(-noise, text))


def test_in_df_gan_the_caption_comes_in_by_the_affine_layers_alone():
    config = GeneratorConfig(form="dfgan", noise_dim=8, style_dim=16, width=4, max_channels=16)
    generator, noise, text = build_generator(config, 32, 16), torch.randn(2, 8), some_text()
    other = text._replace(sentence=-text.sentence)
    assert torch.equal(generator(noise, text), generator(noise, other))  # they start as the identity
    torch.nn.init.normal_(generator.blocks[1].affines[0].scale[-1].weight)
    assert not torch.allclose(generator(noise, text), generator(noise, other))


def test_residual_blocks_of_papers_start_as_their_shortcuts():
    x = torch.randn(2, 8, 16, 16)
    assert torch.equal(Bottleneck(8)(x), x)
    assert torch.equal(DownBlock(8, 8)(x), torch.nn.functional.avg_pool2d(x, 2))


@pytest.mark.parametrize("trunk", [StridedTrunk, PlainTrunk])
@pytest.mark.parametrize("patch", [1, 2, 4])
@pytest.mark.parametrize("resolution", [32, 128])
def test_trunks_of_papers_end_in_a_map_of_four_by_four(trunk, patch, resolution):
    network = trunk(resolution, 4, 16, patch)
    assert network(torch.randn(2, 3, resolution, resolution)).shape == (2, network.channels, 4, 4)


@pytest.mark.parametrize(
    ("condition", "know"),
    [("projection", [True] * 3), ("concat", [True] * 3), ("separate", [False] * 3 + [True] * 3)],
)
def test_only_separate_logits_do_without_the_caption(condition, know):
    config = DiscriminatorConfig(condition=condition, width=4, max_channels=16, head_dim=8)
    discriminator = Discriminator(config, 32, text_dim=16, map_channels=[6, 12]).eval()
    hidden = discriminator.features(torch.randn(2, 3, 32, 32), [torch.randn(2, 6, 8, 8), torch.randn(2, 12, 4, 4)])
    sentence = torch.randn(2, 16)
    one, other = discriminator.logits(hidden, sentence), discriminator.logits(hidden, -sentence)
    assert (one != other).any(dim=0).tolist() == know
    assert torch.equal(one[:, -3:], discriminator.conditional_logits(hidden, sentence))


def test_a_discriminator_needs_something_to_stand_on():
    with pytest.raises(UserError, match="trunk=none"):
        Discriminator(DiscriminatorConfig(form="trunk", trunk="none"), 32, text_dim=16)


def test_the_spherical_distance_is_the_squared_angle():
    angles = torch.tensor([0.0, 0.3, 1.0, 2.5])
    points = torch.stack([angles.cos(), angles.sin()], dim=1) * torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    target = torch.tensor([[5.0, 0.0]]).expand(4, 2)
    assert float(spherical_distance(points, target)) == pytest.approx(float(angles.square().mean()), abs=1e-5)


def test_the_spherical_distance_has_gradients_of_points_at_and_opposite_to_the_target():
    points = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    spherical_distance(points, torch.tensor([[1.0, 0.0], [1.0, 0.0]])).backward()
    assert torch.isfinite(points.grad).all()


def test_attention_adds_words_and_regions_to_the_choice_of_captions():
    gan, batch = gan_of("gan.matching=attention", *TINY), some_batch()
    (part,) = gan.prepare(batch)
    fakes, ids = step.generate_fakes(gan.networks, part), (batch.image_ids, batch.image_ids)
    scores = gan.coattention(fakes.maps[-1], part.text.words, part.text.mask) / 0.1
    expected = step.contrastive_loss(part, fakes.embedding) + (info_nce(scores, *ids) + info_nce(scores.t(), *ids)) / 2
    assert torch.allclose(step.matching_loss(gan.networks, part, fakes), expected)


def test_attention_needs_a_joint_encoder_that_has_it():
    gan = gan_of("gan.matching=attention", *TINY)
    with pytest.raises(UserError, match=r"joint\.coattention_weight"):
        TextToImageGAN(gan.config, gan.text_encoder, gan.image_encoder, 32)


def test_a_frozen_encoder_that_nobody_asks_is_left_out():
    assert gan_of(str(ROOT / "configs/race/recipes/dfgan.yaml"), *TINY).image_encoder is None


# ------------------------------------------------------------------------------------------------ schedules


class Betas(pl.Callback):
    """The second beta of both players in each step."""

    def __init__(self) -> None:
        self.seen = []

    def on_train_batch_start(self, trainer, *_) -> None:
        self.seen.append([group["betas"][1] for optimizer in trainer.optimizers for group in optimizer.param_groups])


def test_the_second_beta_goes_to_its_last_value(tmp_path):
    betas, gan = (
        Betas(),
        gan_of("gan.second_beta=0.9", "gan.last_second_beta=0.99", "gan.latent_prior_alone_from=1", *TINY),
    )
    trainer = fit(gan, tmp_path, max_steps=4, callbacks=[betas])
    middle = [0.9 + 0.09 * (1 - math.cos(math.pi * share)) / 2 for share in (0, 0.25, 0.5, 0.75)]
    assert [row[0] for row in betas.seen] == pytest.approx(middle) and all(len(set(row)) == 1 for row in betas.seen)
    assert trainer.optimizers[1].param_groups[0]["betas"][1] == pytest.approx(0.99)


def test_without_a_last_value_nothing_changes():
    assert by_cosine(0.7, 3.0, None) == 3.0 and by_cosine(1.0, 3.0, 1.0) == pytest.approx(1.0)


def test_what_is_left_uncounted_is_not_training_time_and_gives_it_back():
    timer = Timer({"seconds": 100})
    trainer = SimpleNamespace(callbacks=[timer])
    pause_training_clock(trainer, 30.0)  # before the start there is nothing to take from
    timer.on_train_start(None, None)
    timer.load_state_dict({"time_elapsed": {"train": 40.0}})  # as of a training that goes on
    pause_training_clock(trainer, 30.0)
    pause_training_clock(trainer, 5.0)
    assert timer.time_elapsed() == pytest.approx(5.0, abs=0.5) and timer.time_remaining() == pytest.approx(95, abs=0.5)
    assert minutes_of(trainer) == pytest.approx(5.0 / 60, abs=0.01) and minutes_of(SimpleNamespace(callbacks=[])) == 0
