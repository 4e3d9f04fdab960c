"""The attributes of a scene with one object on a ground, and the combinations of them that are held out of training."""

from typing import Literal, NamedTuple

import numpy as np

OBJECTS = ("dog", "cat", "bird", "fish", "tree", "house", "car", "ball")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
SIZES = ("small", "big")
POSITIONS = ("left", "centre", "right")
GROUNDS = ("grass", "sand", "snow", "water", "night sky", "brick")
ATTRIBUTES = {"object": OBJECTS, "colour": COLOURS, "size": SIZES, "position": POSITIONS, "ground": GROUNDS}

Split = Literal["seen", "heldout"]


class Scene(NamedTuple):
    """Indices into ATTRIBUTES; -1 stands for an attribute that a caption does not mention."""

    object: int
    colour: int
    size: int
    position: int
    ground: int


def labels_of_scene(scene: Scene) -> tuple[str, ...]:
    """Returns the words of all attributes of a scene, such as dog, red, small, left, grass."""
    return tuple(values[index] for values, index in zip(ATTRIBUTES.values(), scene, strict=True))


def is_heldout(scene: Scene) -> bool:
    """Returns whether this (object, colour, ground) belongs to the tenth of combinations held out of training."""
    on_diagonal = (scene.object + scene.colour + scene.ground) % len(OBJECTS) == 0  # 48 of 384: one a row and column
    return on_diagonal and (scene.object + 2 * scene.ground) % len(GROUNDS) != 0


def sample_scene(rng: np.random.Generator, split: Split) -> Scene:
    """Returns a random scene of a split, with all combinations equally likely."""
    while True:
        scene = Scene(*(int(rng.integers(len(values))) for values in ATTRIBUTES.values()))
        if is_heldout(scene) == (split == "heldout"):
            return scene
