"""Scenes described in Chinese: what captions say is true, and is read back from them."""

import itertools
import re

import numpy as np
import pytest

from cgan.data.fingerprint import fingerprint_of
from cgan.data.scenes.attributes import ATTRIBUTES, COLOURS, GROUNDS, OBJECTS, Scene, is_heldout, sample_scene
from cgan.data.scenes.captions import mentioned_in
from cgan.data.scenes.chinese import describe_in_chinese, describe_pair_in_chinese, describes_scenes
from cgan.data.scenes.dataset import Scenes
from cgan.data.scenes.levels import level_of, translated
from cgan.data.scenes.two_objects import (
    PAIR_ATTRIBUTES,
    Pair,
    agrees,
    is_heldout_pair,
    mentioned_in_pair,
    sample_pair,
)
from cgan.data.sources import DataConfig, build_dataset

DOG, CAT, BALL, RED, BLUE = OBJECTS.index("dog"), OBJECTS.index("cat"), OBJECTS.index("ball"), 0, COLOURS.index("blue")
GRASS, SNOW, SAND = GROUNDS.index("grass"), GROUNDS.index("snow"), GROUNDS.index("sand")
WHITE, BLACK = COLOURS.index("white"), COLOURS.index("black")


@pytest.mark.parametrize(
    ("caption", "scene"),
    [
        ("一只狗在草地上", Scene(DOG, -1, -1, -1, GRASS)),
        ("一只 红色的 小狗 在 绿草地上。", Scene(DOG, RED, 0, -1, GRASS)),
        ("雪地里有一只很大的白猫", Scene(CAT, WHITE, 1, -1, SNOW)),
        ("画面右侧有一辆黑色汽车", Scene(OBJECTS.index("car"), BLACK, -1, 2, -1)),
        ("中间的海面上有一只鸟", Scene(OBJECTS.index("bird"), -1, -1, 1, GROUNDS.index("water"))),
        ("在白雪上，左边有一个球", Scene(BALL, -1, -1, 0, SNOW)),
        ("夜空中有一条鱼", Scene(OBJECTS.index("fish"), -1, -1, -1, GROUNDS.index("night sky"))),
    ],
)
def test_a_caption_is_understood(caption, scene):
    assert mentioned_in(caption) == scene


def test_captions_of_every_scene_say_only_what_is_true():
    rng = np.random.default_rng(0)
    for values in itertools.product(*(range(len(names)) for names in ATTRIBUTES.values())):
        scene, heard = Scene(*values), Scene(-1, -1, -1, -1, -1)
        for _ in range(12):
            caption = describe_in_chinese(scene, rng)
            claim = mentioned_in(caption)
            assert claim.object == scene.object and describes_scenes(caption), caption
            assert all(said in (-1, true) for said, true in zip(claim, scene, strict=True)), caption
            heard = Scene(*(max(pair) for pair in zip(heard, claim, strict=True)))
        assert sum(said == true for said, true in zip(heard, scene, strict=True)) >= 4  # by chance not always all


def test_every_attribute_is_left_out_as_often_as_in_english():
    rng = np.random.default_rng(0)
    claims = np.array([mentioned_in(describe_in_chinese(sample_scene(rng, "seen"), rng)) for _ in range(2000)])
    assert (claims >= 0).mean(axis=0) == pytest.approx([1.0, 0.8, 0.5, 0.5, 0.8], abs=0.05)


def test_held_out_combinations_stay_held_out(tmp_path):
    for split in ("seen", "heldout"):
        scenes = Scenes(200, 32, split=split, cache=tmp_path, level=level_of("one", "zh"))
        claims = [mentioned_in(caption) for i in range(len(scenes)) for caption in scenes.captions_of(i)]
        whole = [claim for claim in claims if -1 not in (claim.object, claim.colour, claim.ground)]
        assert len(whole) > 300 and {is_heldout(claim) for claim in whole} == {split == "heldout"}


def test_pictures_are_those_of_english_scenes_and_fingerprints_are_not(tmp_path, monkeypatch):
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path))
    english, chinese = (build_dataset(DataConfig(num_images=8, resolution=32, language=each)) for each in ("en", "zh"))
    assert (english.pictures == chinese.pictures).all() and len(list(tmp_path.glob("*.npy"))) == 1
    assert all(re.fullmatch("[\u4e00-\u9fff，]+", c) for i in range(8) for c in chinese[i].captions)
    assert fingerprint_of(english).captions != fingerprint_of(chinese).captions


# ---------------------------------------------------------------------------------------------- two objects


@pytest.mark.parametrize(
    ("caption", "claim"),
    [
        ("一只红色的狗在一个蓝色的球的左边，在沙滩上", Pair(DOG, RED, BALL, BLUE, 0, SAND)),
        ("沙地上，一只红狗的右边有一个蓝色的球", Pair(DOG, RED, BALL, BLUE, 0, SAND)),
        ("一只狗在一个蓝球的下面", Pair(BALL, BLUE, DOG, -1, 1, -1)),
        ("夜空下有一只狗和一只猫", Pair(DOG, -1, CAT, -1, -1, GROUNDS.index("night sky"))),
    ],
)
def test_a_caption_of_two_objects_is_understood_from_either_objects_view(caption, claim):
    assert mentioned_in_pair(caption) == claim


def test_captions_of_every_pair_say_only_what_is_true():
    rng = np.random.default_rng(0)
    for values in itertools.product(*(range(len(names)) for names in PAIR_ATTRIBUTES.values())):
        pair = Pair(*values)
        if pair.object == pair.other:
            continue
        caption = describe_pair_in_chinese(pair, rng)
        claim = mentioned_in_pair(caption)
        assert {claim.object, claim.other} == {pair.object, pair.other} and agrees(claim, pair), caption
        if claim.layout >= 0:
            assert not agrees(claim, pair.swapped()), caption  # the relation is no mere word


def test_colours_relation_and_ground_of_pairs_are_left_out_as_often_as_in_english():
    rng = np.random.default_rng(0)
    pairs = [sample_pair(rng, "heldout") for _ in range(2000)]
    claims = np.array([mentioned_in_pair(describe_pair_in_chinese(pair, rng)) for pair in pairs])
    assert all(is_heldout_pair(pair) for pair in pairs)
    assert (claims >= 0).mean(axis=0) == pytest.approx([1, 0.8, 1, 0.8, 0.8, 0.6], abs=0.05)


# ---------------------------------------------------------------------------------------------- translations


def test_translations_claim_the_same():
    rng = np.random.default_rng(0)
    for _ in range(300):
        one = describe_in_chinese(sample_scene(rng, "seen"), rng)
        two = describe_pair_in_chinese(sample_pair(rng, "seen"), rng)
        assert mentioned_in(translated(one)) == mentioned_in(one)
        claim, again = mentioned_in_pair(two), mentioned_in_pair(translated(two))
        assert again == claim
    assert translated("一只狗在草地上") == "a dog on grass"


@pytest.mark.parametrize("caption", ["a dog on grass", "一只狗在公园里", "いぬ", ""])
def test_what_does_not_describe_a_scene_in_chinese_is_not_translated(caption):
    assert translated(caption) is None
