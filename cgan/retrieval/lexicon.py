"""What captions say of a picture: attributes with their values, the words that name them, and captions made of them."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from cgan.data.scenes.attributes import COLOURS, GROUNDS, OBJECTS, POSITIONS, SIZES
from cgan.data.scenes.captions import GROUND_WORDS, PLACE_WORDS, SIZE_WORDS
from cgan.models.joint import JointEncoder
from cgan.models.text.lstm import split_words

MOST_OBJECTS = 200  # words of a vocabulary that are candidates for an object, the most frequent ones


class Value(NamedTuple):
    """A value of an attribute."""

    name: str  # the answer, such as "night sky"
    phrase: str  # what a caption says, such as "at night"
    words: tuple[str, ...]  # any of them in a question names the value


def plain(*names: str) -> tuple[Value, ...]:
    """Returns values that captions and questions call by their names."""
    return tuple(Value(name, name, (name,)) for name in names)


def scene_values(names: tuple[str, ...], phrases: tuple[tuple[str, ...], ...], words: dict) -> tuple[Value, ...]:
    """Returns values in the words of scenes' captions; `words` are those of a value whose name is not its only word."""
    return tuple(Value(name, phrase[0], words.get(name, (name,))) for name, phrase in zip(names, phrases, strict=True))


SCENE_GROUND_WORDS = {"sand": ("sand", "beach"), "water": ("water", "sea"), "night sky": ("night",)}
CENTRE = {"centre": ("centre", "center", "middle")}
PLACES = ("street", "road", "kitchen", "bathroom", "room", "forest", "field", "city", "park", "table", "bed", "beach")
COCO_OBJECTS = tuple(
    "person,bicycle,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,bench,"
    "horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,skis,snowboard,kite,"
    "baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,bowl,banana,"
    "apple,sandwich,broccoli,carrot,pizza,donut,cake,chair,couch,potted plant,toilet,tv,laptop,mouse,remote,keyboard,"
    "cell phone,microwave,oven,toaster,sink,refrigerator,book,clock,vase,scissors,toothbrush".split(",")
)  # categories of COCO (Lin et al. 2014) that are not among the objects of scenes
VALUES: dict[str, tuple[Value, ...]] = {
    "object": plain(*OBJECTS, *COCO_OBJECTS),
    "colour": plain(*COLOURS, "pink", "brown", "grey", "gray"),
    "size": scene_values(SIZES, SIZE_WORDS, {"small": ("small", "little", "tiny"), "big": ("big", "large", "huge")}),
    "position": scene_values(POSITIONS, PLACE_WORDS, CENTRE),
    "ground": scene_values(GROUNDS, GROUND_WORDS, SCENE_GROUND_WORDS)
    + tuple(Value(name, f"{'on' if name in ('street', 'road', 'table', 'bed') else 'in'} the {name}", (name,))
            for name in PLACES if name != "beach"),
    "number": plain("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
}  # fmt: skip
GROUPS = {  # objects that a question may ask for by one word
    "animal": ("dog", "cat", "bird", "fish", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "mouse"),
    "vehicle": ("car", "bicycle", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
}
FUNCTION_WORDS = set(
    "a an the is are was were be been there here it its this that these those of in on at by to with and or from under "
    "over behind near before front next into for as up down out while some his her their very other one".split()
)
OTHER_WORDS = {  # of captions that name anything but an object
    word for phrases in (*SIZE_WORDS, *PLACE_WORDS, *GROUND_WORDS) for phrase in phrases for word in split_words(phrase)
} | {word for name, values in VALUES.items() if name != "object" for value in values for word in value.words}


class Lexicon:
    """The values of each attribute that a joint encoder knows all words of, in the order of VALUES.

    Objects are the nouns of VALUES if the encoder knows at least half of them. Otherwise its data set is a special one,
    and they are the words of its own captions that name nothing else, the most frequent MOST_OBJECTS.
    """

    def __init__(self, joint: JointEncoder) -> None:
        self.unknown_words = joint.text.unknown_words
        self.values = {
            name: tuple(value for value in values if self.knows(value.phrase)) for name, values in VALUES.items()
        }
        if 2 * len(self.values["object"]) < len(VALUES["object"]):
            words = [word for word in joint.vocabulary.words if word not in FUNCTION_WORDS | OTHER_WORDS]
            self.values["object"] = plain(*words[:MOST_OBJECTS])

    def knows(self, text: str) -> bool:
        """Returns whether all words of a text occur in the encoder's training captions, and there is one."""
        return bool(split_words(text)) and not self.unknown_words([text])

    def mentions(self, attribute: str, text: str) -> dict[Value, list[int]]:
        """Returns the values of an attribute that a text names, with the places at which it names them."""
        text = text.replace("green grass", "      grass")
        found = {}
        for value in self.values[attribute]:
            places = [match.start() for word in value.words for match in re.finditer(rf"\b{re.escape(word)}s?\b", text)]
            if places:
                found[value] = places
        return found

    def value_of(self, attribute: str, text: str) -> Value | None:
        """Returns the value of an attribute that a text as a whole names, with or without its preposition."""
        for value in self.values[attribute]:
            if text in (value.name, value.phrase, *value.words):
                return value
        return None


def caption_of(slots: Mapping[str, str], noun: str = "") -> str:
    """Returns a caption of what is said of each attribute, such as "a small red dog on the left on grass".

    noun stands in the place of a missing object. A number makes the object plural, unless it is one.
    """
    thing = slots.get("object", noun)
    if "number" in slots:
        thing = thing if slots["number"] == "one" else plural(thing)
    words = [slots[name] for name in ("number", "size", "colour") if name in slots]
    thing = " ".join([*words, thing]).strip()
    if "number" not in slots:
        thing = f"{'an' if thing[:1] in 'aeiou' else 'a'} {thing}"
    return " ".join([thing, *(slots[name] for name in ("position", "ground") if name in slots)])


def plural(noun: str) -> str:
    """Returns the plural of an English noun; nouns such as fish and sheep are their own."""
    if noun in ("fish", "sheep", "skis", "scissors", "") or noun.endswith("s"):
        return noun
    return f"{noun}es" if noun.endswith(("ch", "sh", "x")) else f"{noun}s"
