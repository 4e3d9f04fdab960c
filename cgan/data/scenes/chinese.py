"""Chinese captions of scenes of one and of two objects: written from attributes, and read back into them."""

import re
from collections.abc import Sequence

import numpy as np

NOUNS = (("狗",), ("猫",), ("鸟",), ("鱼",), ("树",), ("房子", "房屋"), ("汽车", "车"), ("球",))  # as OBJECTS
MEASURES = ("一只", "一只", "一只", "一条", "一棵", "一座", "一辆", "一个")  # a, with each noun's own measure word
HUES = ("红", "橙", "黄", "绿", "蓝", "紫", "白", "黑")  # as COLOURS
SIZES = (("小", "小小的", "很小的"), ("大", "大大的", "很大的"))  # the first stands right before the noun
SIDES = (("左边", "左侧", "画面左侧"), ("中间", "中央", "画面中央"), ("右边", "右侧", "画面右侧"))
GROUNDS = (
    ("草地上", "绿草地上", "草坪上"),
    ("沙地上", "沙滩上", "海滩上"),
    ("雪地上", "雪地里", "白雪上"),
    ("水面上", "水上", "海面上"),
    ("夜空下", "夜空中", "夜色中"),
    ("砖墙前", "砖墙前面", "红砖墙前"),
)
RELATIONS = (  # for each layout: of the first to the second, and of the second to the first
    (("左边", "左侧", "左面"), ("右边", "右侧", "右面")),
    (("上方", "上面", "正上方"), ("下方", "下面", "正下方")),
)
MENTION_CHANCE = (0.8, 0.5, 0.5, 0.8)  # of colour, size, position and ground, as in English
PAIR_CHANCE = (0.8, 0.8, 0.6)  # of each colour, of the relation, and of the ground
IN_NOUN = "".join(noun[0] for nouns in NOUNS for noun in nouns)
HUE = f"({'|'.join(HUES)})(?:色的?|的|(?=[大小{IN_NOUN}]))"  # 红色的狗, 红色狗, 红狗; but not 白雪 or 绿草地
NOUN = "|".join(noun for nouns in NOUNS for noun in nouns)
HAN = re.compile("[\u4e00-\u9fff]")


def is_chinese(caption: str) -> bool:
    """Returns whether a caption has a Chinese character, so that it is read as Chinese."""
    return bool(HAN.search(caption))


# ------------------------------------------------------------------------------------------------ one object


def describe_in_chinese(scene: Sequence[int], rng: np.random.Generator) -> str:
    """Returns a Chinese caption of a Scene; it always names the object, other attributes by MENTION_CHANCE."""
    object_, hue, size, side, ground = scene
    says_hue, says_size, says_side, says_ground = (bool(rng.random() < chance) for chance in MENTION_CHANCE)
    thing = named(object_, hue if says_hue else -1, size if says_size else -1, rng)
    side_words = chosen(SIDES[side], rng) if says_side else ""
    ground_words = chosen(GROUNDS[ground], rng) if says_ground else ""
    return placed(thing, side_words, ground_words, rng)


def labels_in_chinese(scene: Sequence[int]) -> tuple[str, ...]:
    """Returns the words of all attributes of a Scene in Chinese, such as 狗, 红色, 小, 左边, 草地上."""
    object_, hue, size, side, ground = scene
    return NOUNS[object_][0], f"{HUES[hue]}色", SIZES[size][0], SIDES[side][0], GROUNDS[ground][0]


def labels_of_pair_in_chinese(pair: Sequence[int]) -> tuple[str, ...]:
    """Returns the words of a Pair in Chinese: its coloured objects, its objects, its colours, its ground."""
    one, hue, other, other_hue, _, ground = pair
    things = [(NOUNS[o][0], f"{HUES[c]}色") for o, c in ((one, hue), (other, other_hue))]
    words = [f"{colour}的{noun}" for noun, colour in things] + [word for thing in things for word in thing]
    return tuple(dict.fromkeys([*words, GROUNDS[ground][0]]))


def named(object_: int, hue: int, size: int, rng: np.random.Generator) -> str:
    """Returns an object with its measure word, and with colour and size unless they are -1: 一只红色的小狗."""
    noun, colour = NOUNS[object_][0], ""
    if hue >= 0:
        colour = HUES[hue] + chosen(("色", "色的"), rng)
    if size < 0:
        return MEASURES[object_] + colour + noun
    how = chosen(SIZES[size], rng)
    if how == SIZES[size][0]:
        return MEASURES[object_] + colour + how + noun
    return MEASURES[object_] + how + colour + noun


