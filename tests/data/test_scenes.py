import itertools

import numpy as np
import pytest
import torch

from cgan.data.scenes.attributes import ATTRIBUTES, COLOURS, GROUNDS, OBJECTS, Scene, is_heldout, sample_scene
from cgan.data.scenes.captions import describe, mentioned_in
from cgan.data.scenes.dataset import Scenes
from cgan.data.scenes.drawing import draw_scene

COMBINATIONS = list(itertools.product(range(len(OBJECTS)), range(len(COLOURS)), range(len(GROUNDS))))


def test_a_tenth_of_the_combinations_is_held_out_evenly():
    held = np.array([c for c in COMBINATIONS if is_heldout(Scene(c[0], c[1], 0, 0, c[2]))])
    assert 0.09 < len(held) / len(COMBINATIONS) < 0.12
    for axis, values in enumerate((OBJECTS, COLOURS, GROUNDS)):
        counts = np.bincount(held[:, axis], minlength=len(values))
        assert counts.min() >= 3 and counts.max() <= 8


@pytest.mark.parametrize("split", ["seen", "heldout"])
def test_sampled_scenes_keep_to_their_split(split):
    rng = np.random.default_rng(0)
    assert all(is_heldout(sample_scene(rng, split)) == (split == "heldout") for _ in range(300))


def test_captions_say_only_what_is_true_and_always_name_the_object():
    rng = np.random.default_rng(0)
    for _ in range(2000):
        scene = sample_scene(rng, "seen")
        caption = describe(scene, rng)
        named = mentioned_in(caption)
        assert named.object == scene.object, caption
        assert all(said in (-1, true) for said, true in zip(named, scene, strict=True)), caption


def test_every_attribute_is_left_out_now_and_then():
    rng = np.random.default_rng(0)
    named = np.array([mentioned_in(describe(sample_scene(rng, "seen"), rng)) for _ in range(1000)])
    shares = (named >= 0).mean(axis=0)
    assert shares == pytest.approx([1.0, 0.8, 0.5, 0.5, 0.8], abs=0.06)


def test_a_dog_on_grass_is_a_scene():
    assert mentioned_in("a dog on grass") == Scene(OBJECTS.index("dog"), -1, -1, -1, GROUNDS.index("grass"))


@pytest.mark.parametrize("resolution", [32, 64, 256])
def test_same_random_state_draws_the_same_picture(resolution):
    scene = Scene(0, 0, 1, 1, 0)
    first, second = (draw_scene(scene, resolution, np.random.default_rng(3)) for _ in range(2))
    assert first.shape == (resolution, resolution, 3) and (first == second).all()


def test_each_attribute_changes_the_picture():
    base = Scene(0, 0, 0, 0, 0)
    picture = draw_scene(base, 32, np.random.default_rng(0)).astype(int)
    for name in ATTRIBUTES:
        other = draw_scene(base._replace(**{name: 1}), 32, np.random.default_rng(0))
        assert np.abs(other - picture).mean() > 1, name


def test_cached_pictures_equal_freshly_drawn_ones_even_after_damage(tmp_path):
    first = Scenes(20, 32, seed=1, cache=tmp_path)
    expected = np.array(first.pictures)
    (path,) = tmp_path.glob("*.npy")
    path.write_bytes(path.read_bytes()[:200])
    again = Scenes(20, 32, seed=1, cache=tmp_path)
    assert (again.pictures == expected).all() and [p.suffix for p in tmp_path.iterdir()] == [".npy"]


def test_a_sample_is_a_picture_of_bytes_with_captions_that_do_not_change(tmp_path):
    scenes = Scenes(4, 32, cache=tmp_path)
    image, captions, image_id, _ = scenes[2]
    assert image.shape == (3, 32, 32) and image.dtype == torch.uint8 and image_id == 2
    assert len(captions) == 5 and captions == scenes[2].captions
