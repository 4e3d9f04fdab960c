"""Changed pictures stay pictures that their captions describe."""

import pytest
import torch

from cgan.config import load_config
from cgan.interfaces import UserError
from cgan.models.picture_augment import augment_pictures, crop, flip, shift, tint
from cgan.training.joint_run import augmentation_of


def some(count: int = 64) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_nothing_is_changed_or_drawn_without_kinds():
    images, state = some(2), torch.get_rng_state()
    assert augment_pictures(images, []) is images and torch.equal(torch.get_rng_state(), state)


def test_half_of_the_pictures_are_mirrored():
    images = some()
    changed = flip(images, torch.rand(64, 1, generator=torch.Generator().manual_seed(1)))
    mirrored = [torch.equal(a, b.flip(2)) for a, b in zip(changed, images, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(changed, images, strict=True)]
    assert sum(mirrored) + sum(kept) == 64 and 20 < sum(mirrored) < 44


@pytest.mark.parametrize("chance, rows, columns", [(0.0, -2, -2), (0.999, 2, 2), (0.5, 0, 0)])
def test_a_shift_is_by_whole_pixels_and_repeats_the_border(chance, rows, columns):
    image = some(1)
    found = shift(image, torch.full((1, 2), chance))
    for y, x in ((0, 0), (31, 31), (5, 17)):
        source = min(max(y + rows, 0), 31), min(max(x + columns, 0), 31)
        assert torch.equal(found[0, :, y, x], image[0, :, source[0], source[1]])


def test_a_crop_of_the_whole_picture_is_the_picture_and_others_lie_inside():
    images = some(8)
    torch.testing.assert_close(crop(images, torch.tensor([[1.0, 0.3, 0.9]] * 8)), images, atol=1e-5, rtol=0)
    ramp = torch.linspace(-1, 1, 32).expand(1, 3, 32, 32)
    left, right = (crop(ramp, torch.tensor([[0.0, place, 0.5]]))[0, 0, 16] for place in (0.0, 1.0))
    assert left[0] < -0.95 and left[-1] < 0.65 and right[-1] > 0.95 and right[0] > -0.65


def test_colours_keep_their_hue_and_their_range():
    red = torch.tensor([0.8, -0.6, -0.6])[None, :, None, None].expand(50, -1, 8, 8)
    changed = tint(red, torch.rand(50, 3))
    assert bool((changed[:, 0] > changed[:, 1] + 1).all()) and float(changed.abs().max()) <= 1
    assert len(changed[:, 0, 0, 0].unique()) > 40


def test_all_kinds_together_give_pictures_of_the_same_shape_and_range():
    images = some(4)
    changed = augment_pictures(images, ["flip", "translation", "crop", "colour"])
    assert changed.shape == images.shape and float(changed.abs().max()) <= 1 and not torch.equal(changed, images)


FOLDER = ["data.source=folder", "data.root=x"]


@pytest.mark.parametrize(
    "settings, num_pictures, joint, gan",
    [
        ([], 500, [], []),
        (FOLDER, 500, ["crop", "colour"], []),
        (FOLDER, 100_000, [], []),
        ([*FOLDER, "data.flip=true"], 500, ["crop", "colour", "flip"], ["flip"]),
        ([*FOLDER, "data.flip=true", "joint.augmentation=[translation]"], 500, ["translation", "flip"], ["flip"]),
        (["data.source=shards", "data.root=x", "data.flip=true"], 100_000, [], []),  # mirrored when they are read
    ],
)
def test_few_pictures_are_changed_and_sides_are_kept_unless_told_otherwise(settings, num_pictures, joint, gan):
    config = load_config(settings)
    assert augmentation_of(config, num_pictures) == joint and config.gan.picture_augmentation == gan


def test_a_kind_that_is_none_is_one_line():
    with pytest.raises(UserError, match="picture_augmentation"):
        load_config(["gan.picture_augmentation=[mirror]"])
