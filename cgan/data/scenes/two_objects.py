"""Scenes of two objects, one beside or above the other, and captions from which their attributes can be parsed."""

import re
from typing import NamedTuple

import numpy as np

from cgan.data.scenes.arrangements import Arrangement, draw_arrangement
from cgan.data.scenes.attributes import COLOURS, GROUNDS, OBJECTS, Split
from cgan.data.scenes.captions import GROUND_WORDS
from cgan.data.scenes.chinese import claims_of_pair_in_chinese, is_chinese
from cgan.data.scenes.dataset import Level

LAYOUTS = ("beside", "stacked")
PAIR_ATTRIBUTES = {
    "first object": OBJECTS, "first colour": COLOURS, "second object": OBJECTS, "second colour": COLOURS,
    "layout": LAYOUTS, "ground": GROUNDS,
}  # fmt: skip
RELATION_WORDS = (  # for each layout: of the first to the second, and of the second to the first
    (("to the left of", "left of", "on the left of"), ("to the right of", "right of", "on the right of")),
    (("above", "over", "higher up than"), ("below", "underneath", "lower down than")),
)
COLOUR_CHANCE, RELATION_CHANCE, GROUND_CHANCE = 0.8, 0.8, 0.6  # of being mentioned
RADII = (0.185, 0.215)  # of the objects, as fractions of the picture's size


class Pair(NamedTuple):
    """Indices into PAIR_ATTRIBUTES; the first object is on the left or, if stacked, above.

    In the attributes that a caption mentions, -1 marks those that it does not; without a layout the order has no
    meaning.
    """

    object: int
    colour: int
    other: int
    other_colour: int
    layout: int
    ground: int

    def swapped(self) -> "Pair":
        """Returns the same scene with the objects listed in the other order."""
        return Pair(self.other, self.other_colour, self.object, self.colour, self.layout, self.ground)


def labels_of_pair(pair: Pair) -> tuple[str, ...]:
    """Returns the words of a scene: its coloured objects, such as red dog, its objects, colours, layout and ground."""
    things = [(OBJECTS[o], COLOURS[c]) for o, c in ((pair.object, pair.colour), (pair.other, pair.other_colour))]
    words = [f"{colour} {name}" for name, colour in things] + [word for thing in things for word in thing]
    return tuple(dict.fromkeys([*words, LAYOUTS[pair.layout], GROUNDS[pair.ground]]))


def is_heldout_pair(pair: Pair) -> bool:
    """Returns whether two coloured objects, in either order, belong to the tenth of pairs held out of training."""
    one, other = (o * len(COLOURS) + c for o, c in ((pair.object, pair.colour), (pair.other, pair.other_colour)))
    return (one + other) % 10 == 0


def sample_pair(rng: np.random.Generator, split: Split) -> Pair:
    """Returns a random pair of two different objects of a split, with all pairs equally likely."""
    while True:
        pair = Pair(*(int(rng.integers(len(values))) for values in PAIR_ATTRIBUTES.values()))
        if pair.object != pair.other and is_heldout_pair(pair) == (split == "heldout"):
            return pair


# ------------------------------------------------------------------------------------------------ captions


def thing(object_: int, colour: int, rng: np.random.Generator) -> str:
    """Returns an object in words, by chance with its colour."""
    return spoken_of(object_, colour if rng.random() < COLOUR_CHANCE else -1)


def describe_pair(pair: Pair, rng: np.random.Generator) -> str:
    """Returns a random English caption, which always names both objects.

    Relation, colours and ground appear with some chance.
    """
    side = int(rng.integers(2))
    teller = pair.swapped() if side else pair
    subject, reference = (
        thing(o, c, rng) for o, c in ((teller.object, teller.colour), (teller.other, teller.other_colour))
    )
    ground = str(rng.choice(GROUND_WORDS[pair.ground])) if rng.random() < GROUND_CHANCE else ""
    if rng.random() >= RELATION_CHANCE:
        return spoken(f"{subject} {rng.choice(('and', 'with', 'together with'))} {reference}", ground, rng)
    relation = rng.choice(RELATION_WORDS[pair.layout][side])
    if rng.random() < 0.25:
        return spoken(f"{relation} {reference} there is {subject}", ground, rng)
    return spoken(f"{subject} {relation} {reference}", ground, rng)


