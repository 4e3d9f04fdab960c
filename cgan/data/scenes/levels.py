"""The levels of scenes, of one, two or three objects, in each language of their captions."""

from typing import Literal

from cgan.data.scenes.captions import in_english
from cgan.data.scenes.chinese import (
    describe_in_chinese,
    describe_pair_in_chinese,
    describes_scenes,
    labels_in_chinese,
    labels_of_pair_in_chinese,
)
from cgan.data.scenes.dataset import ONE, Level
from cgan.data.scenes.three_objects import THREE
from cgan.data.scenes.two_objects import TWO, mentioned_in_pair, pair_in_english
from cgan.errors import UserError

Language = Literal["en", "zh"]
LevelName = Literal["one", "two", "three"]
LEVELS: dict[tuple[LevelName, Language], Level] = {
    ("one", "en"): ONE,
    ("two", "en"): TWO,
    ("three", "en"): THREE,
    ("one", "zh"): ONE._replace(describe=describe_in_chinese, labels=labels_in_chinese, language="zh"),
    ("two", "zh"): TWO._replace(describe=describe_pair_in_chinese, labels=labels_of_pair_in_chinese, language="zh"),
}


def level_of(name: LevelName, language: Language = "en") -> Level:
    """Returns the level of so many objects whose captions are in a language; their pictures are the same in each.

    Raises UserError for a level without captions in that language.
    """
    if (name, language) not in LEVELS:
        raise UserError(f"data.language={language}: captions of data.level={name} are in English only; leave it out")
    return LEVELS[name, language]


def translated(caption: str) -> str | None:
    """Returns in English what a Chinese caption of scenes says; None for any other caption."""
    if not describes_scenes(caption):
        return None
    pair = mentioned_in_pair(caption)
    return pair_in_english(pair) if min(pair.object, pair.other) >= 0 else in_english(caption)
