"""Edits of scenes: one attribute changed, and the captions that say so before and after."""

from typing import NamedTuple

import numpy as np

from cgan.data.scenes.attributes import ATTRIBUTES, COLOURS, OBJECTS, Scene, is_heldout
from cgan.data.scenes.captions import GROUND_WORDS, MENTION_CHANCE, PLACE_WORDS, SIZE_WORDS

NAMES = tuple(ATTRIBUTES)


class SceneEdit(NamedTuple):
    """A scene, one of its attributes by name, and the scene with another value of it."""

    before: Scene
    attribute: str
    after: Scene


def edit_scene(scene: Scene, attribute: str, rng: np.random.Generator, seen: bool = False) -> SceneEdit:
    """Returns a scene with another value of an attribute, all others equally likely.

    With `seen` the result is of a combination that is not held out.
    """
    while True:
        step = int(rng.integers(1, len(ATTRIBUTES[attribute])))
        value = (getattr(scene, attribute) + step) % len(ATTRIBUTES[attribute])
        after = scene._replace(**{attribute: value})
        if not (seen and is_heldout(after)):
            return SceneEdit(scene, attribute, after)


def describe_all(scene: Scene, rng: np.random.Generator) -> str:
    """Returns a random English caption that names every attribute of a scene."""
    return worded(scene, set(NAMES), rng)


def describe_edit(edit: SceneEdit, rng: np.random.Generator) -> str:
    """Returns a random English caption of the scene after an edit.

    It names the object and what has changed, and each other attribute with the chance that captions of scenes have.
    """
    named = {name for name, chance in zip(NAMES, MENTION_CHANCE, strict=True) if rng.random() < chance}
    return worded(edit.after, named | {edit.attribute}, rng)


def worded(scene: Scene, named: set[str], rng: np.random.Generator) -> str:
    """Returns a random English caption of a scene that names its object and some of the other attributes."""
    words = [str(rng.choice(SIZE_WORDS[scene.size]))] if "size" in named else []
    words += [COLOURS[scene.colour]] if "colour" in named else []
    words += [OBJECTS[scene.object]]
    places = [str(rng.choice(PLACE_WORDS[scene.position]))] if "position" in named else []
    places += [str(rng.choice(GROUND_WORDS[scene.ground]))] if "ground" in named else []
    thing = " ".join(["an" if words[0][0] in "aeiou" else "a", *words])
    if places and rng.random() < 0.3:
        rng.shuffle(places)
        return f"{', '.join(places)}, there is {thing}"
    return " ".join([thing, *places])
