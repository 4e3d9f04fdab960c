"""Generators from text and noise to images, one file for each architecture."""

from cgan.models.generators.base import Generator, GeneratorConfig


def build_generator(config: GeneratorConfig, resolution: int, text_dim: int) -> Generator:
    """Returns the generator of a configuration, for images of a resolution and sentences (B, text_dim)."""
    match config.form:
        case "modulated":
            from cgan.models.generators.modulated import ModulatedGenerator

            return ModulatedGenerator(config, resolution, text_dim)
        case "dfgan":
            from cgan.models.generators.dfgan import AffineGenerator

            return AffineGenerator(config, resolution, text_dim)
        case "r3gan":
            from cgan.models.generators.r3gan import PlainGenerator

            return PlainGenerator(config, resolution, text_dim)
    raise ValueError(f"unknown generator: {config.form}")
