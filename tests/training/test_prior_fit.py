import numpy as np
import pytest
import torch

from cgan.data.scenes.dataset import Scenes
from cgan.errors import UserError
from cgan.models.encoders.resnet import SmallResNet
from cgan.models.inverter import Inverter, config_of
from cgan.sampling.pipeline import TextToImage
from cgan.training.prior_fit import PriorFitConfig, fit_prior
from helpers.gan import tiny_gan

TINY = {"num_layers": 1, "hidden_dim": 16, "pictures": 8, "batch_size": 4}


def tiny_pipe() -> TextToImage:
    """The pipeline of a GAN that has learned nothing."""
    gan, checkpoint = tiny_gan(), {}
    gan.on_save_checkpoint(checkpoint)
    return TextToImage(checkpoint["sampler"], gan.state_dict())


def some_inverter() -> Inverter:
    """A posterior that finds latents of about 3, whatever the picture."""
    encoder = SmallResNet(width=4, embedding_dim=16)
    inverter = Inverter(config_of(encoder, 32, 16, 8, map_channels=4, hidden_dim=16), encoder).eval()
    torch.nn.init.zeros_(inverter.posterior.moments.weight)
    inverter.posterior.moments.bias.data = torch.tensor([3.0] * 8 + [-4.0] * 8)
    return inverter.requires_grad_(False)


def test_a_fitted_prior_draws_the_latents_that_the_posterior_finds(cache):
    pipe, lines = tiny_pipe(), []
    config = PriorFitConfig(images=1600, **TINY)
    fitted = fit_prior(pipe, some_inverter(), Scenes(8, 32), config, lines.append)
    text = pipe.encode(["a red dog"] * 4)
    with torch.no_grad():
        latents = fitted.generator.latent_prior(torch.randn(4, 8), text)
        assert torch.equal(fitted.generator.synthesize(latents, text), pipe.generator.synthesize(latents, text))
    assert abs(latents.mean() - 3) < 0.5 and "prior" in lines[-1]


def test_fitted_weights_are_saved_and_draw_the_same(cache, tmp_path):
    config = PriorFitConfig(images=8, form="flow_matching", guidance=1.5, **TINY)
    fitted = fit_prior(tiny_pipe(), some_inverter(), Scenes(8, 32), config)
    fitted.save(tmp_path / "fitted.safetensors")
    again = TextToImage.load(tmp_path / "fitted.safetensors")
    assert again.generator.config.latent_prior_guidance == 1.5
    assert np.array_equal(again.sample(["a red dog"], [1]), fitted.sample(["a red dog"], [1]))


def test_pictures_of_another_size_are_a_mistake(cache):
    with pytest.raises(UserError, match="32 px"):
        fit_prior(tiny_pipe(), some_inverter(), Scenes(4, 64), PriorFitConfig(images=8, **TINY))
