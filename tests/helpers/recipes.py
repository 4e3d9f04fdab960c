"""The GAN of each shipped configuration in small."""

from dataclasses import replace
from functools import cache
from pathlib import Path

from cgan.config import GANConfig, load_config
from helpers import ROOT

SCENES = ROOT / "configs/gan/scenes.yaml"
TINY = """gan.generator.noise_dim=8 gan.generator.style_dim=16 gan.generator.width=4 gan.generator.max_channels=16
    gan.generator.latent_prior_dim=8 gan.discriminator.width=4 gan.discriminator.max_channels=16
    gan.discriminator.head_dim=8 gan.adversarial_from=0""".split()


@cache  # to read them takes seconds
def small_configs() -> dict[str, GANConfig]:
    """By the names of their files, without those that are equal then; recipes change the configuration of scenes."""
    settings = [[str(path)] for path in sorted((ROOT / "configs/gan").glob("*.yaml"))]
    settings += [[str(SCENES), str(path)] for path in sorted((ROOT / "configs/race/recipes").glob("*.yaml"))]
    return unequal({Path(files[-1]).stem: load_config([*files, *TINY]).gan for files in settings})


def on_joint_features() -> dict[str, GANConfig]:
    """The same, with a discriminator that looks through the joint encoder."""
    found = small_configs().items()
    return unequal(
        {name: replace(gan, discriminator=replace(gan.discriminator, features="joint")) for name, gan in found}
    )


def unequal(configs: dict[str, GANConfig]) -> dict[str, GANConfig]:
    """The first of equal ones."""
    found: dict[str, GANConfig] = {}
    for name, config in configs.items():
        if config not in found.values():
            found[name] = config
    return found
