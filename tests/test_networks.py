import pytest
import torch

from cgan.interfaces import TextFeatures
from cgan.networks.discriminator import Discriminator, DiscriminatorConfig
from cgan.networks.generator import Generator, GeneratorConfig
from cgan.networks.posterior import Posterior


def some_text(batch: int = 2, length: int = 5, dim: int = 16) -> TextFeatures:
    mask = torch.arange(length)[None] < torch.tensor([length, 2])[:, None]
    return TextFeatures(torch.randn(batch, dim), torch.randn(batch, length, dim), mask)


def tiny_generator(resolution: int = 32, word_attention: bool = False) -> Generator:
    config = GeneratorConfig(noise_dim=8, style_dim=16, width=4, max_channels=16, word_attention=word_attention)
    return Generator(config, resolution, text_dim=16)


@pytest.mark.parametrize("resolution", [32, 64, 128, 256, 512])
def test_generator_draws_at_every_resolution_within_range(resolution):
    images = tiny_generator(resolution)(torch.randn(2, 8), some_text())
    assert images.shape == (2, 3, resolution, resolution) and images.abs().max() <= 1


def test_caption_and_noise_both_change_the_picture():
    generator, noise, text = tiny_generator(), torch.randn(2, 8), some_text()
    images = generator(noise, text)
    assert not torch.allclose(images, generator(-noise, text))
    assert not torch.allclose(images, generator(noise, text._replace(sentence=-text.sentence)))


def test_padding_words_do_not_change_the_picture():
    torch.manual_seed(0)
    generator, noise, text = tiny_generator(word_attention=True), torch.randn(2, 8), some_text()
    torch.nn.init.normal_(generator.attention["16"].merge.weight)
    padded = text.words.masked_fill(~text.mask[:, :, None], 100.0)
    assert torch.allclose(generator(noise, text), generator(noise, text._replace(words=padded)), atol=1e-5)


@pytest.mark.parametrize("spectral_norm", [True, False])
def test_discriminator_has_a_head_for_the_trunk_and_for_each_map(spectral_norm):
    config = DiscriminatorConfig(width=4, max_channels=16, head_dim=8, spectral_norm=spectral_norm)
    discriminator = Discriminator(config, 32, text_dim=16, map_channels=[6, 12])
    maps = [torch.randn(2, 6, 8, 8), torch.randn(2, 12, 4, 4)]
    assert discriminator(torch.randn(2, 3, 32, 32), torch.randn(2, 16), maps).shape == (2, 3)


def test_logits_depend_on_the_caption():
    discriminator = Discriminator(DiscriminatorConfig(form="trunk", width=4, max_channels=16), 32, text_dim=16)
    hidden = discriminator.look(torch.randn(2, 3, 32, 32), [])
    first, second = (discriminator.judge(hidden, torch.randn(2, 16)) for _ in range(2))
    assert not torch.allclose(first, second)


def test_posterior_gives_moments_of_the_noise():
    mean, log_variance = Posterior(32, 16, 8, width=4, max_channels=16)(torch.randn(2, 3, 32, 32), torch.randn(2, 16))
    assert mean.shape == log_variance.shape == (2, 8)