def spoken(what: str, ground: str, rng: np.random.Generator) -> str:
    """Returns a description with the ground before or after it."""
    if not ground:
        return what
    return f"{ground}, {what}" if rng.random() < 0.3 else f"{what} {ground}"


def mentioned_in_pair(caption: str) -> Pair:
    """Returns the attributes that a caption of two objects, English or Chinese, names, -1 for the others.

    It is the inverse of describe_pair.
    """
    if is_chinese(caption):
        return Pair(*claims_of_pair_in_chinese(caption))
    words, ground = without_ground(" ".join(re.sub(r"[^a-z ]", " ", caption.lower()).split()))
    things = list(re.finditer(rf"\b(?:({'|'.join(COLOURS)}) )?({'|'.join(OBJECTS)})\b", words))[:2]
    found = [number for match in things for number in (OBJECTS.index(match[2]), colour_of(match[1]))]
    one, colour, other, other_colour = [*found, -1, -1, -1, -1][:4]
    pair = Pair(one, colour, other, other_colour, -1, ground)
    for layout, sides in enumerate(RELATION_WORDS):
        for side, phrases in enumerate(sides):
            match = re.search(rf"\b({'|'.join(sorted(phrases, key=len, reverse=True))})\b", words)
            if match:
                subject_comes_last = bool(things) and match.start() < things[0].start()
                pair = pair._replace(layout=layout)
                return pair.swapped() if subject_comes_last != bool(side) else pair
    return pair


def pair_in_english(pair: Pair) -> str:
    """Returns an English caption of two objects that names each attribute that is not -1."""
    first, second = (
        spoken_of(object_, colour) for object_, colour in ((pair.object, pair.colour), (pair.other, pair.other_colour))
    )
    relation = RELATION_WORDS[pair.layout][0][0] if pair.layout >= 0 else "and"
    ground = f" {GROUND_WORDS[pair.ground][0]}" if pair.ground >= 0 else ""
    return f"{first} {relation} {second}{ground}"


def spoken_of(object_: int, colour: int) -> str:
    """Returns an object in English, with its colour unless that is -1."""
    words = f"{COLOURS[colour]} {OBJECTS[object_]}" if colour >= 0 else OBJECTS[object_]
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def colour_of(name: str | None) -> int:
    """Returns the index of a colour; -1 without a name."""
    return -1 if name is None else COLOURS.index(name)


def without_ground(words: str) -> tuple[str, int]:
    """Returns a caption without its ground, and the index of that ground, -1 if it names none."""
    for ground, phrases in enumerate(GROUND_WORDS):
        for phrase in sorted(phrases, key=len, reverse=True):
            if re.search(rf"\b{phrase}\b", words):
                return re.sub(rf"\b{phrase}\b", "", words), ground
    return words, -1


def agrees(claim: Pair, truth: Pair) -> bool:
    """Returns whether a scene has every attribute that a caption mentions."""
    orders = [truth] if claim.layout >= 0 else [truth, truth.swapped()]
    return any(all(claimed in (-1, actual) for claimed, actual in zip(claim, order, strict=True)) for order in orders)


# ------------------------------------------------------------------------------------------------ drawing


def places_of(layout: int, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Returns the centres of both objects, as fractions of the picture's size."""
    along, across = rng.uniform(-0.03, 0.03, 2), rng.uniform(-0.06, 0.06, 2)
    if LAYOUTS[layout] == "beside":
        return [(0.26 + along[0], 0.6 + across[0]), (0.74 + along[1], 0.6 + across[1])]
    return [(0.5 + 2 * across[0], 0.3 + along[0]), (0.5 + 2 * across[1], 0.75 + along[1])]


def arrange_pair(pair: Pair, rng: np.random.Generator) -> Arrangement:
    """Returns the two objects of a pair at positions that vary with rng."""
    things = [(pair.object, pair.colour), (pair.other, pair.other_colour)]
    return Arrangement(things, places_of(pair.layout, rng), pair.ground, RADII)


def draw_pair(pair: Pair, resolution: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a picture of two objects, uint8 (resolution, resolution, 3).

    Pose, tone, light, size and position vary with rng.
    """
    return draw_arrangement(arrange_pair(pair, rng), resolution, rng)


TWO = Level("two", Pair, sample_pair, draw_pair, describe_pair, labels_of_pair)
