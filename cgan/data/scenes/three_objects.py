"""Scenes of three objects, such as two red balls and a blue car, and captions that count them."""

import re
from collections import Counter
from typing import NamedTuple

import numpy as np

from cgan.data.scenes.arrangements import Arrangement, draw_arrangement
from cgan.data.scenes.attributes import COLOURS, GROUNDS, OBJECTS, Split
from cgan.data.scenes.captions import GROUND_WORDS
from cgan.data.scenes.dataset import Level
from cgan.data.scenes.two_objects import COLOUR_CHANCE, GROUND_CHANCE, colour_of, spoken, without_ground

TRIO_ATTRIBUTES = {
    "left object": OBJECTS, "left colour": COLOURS, "middle object": OBJECTS, "middle colour": COLOURS,
    "right object": OBJECTS, "right colour": COLOURS, "ground": GROUNDS,
}  # fmt: skip
PLURALS = tuple(name if name == "fish" else f"{name}s" for name in OBJECTS)
COUNT_WORDS = (("a", "one"), ("two", "a pair of"), ("three", "a group of three"))
COUNTS = {"an": 1, "1": 1, "2": 2, "3": 3} | {
    words: number for number, phrases in enumerate(COUNT_WORDS, 1) for words in phrases
}
NOUNS = {name: kind for names in (OBJECTS, PLURALS) for kind, name in enumerate(names)}
GROUP = re.compile(
    rf"\b(?:({'|'.join(sorted(COUNTS, key=len, reverse=True))}) )?(?:({'|'.join(COLOURS)}) )?"
    rf"({'|'.join(sorted(NOUNS, key=len, reverse=True))})\b"
)
RADII = (0.16, 0.18)  # of the objects, as fractions of the picture's size
HELD_OUT = 11  # one composition of so many is held out


class Trio(NamedTuple):
    """Indices into TRIO_ATTRIBUTES: the objects from left to right, of which two are alike, or all three."""

    left: int
    left_colour: int
    middle: int
    middle_colour: int
    right: int
    right_colour: int
    ground: int

    def things(self) -> list[tuple[int, int]]:
        """Returns the kind and the colour of each object, from left to right."""
        return [(self.left, self.left_colour), (self.middle, self.middle_colour), (self.right, self.right_colour)]


class Groups(NamedTuple):
    """What a caption says: how many objects of which kind and colour, of one group and of another, and the ground.

    -1 marks what it does not say. The order of the groups has no meaning.
    """

    count: int
    object: int
    colour: int
    other_count: int
    other: int
    other_colour: int
    ground: int


def labels_of_trio(trio: Trio) -> tuple[str, ...]:
    """Returns the words of a scene: its counted and its coloured objects, its objects, colours and ground."""
    groups = Counter(trio.things())
    words = [counted(number, kind, -1, COUNT_WORDS[number - 1][0]) for (kind, _), number in groups.items()]
    words += [f"{COLOURS[colour]} {OBJECTS[kind]}" for kind, colour in groups]
    words += [word for kind, colour in groups for word in (OBJECTS[kind], COLOURS[colour])]
    return tuple(dict.fromkeys([*words, GROUNDS[trio.ground]]))


def is_heldout_trio(trio: Trio) -> bool:
    """Returns whether a composition, in any order, belongs to those held out of training: about one of HELD_OUT.

    Two dogs and a cat may be held out where a dog and two cats are not.
    """
    return sum(kind * len(COLOURS) + colour for kind, colour in trio.things()) % HELD_OUT == 0


def sample_trio(rng: np.random.Generator, split: Split) -> Trio:
    """Returns a random scene of a split: in a quarter of them all three are alike, in others one is of another kind."""
    while True:
        kind, other = (int(number) for number in rng.permutation(len(OBJECTS))[:2])
        colour, other_colour = (int(number) for number in rng.integers(len(COLOURS), size=2))
        things = [(kind, colour)] * 3
        single = int(rng.integers(4))  # the position of the single object; 3 stands for none
        if single < 3:
            things[single] = (other, other_colour)
        trio = Trio(*things[0], *things[1], *things[2], int(rng.integers(len(GROUNDS))))
        if is_heldout_trio(trio) == (split == "heldout"):
            return trio


# ------------------------------------------------------------------------------------------------ captions


def describe_trio(trio: Trio, rng: np.random.Generator) -> str:
    """Returns a random English caption, which always names the kinds of objects and how many there are of each.

    Colours and ground appear with some chance.
    """
    groups = []
    for (kind, colour), number in Counter(trio.things()).items():
        mentioned = colour if rng.random() < COLOUR_CHANCE else -1
        groups.append(counted(number, kind, mentioned, str(rng.choice(COUNT_WORDS[number - 1]))))
    rng.shuffle(groups)
    what = f" {rng.choice(('and', 'with', 'together with'))} ".join(groups)
    if rng.random() < 0.25:
        what = f"there {'is' if what.startswith(('a ', 'an ', 'one ')) else 'are'} {what}"
    ground = str(rng.choice(GROUND_WORDS[trio.ground])) if rng.random() < GROUND_CHANCE else ""
    return spoken(what, ground, rng)


def counted(number: int, kind: int, colour: int, words: str) -> str:
    """Returns a group in English, such as two red balls, by the words of its number; no colour where that is -1."""
    noun = OBJECTS[kind] if number == 1 else PLURALS[kind]
    thing = f"{COLOURS[colour]} {noun}" if colour >= 0 else noun
    return f"an {thing}" if words == "a" and thing[0] in "aeiou" else f"{words} {thing}"


def mentioned_in_trio(caption: str) -> Groups:
    """Returns what an English caption of up to two groups says, in the order of the caption; -1 for the rest.

    It is the inverse of describe_trio. Groups after the second are left out.
    """
    words, ground = without_ground(" ".join(re.sub(r"[^a-z0-9 ]", " ", caption.lower()).split()))
    found = [
        (COUNTS.get(number, -1), NOUNS[noun], colour_of(colour or None))
        for number, colour, noun in GROUP.findall(words)[:2]
    ]
    one, other = [*found, (-1, -1, -1), (-1, -1, -1)][:2]
    return Groups(*one, *other, ground)


# ------------------------------------------------------------------------------------------------ drawing


def arrange_trio(trio: Trio, rng: np.random.Generator) -> Arrangement:
    """Returns the three objects of a scene, from left to right, the middle one above or below the others."""
    high, low = rng.uniform(-0.02, 0.02, 3) + 0.3, rng.uniform(-0.02, 0.02, 3) + 0.7
    above = bool(rng.integers(2))
    heights = np.where([not above, above, not above], high, low)
    places = zip(np.array([0.21, 0.5, 0.79]) + rng.uniform(-0.02, 0.02, 3), heights, strict=True)
    return Arrangement(trio.things(), [(float(x), float(y)) for x, y in places], trio.ground, RADII)


def draw_trio(trio: Trio, resolution: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a picture of three objects, uint8 (resolution, resolution, 3).

    Pose, tone, light, size and position vary with rng.
    """
    return draw_arrangement(arrange_trio(trio, rng), resolution, rng)


THREE = Level("three", Trio, sample_trio, draw_trio, describe_trio, labels_of_trio)
