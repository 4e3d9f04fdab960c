import re

import numpy as np
import pytest
import torch

from cgan.data.scenes.dataset import Scenes
from cgan.data.scenes.levels import level_of
from cgan.errors import UserError
from cgan.models.encoders.resnet import SmallResNet
from cgan.sampling.pipeline import TextToImage
from cgan.training.posterior_fit import PosteriorFitConfig, edits_of, fit_posterior, negative_log_density
from helpers.gan import tiny_gan

TINY = {"map_channels": 4, "hidden_dim": 32, "num_layers": 1, "reader_dim": 16, "batch_size": 16}


def tiny_pipe() -> TextToImage:
    """The pipeline of a GAN that has learned nothing."""
    gan, checkpoint = tiny_gan(), {}
    gan.on_save_checkpoint(checkpoint)
    return TextToImage(checkpoint["sampler"], gan.state_dict())


@pytest.fixture
def scenes(cache) -> Scenes:
    return Scenes(12, 32)


@pytest.mark.slow
def test_fitting_lowers_the_losses_and_leaves_the_generator_and_the_encoder_as_they_are(scenes):
    pipe, encoder, lines = tiny_pipe(), SmallResNet(width=4, embedding_dim=16), []
    frozen = {**pipe.generator.state_dict(), **encoder.state_dict()}
    before = {name: value.clone() for name, value in frozen.items()}
    config = PosteriorFitConfig(generated=64, latents=3200, images=320, readings=3200, **TINY)
    inverter = fit_posterior(pipe, encoder, scenes, config, report=lines.append)
    for loss in ("latent", "reading"):
        found = [float(match[1]) for line in lines if (match := re.search(rf"{loss} (-?[\d.]+)", line))]
        assert found[-1] < found[0]
    assert any("redrawing" in line for line in lines)
    assert all(torch.equal(value, before[name]) for name, value in frozen.items())
    assert not any(weight.requires_grad for weight in inverter.parameters())


def test_the_same_seed_fits_the_same_posterior_and_leaves_the_random_state(scenes):
    config, encoder, pipe = (
        PosteriorFitConfig(generated=16, latents=64, images=32, readings=64, **TINY),
        SmallResNet(4, 16),
        tiny_pipe(),
    )
    state = torch.get_rng_state()
    fits = [fit_posterior(pipe, encoder, scenes, config).state_dict() for _ in range(2)]
    assert all(torch.equal(fits[0][name], fits[1][name]) for name in fits[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_scenes_are_edited_in_one_attribute_and_other_data_by_other_captions(scenes):
    rng = np.random.default_rng(0)
    assert all(edit.own != edit.after for edit in edits_of(scenes)(list(range(12)), rng))
    pairs = Scenes(6, 32, level=level_of("two"))
    (edit,) = edits_of(pairs)([2], rng)
    assert edit.own in pairs.captions_of(2) and edit.after == edit.told


def test_the_density_is_that_of_a_normal_distribution():
    latents, mean, log_variance = torch.randn(3, 5, 4).unbind()
    normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = -normal.log_prob(latents).mean() - 0.5 * np.log(2 * np.pi)
    assert torch.allclose(negative_log_density(latents, mean, log_variance), expected, atol=1e-5)


def test_pictures_of_another_size_are_refused(cache):
    with pytest.raises(UserError, match="data.resolution=32"):
        fit_posterior(tiny_pipe(), SmallResNet(4, 16), Scenes(4, 64), PosteriorFitConfig(generated=32, **TINY))


def test_a_gans_own_posterior_redraws_by_its_checkpoint(tmp_path, scenes):
    gan, checkpoint = tiny_gan(), {}
    gan.on_save_checkpoint(checkpoint)
    torch.save({**checkpoint, "state_dict": gan.state_dict()}, tmp_path / "last.ckpt")
    pipe, image = TextToImage.load(tmp_path / "last.ckpt"), scenes[0].image
    redrawn = np.asarray(pipe("a red dog", image=image.permute(1, 2, 0).numpy()))
    images, text = image[None] / 127.5 - 1, gan.text_encoder(["a red dog"])
    with torch.no_grad():
        mean, _ = gan.posterior(images, gan.image_encoder(images).maps, text.sentence)
        expected = gan.generator_ema.synthesize(mean, text)[0].permute(1, 2, 0).numpy()
    assert gan.generator.latent_prior.inverse(mean, text).norm() < 8**0.5  # so that it is not shortened
    assert abs(redrawn / 127.5 - 1 - expected).max() < 0.02


def test_a_fit_goes_on_from_a_posterior_of_the_same_sizes_alone(scenes):
    pipe, encoder, none = tiny_pipe(), SmallResNet(4, 16), {"generated": 1, "latents": 0, "images": 0, "readings": 0}
    first = fit_posterior(pipe, encoder, scenes, PosteriorFitConfig(**none, **TINY))
    torch.nn.init.normal_(first.posterior.moments.weight)
    again = fit_posterior(pipe, encoder, scenes, PosteriorFitConfig(**none, **TINY), start=first)
    assert torch.equal(again.posterior.moments.weight, first.posterior.moments.weight)
    with pytest.raises(UserError, match="other sizes"):
        fit_posterior(pipe, encoder, scenes, PosteriorFitConfig(**none, **TINY | {"hidden_dim": 8}), start=first)
