import pytest
import torch

from cgan.models.encoders.resnet import SmallResNet
from cgan.models.encoders.restoring import image_encoder_spec
from cgan.models.inverter import Inverter, config_of, restore_inverter
from cgan.models.posterior import Posterior
from cgan.models.priors import build_prior
from helpers.gan import some_text


@pytest.mark.parametrize(
    "form, layers, guidance",
    [
        ("word_flow", 2, 1.0),
        ("word_flow", 2, 2.0),
        ("flow_matching", 2, 1.0),
        ("flow_matching", 2, 2.0),
        ("couplings", 3, 1.0),
        ("flow_matching", 0, 1.0),
    ],
)
def test_the_inverse_of_a_prior_gives_the_noise_back(form, layers, guidance):
    torch.manual_seed(0)
    prior = build_prior(form, 8, 16, layers, 32, guidance)
    for weight in prior.parameters():  # as after training, not the identity of the start
        torch.nn.init.normal_(weight, std=0.15)
    noise, text = torch.randn(64, 8), some_text(64)
    with torch.no_grad():
        latent = prior(noise, text)
        assert torch.allclose(prior.inverse(latent, text), noise, atol=1e-3)
    assert layers == 0 or (latent - noise).abs().mean() > 0.05


def test_an_inverter_is_restored_from_its_settings_and_the_weights_that_travel():
    torch.manual_seed(0)
    encoder = SmallResNet(width=4, embedding_dim=16)
    encoder.stem[1].running_mean.normal_()
    inverter = Inverter(config_of(encoder, 32, 16, 8, map_channels=4, hidden_dim=24, num_layers=1), encoder).eval()
    again = restore_inverter(inverter.spec(), inverter.tensors())
    images, sentence = torch.rand(2, 3, 32, 32) * 2 - 1, torch.randn(2, 16)
    for found, expected in zip(again.moments(images, sentence), inverter.moments(images, sentence), strict=True):
        assert torch.equal(found, expected)
    assert not any(name.startswith("image_encoder.embedding") for name in inverter.tensors())


def test_training_never_moves_the_statistics_of_the_frozen_encoder():
    encoder = SmallResNet(width=4, embedding_dim=16)
    inverter = Inverter(config_of(encoder, 32, 16, 8), encoder).train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    inverter.moments(torch.rand(4, 3, 32, 32), torch.randn(4, 16))
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_an_encoder_that_can_not_be_built_from_settings_does_not_travel():
    class Other(SmallResNet.__bases__[0]):
        def forward(self, images):
            raise NotImplementedError

        def map_sizes(self, resolution):
            return [resolution]

    assert image_encoder_spec(Other()) is None and config_of(Other(), 32, 16, 8) is None


def test_layers_of_a_posterior_start_as_the_identity():
    torch.manual_seed(0)
    plain = Posterior(32, 16, 8)
    deeper = Posterior(32, 16, 8, num_layers=2)
    deeper.load_state_dict(plain.state_dict(), strict=False)
    images, sentence = torch.rand(2, 3, 32, 32), torch.randn(2, 16)
    assert torch.equal(deeper(images, [], sentence)[0], plain(images, [], sentence)[0])