def placed(thing: str, side: str, ground: str, rng: np.random.Generator) -> str:
    """Returns a thing with its place, named after it (狗在草地上) or before it (草地上有狗)."""
    if not (side or ground):
        return chosen((thing, f"有{thing}"), rng)
    if side and ground:
        both = f"{side}的{ground}"
        apart = (f"{thing}在{ground}，在{side}", f"在{ground}，{side}有{thing}")
        return chosen((f"{thing}在{both}", f"{both}有{thing}", *apart), rng)
    return chosen((f"{thing}在{side or ground}", f"{side or ground}有{thing}"), rng)


def chosen(phrases: Sequence[str], rng: np.random.Generator) -> str:
    """Returns a random one of some phrases."""
    return str(rng.choice(phrases))


def claims_in_chinese(caption: str) -> tuple[int, int, int, int, int]:
    """Returns the attributes that a caption of one object names, in the order of Scene, -1 for the others."""
    words = joined(caption)
    hue = re.search(HUE, words)
    return (
        first(words, [f"(?:{'|'.join(nouns)})" for nouns in NOUNS]),
        HUES.index(hue[1]) if hue else -1,
        first(words, ["小", "大(?!海)"]),
        first(words, ["左", "中间|中央|正中", "右"]),
        ground_in(words),
    )


def joined(caption: str) -> str:
    """Returns a caption without spaces."""
    return "".join(caption.split())


def first(words: str, patterns: Sequence[str]) -> int:
    """Returns the index of the first pattern that is found in `words`, or -1."""
    return next((i for i, pattern in enumerate(patterns) if re.search(pattern, words)), -1)


def ground_in(words: str) -> int:
    """Returns the ground that `words` name, or -1."""
    return first(words, ["草", "沙|海滩", "雪", "水|海", "夜", "砖"])


# ------------------------------------------------------------------------------------------------ two objects


def describe_pair_in_chinese(pair: Sequence[int], rng: np.random.Generator) -> str:
    """Returns a Chinese caption of a Pair; it always names both objects, the rest by PAIR_CHANCE."""
    layout, ground_index = pair[4:]
    things = [(pair[0], pair[1]), (pair[2], pair[3])]
    side = int(rng.integers(2))  # whose view is told
    subject, reference = (
        named(object_, hue if rng.random() < PAIR_CHANCE[0] else -1, -1, rng)
        for object_, hue in (reversed(things) if side else things)
    )
    ground = chosen(GROUNDS[ground_index], rng) if rng.random() < PAIR_CHANCE[2] else ""
    if rng.random() >= PAIR_CHANCE[1]:
        return placed(f"{subject}{chosen(('和', '与', '跟'), rng)}{reference}", "", ground, rng)
    relation = chosen(RELATIONS[layout][side], rng)
    told = chosen((f"{subject}在{reference}的{relation}", f"{reference}的{relation}有{subject}"), rng)
    if not ground:
        return told
    return chosen((f"{told}，在{ground}", f"{ground}，{told}", f"在{ground}，{told}"), rng)


def claims_of_pair_in_chinese(caption: str) -> tuple[int, int, int, int, int, int]:
    """Returns the attributes that a caption of two objects names, in the order of Pair, -1 for the others.

    Without a relation the order of the two means nothing.
    """
    words = joined(caption)
    ground = ground_in(words)
    words = re.sub("|".join(sorted((p for phrases in GROUNDS for p in phrases), key=len, reverse=True)), "", words)
    found = list(re.finditer(f"(?:{HUE})?(?:[小大])?({NOUN})", words))[:2]
    things = [(first(match[2], NOUN_PATTERNS), HUES.index(match[1]) if match[1] else -1) for match in found]
    one, other = [*things, (-1, -1), (-1, -1)][:2]
    for layout, sides in enumerate(RELATIONS):
        for side, phrases in enumerate(sides):
            match = re.search("|".join(phrases), words)
            if match:
                is_last = len(found) > 1 and match.start() < found[1].start()  # 球的左边有狗: the subject comes last
                if is_last != bool(side):
                    one, other = other, one
                return (*one, *other, layout, ground)
    return (*one, *other, -1, ground)


NOUN_PATTERNS = ["|".join(nouns) for nouns in NOUNS]
EVERY_PHRASE = [*MEASURES, *HUES, "色的", "有，在", "和与跟"]
for group in (NOUNS, SIZES, SIDES, GROUNDS, *RELATIONS):
    EVERY_PHRASE += [phrase for phrases in group for phrase in phrases]
CHARACTERS = frozenset("".join(EVERY_PHRASE))  # of all captions that describe scenes


def describes_scenes(caption: str) -> bool:
    """Returns whether a caption is Chinese and holds no character that scenes' captions do not have."""
    return is_chinese(caption) and set(joined(caption)) <= CHARACTERS
