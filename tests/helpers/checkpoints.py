"""A checkpoint of a tiny GAN, without training one."""

from dataclasses import asdict

import torch

from cgan.figures.sheets import CAPTIONS
from cgan.models.generators import build_generator
from cgan.models.generators.base import GeneratorConfig
from cgan.models.text.lstm import LSTMConfig, LSTMTextEncoder, Vocabulary


def tiny_checkpoint(word_attention: bool = False) -> dict:
    """What a run of a tiny untrained generator saves, as far as sampling reads it."""
    torch.manual_seed(0)
    text = LSTMTextEncoder(LSTMConfig(dim=16, embedding_dim=8), Vocabulary.of(CAPTIONS))
    config = GeneratorConfig(
        noise_dim=8, style_dim=16, width=4, max_channels=16, latent_prior_layers=2, latent_prior_dim=16
    )
    config.word_attention = word_attention
    generator = build_generator(config, 32, text.dim)
    parts = {"generator_ema.": generator, "text_encoder.": text}
    state = {prefix + name: value for prefix, part in parts.items() for name, value in part.state_dict().items()}
    state |= {"discriminator.x": torch.zeros(1)}
    sampler = {"generator": asdict(config), "text": text.spec(), "resolution": 32}
    return {"sampler": sampler, "state_dict": state, "images_seen": 2000}
