"""Captions of scenes with one object: written in English from attributes, and parsed back into attributes.

Chinese captions are written and parsed by cgan.data.scenes.chinese.
"""

import re
from collections.abc import Sequence

import numpy as np

from cgan.data.scenes.attributes import COLOURS, OBJECTS, Scene
from cgan.data.scenes.chinese import claims_in_chinese, is_chinese

SIZE_WORDS = (("small", "small", "little", "tiny"), ("big", "big", "large"))
PLACE_WORDS = (
    ("on the left", "to the left", "on the left side"),
    ("in the centre", "in the middle", "in the center"),
    ("on the right", "to the right", "on the right side"),
)
GROUND_WORDS = (
    ("on grass", "on the grass", "on green grass"),
    ("on sand", "on the sand", "at the beach"),
    ("on snow", "in the snow", "on the snow"),
    ("on water", "on the water", "at sea"),
    ("at night", "under the night sky", "in the night sky"),
    ("in front of a brick wall", "before a brick wall", "by a brick wall"),
)
MENTION_CHANCE = (1.0, 0.8, 0.5, 0.5, 0.8)


def describe(scene: Scene, rng: np.random.Generator) -> str:
    """Returns a random English caption of a scene.

    It always names the object, and each other attribute with some chance.
    """
    colour, size, position, ground = (bool(rng.random() < chance) for chance in MENTION_CHANCE[1:])
    thing = [str(rng.choice(SIZE_WORDS[scene.size]))] if size else []
    thing += [COLOURS[scene.colour]] if colour else []
    thing = " ".join([*thing, OBJECTS[scene.object]])
    thing = f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}"
    places = [str(rng.choice(PLACE_WORDS[scene.position]))] if position else []
    places += [str(rng.choice(GROUND_WORDS[scene.ground]))] if ground else []
    if places and rng.random() < 0.3:
        rng.shuffle(places)
        return f"{', '.join(places)}, there is {thing}"
    return " ".join([thing, *places])


def mentioned_in(caption: str) -> Scene:
    """Returns the attributes that a caption names, English or Chinese, -1 for others; the inverse of `describe`."""
    if is_chinese(caption):
        return Scene(*claims_in_chinese(caption))
    words = re.sub(r"[^a-z ]", " ", caption.lower())
    grounds = (("grass",), ("sand", "beach"), ("snow",), ("water", "sea"), ("night",), ("brick",))
    ground = find(words, grounds)
    words = words.replace("green grass", "grass")
    object_, colour = find(words, [(name,) for name in OBJECTS]), find(words, [(name,) for name in COLOURS])
    position = find(words, (("left",), ("centre", "center", "middle"), ("right",)))
    return Scene(object_, colour, find(words, SIZE_WORDS), position, ground)


def in_english(caption: str) -> str:
    """Returns what a caption of one object says, in English, such as "a small red dog on the left on grass"."""
    return scene_in_english(mentioned_in(caption))


def scene_in_english(scene: Scene) -> str:
    """Returns an English caption that names every attribute of a scene but those that are -1."""
    object_, colour, size, position, ground = scene
    thing = [SIZE_WORDS[size][0]] if size >= 0 else []
    thing += [COLOURS[colour]] if colour >= 0 else []
    thing = " ".join([*thing, OBJECTS[object_] if object_ >= 0 else "thing"])
    places = [PLACE_WORDS[position][0]] if position >= 0 else []
    places += [GROUND_WORDS[ground][0]] if ground >= 0 else []
    return " ".join([f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}", *places])


def find(words: str, choices: Sequence[Sequence[str]]) -> int:
    """Returns the index of the first choice that has a phrase which occurs in `words` as whole words.

    -1 if there is none.
    """
    for index, phrases in enumerate(choices):
        if any(re.search(rf"\b{phrase}\b", words) for phrase in phrases):
            return index
    return -1
