"""Paths of the weights (assets) and configurations that come with cgan, in an installed package or in a checkout."""

from importlib import resources
from pathlib import Path

PACKAGE = Path(str(resources.files("cgan")))


def shipped(folder: str, name: str) -> Path:
    """Returns the path of a file of `assets` or `configs`, inside an installed package or beside it in a checkout."""
    inside = PACKAGE / folder / name
    return inside if inside.exists() else PACKAGE.parent / folder / name


def shipped_weights(name: str | Path) -> Path | None:
    """Returns the weights that come with cgan under a name such as scenes-64.safetensors, also after assets/.

    None if there are none of that name.
    """
    path = Path(name)
    if path.suffix != ".safetensors" or str(path.parent) not in (".", "assets"):
        return None
    found = shipped("assets", path.name)
    return found if found.is_file() else None


STARTER_GAN = shipped("assets", "scenes-64.safetensors")  # a generator of scenes at 64 px
STARTER_EMOJI = shipped("assets", "emoji-128.safetensors")  # a generator of emoji at 128 px; emoji-128.md: licences
STARTER_JOINT = shipped("assets", "joint-64.safetensors")  # a joint encoder of scenes at 64 px
STARTER_POSTERIOR = shipped("assets", "posterior-64.safetensors")  # fitted to that generator, on that joint encoder
SCENE_CLASSIFIER = shipped("assets", "judge.safetensors")  # reads the attributes of one object in a picture
PAIR_CLASSIFIER = shipped("assets", "judge-two.safetensors")  # reads the attributes of two objects
TRIO_CLASSIFIER = shipped("assets", "judge-three.safetensors")  # reads the attributes of three objects
DEFAULT_CONFIG = shipped("configs", "gan/scenes.yaml")  # what `cgan train` trains without any YAML file
