"""Scenes of three objects: captions that count them, drawing, and the accuracies of what a scene classifier reads."""

import itertools
import json
from collections import Counter

import numpy as np
import pytest
import torch

import cgan
from cgan.cli.evaluate import main as evaluate
from cgan.cli.judge import main as train_classifier
from cgan.data.scenes.arrangements import draw_arrangement
from cgan.data.scenes.attributes import COLOURS, GROUNDS, OBJECTS
from cgan.data.scenes.levels import level_of
from cgan.data.scenes.object_corruptions import OBJECT_KINDS, spoil_objects
from cgan.data.scenes.three_objects import (
    TRIO_ATTRIBUTES,
    Groups,
    Trio,
    arrange_trio,
    describe_trio,
    draw_trio,
    is_heldout_trio,
    labels_of_trio,
    mentioned_in_trio,
    sample_trio,
)
from cgan.data.sources import DataConfig, build_dataset, check_data
from cgan.errors import UserError
from cgan.evaluation.multi_object import JUDGES
from cgan.evaluation.scene_classifier_training import save_scene_classifier
from cgan.metrics.scenes import Reading, SceneClassifier, SceneClassifierConfig, load_scene_classifier
from cgan.metrics.three_objects import NUM_VALUES, PARTS, ThreeObjectAccuracy
from cgan.pixels import as_floats
from cgan.resources import STARTER_GAN, TRIO_CLASSIFIER
from helpers.runs import TINY

DOG, CAR, BALL, FISH = (OBJECTS.index(name) for name in ("dog", "car", "ball", "fish"))
RED, BLUE, GREEN = (COLOURS.index(name) for name in ("red", "blue", "green"))
SAND, GRASS, NIGHT = (GROUNDS.index(name) for name in ("sand", "grass", "night sky"))
NONE = (-1, -1, -1)


# ------------------------------------------------------------------------------------------------ captions


@pytest.mark.parametrize(
    ("caption", "claim"),
    [
        ("two red balls and a blue car on sand", Groups(2, BALL, RED, 1, CAR, BLUE, SAND)),
        ("a blue car and two red balls on sand", Groups(1, CAR, BLUE, 2, BALL, RED, SAND)),
        ("At the beach, there are two red balls with one blue car.", Groups(2, BALL, RED, 1, CAR, BLUE, SAND)),
        ("there is an orange dog together with a pair of cars", Groups(1, DOG, 1, 2, CAR, -1, -1)),
        ("a group of three fish on green grass", Groups(3, FISH, -1, *NONE, GRASS)),
        ("under the night sky, 3 green fish", Groups(3, FISH, GREEN, *NONE, NIGHT)),
        ("red balls and a car", Groups(-1, BALL, RED, 1, CAR, -1, -1)),
        ("a street", Groups(*NONE, *NONE, -1)),
    ],
)
def test_a_caption_is_read_as_groups_in_its_own_order(caption, claim):
    assert mentioned_in_trio(caption) == claim


def true_of(claim: Groups, trio: Trio) -> bool:
    """Whether the objects, in some order, are those of the groups one by one; by trying all orders."""
    groups = (claim.count, claim.object, claim.colour), (claim.other_count, claim.other, claim.other_colour)
    slots = [(kind, colour) for count, kind, colour in groups for _ in range(count)]
    if len(slots) != 3 or claim.ground not in (-1, trio.ground):
        return False
    return any(
        all(
            kind == wanted and colour in (-1, actual)
            for (kind, colour), (wanted, actual) in zip(slots, order, strict=True)
        )
        for order in itertools.permutations(trio.things())
    )


@pytest.mark.parametrize("split", ["seen", "heldout"])
def test_captions_are_true_and_name_every_group_with_its_number(split):
    rng, captions = np.random.default_rng(0), []
    for _ in range(5000):
        trio = sample_trio(rng, split)
        caption = describe_trio(trio, rng)
        claim = mentioned_in_trio(caption)
        groups = [(claim.count, claim.object), (claim.other_count, claim.other)]
        numbers = Counter(kind for kind, _ in trio.things())
        assert true_of(claim, trio) and {kind: n for n, kind in groups if kind >= 0} == dict(numbers), caption
        captions.append(claim)
    claims = np.array(captions)
    two_groups = claims[claims[:, 4] >= 0]
    assert len(two_groups) / len(claims) == pytest.approx(0.75, abs=0.03)
    assert (two_groups >= 0).mean(axis=0) == pytest.approx([1, 1, 0.8, 1, 1, 0.8, 0.6], abs=0.03)


def test_about_a_tenth_of_the_compositions_is_held_out_in_any_order():
    things, held = list(itertools.product(range(8), range(8))), []
    for one, other in itertools.product(things, things):
        orders = [Trio(*one, *one, *other, 0), Trio(*one, *other, *one, 1), Trio(*other, *one, *one, 2)]
        assert len({is_heldout_trio(trio) for trio in orders}) == 1
        held.append(is_heldout_trio(orders[0]))
    by_pair = np.array(held).reshape(64, 64)
    assert 0.08 < by_pair.mean() < 0.1 and by_pair.sum(axis=0).min() >= 5 and by_pair.sum(axis=1).min() >= 5
    assert all(is_heldout_trio(sample_trio(np.random.default_rng(i), "heldout")) for i in range(50))


def test_labels_count_the_objects_and_keep_colours_with_them():
    assert labels_of_trio(Trio(BALL, RED, CAR, BLUE, BALL, RED, SAND)) == (
        "two balls", "a car", "red ball", "blue car", "ball", "red", "car", "blue", "sand",
    )  # fmt: skip


def test_captions_in_chinese_are_refused_in_one_line():
    for refused in (lambda: level_of("three", "zh"), lambda: check_data(DataConfig(level="three", language="zh"))):
        with pytest.raises(UserError, match="data.level=three are in English only") as error:
            refused()
        assert "\n" not in str(error.value)


# ------------------------------------------------------------------------------------------------ pictures


def test_objects_do_not_cover_each_other():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        whole = arrange_trio(sample_trio(rng, "seen"), rng)
        drawn = []
        for thing, place in zip(whole.things, whole.places, strict=True):
            alone = whole._replace(things=[thing], places=[place], ground=NIGHT, radii=(0.18, 0.18))
            none = alone._replace(things=[], places=[])
            pictures = (draw_arrangement(one, 64, np.random.default_rng(seed)).astype(int) for one in (alone, none))
            drawn.append(np.abs(np.subtract(*pictures)).max(axis=2) > 60)
        assert np.sum(drawn, axis=0).max() == 1 and min(mask.sum() for mask in drawn) > 80


def test_objects_stand_from_left_to_right():
    trio = Trio(BALL, RED, BALL, BLUE, BALL, GREEN, NIGHT)
    picture = draw_trio(trio, 64, np.random.default_rng(0)).astype(int)
    red, green, blue = picture[..., 0], picture[..., 1], picture[..., 2]
    masks = (red - blue > 100) & (red - green > 100), (blue - red > 100), (green - red > 60) & (green - blue > 40)
    columns = [np.argwhere(mask)[:, 1].mean() for mask in masks]
    assert columns[0] + 12 < columns[1] < columns[2] - 12


def test_the_same_random_state_draws_the_same_scene_and_a_data_set_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path))
    three, two = (build_dataset(DataConfig(num_images=4, resolution=32, level=level)) for level in ("three", "two"))
    assert three.attributes.shape == (4, 7) and not (three.pictures == two.pictures).all()
    assert (three.pictures == build_dataset(DataConfig(num_images=4, resolution=32, level="three")).pictures).all()
    assert all(true_of(mentioned_in_trio(caption), three.scene_at(2)) for caption in three.captions_of(2))


@pytest.mark.parametrize("kind", OBJECT_KINDS)
def test_every_spoilt_kind_is_a_picture_that_differs_from_the_real_one(kind):
    trio = Trio(BALL, RED, CAR, BLUE, BALL, RED, SAND)
    real = draw_trio(trio, 64, np.random.default_rng(0)).astype(int)
    spoilt = spoil_objects(arrange_trio, kind, trio, 64, np.random.default_rng(0))
    assert spoilt.shape == (64, 64, 3) and spoilt.dtype == np.uint8 and np.abs(spoilt - real).mean() > 1


# ------------------------------------------------------------------------------------------------ accuracies


def accuracies(caption: str, read: Trio, recognisable: bool = True) -> dict[str, float]:
    metric = ThreeObjectAccuracy()
    reading = Reading(torch.tensor([read]), torch.tensor([recognisable]), torch.zeros(1, 1))
    metric.update(reading, torch.tensor([mentioned_in_trio(caption)]))
    return {name: float(value) for name, value in metric.compute().items()}


TRUTH = Trio(BALL, RED, CAR, BLUE, BALL, RED, SAND)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1)])
@pytest.mark.parametrize(
    "caption", ["two red balls and a blue car on sand", "at the beach, one car with two red balls"]
)
def test_everything_right_is_right_in_every_part_in_any_order(order, caption):
    things = [TRUTH.things()[place] for place in order]
    read = Trio(*(number for thing in things for number in thing), SAND)
    assert set(accuracies(caption, read).values()) == {1}


@pytest.mark.parametrize(
    ("read", "wrong"),
    [
        (TRUTH._replace(middle=DOG), {"objects"}),
        (TRUTH._replace(left=DOG), {"objects"}),  # a kind too many
        (TRUTH._replace(middle=BALL, middle_colour=RED), {"objects"}),  # three balls and no car
        (TRUTH._replace(left=CAR, left_colour=BLUE), {"counts"}),  # two cars and a ball
        (TRUTH._replace(left_colour=BLUE), {"colour_binding"}),  # one ball of two
        (Trio(BALL, BLUE, CAR, RED, BALL, BLUE, SAND), {"colour_binding"}),  # each has the other's colour
        (TRUTH._replace(ground=GRASS), {"ground"}),
    ],
)
def test_each_mistake_is_seen_by_its_own_part(read, wrong):
    found = accuracies("two red balls and a blue car on sand", read)
    assert found.pop("three_object_accuracy") == 0
    assert {name for name, value in found.items() if value == 0} == wrong  # of what can't be told there is no share


def test_three_alike_are_right_only_as_three_alike():
    alike = Trio(FISH, GREEN, FISH, GREEN, FISH, GREEN, SAND)
    assert accuracies("three green fish", alike)["three_object_accuracy"] == 1
    assert accuracies("three green fish", TRUTH)["objects"] == accuracies("two fish and a dog", alike)["objects"] == 0
    assert accuracies("three green fish", alike, recognisable=False)["objects"] == 0


def test_everything_agrees_with_all_orders_tried_one_by_one():
    rng = np.random.default_rng(0)
    reads, claims = [], []
    for _ in range(1000):
        trio = sample_trio(rng, "seen")
        claims.append(mentioned_in_trio(describe_trio(trio, rng)))
        values = list(trio)
        if rng.random() < 0.6:  # one value is read wrongly
            place = int(rng.integers(7))
            values[place] = int(rng.choice([*trio[:6:2]] if place in (0, 2, 4) else range(6)))
        reads.append(values)
    metric, known = ThreeObjectAccuracy(), torch.ones(1000, dtype=torch.bool)
    metric.update(Reading(torch.tensor(reads), known, torch.zeros(1000, 1)), torch.tensor(claims))
    expected = [true_of(claim, Trio(*read)) for claim, read in zip(claims, reads, strict=True)]
    assert 0.3 < np.mean(expected) < 0.9
    assert float(metric.compute()["three_object_accuracy"]) == pytest.approx(np.mean(expected))


def test_a_scene_classifier_of_trios_has_an_output_for_each_value():
    assert tuple(len(values) for values in TRIO_ATTRIBUTES.values()) == NUM_VALUES
    assert len(Trio._fields) == len(Groups._fields) == len(NUM_VALUES)


# ------------------------------------------------------------------------------------------------ as a whole


@pytest.fixture
def small_classifier(tmp_path, monkeypatch):
    """In the place of the project's own, untrained."""
    torch.manual_seed(0)
    classifier = SceneClassifier(SceneClassifierConfig(num_values=NUM_VALUES, width=4, feature_dim=8))
    save_scene_classifier(classifier, {}, tmp_path / "three.safetensors")
    monkeypatch.setitem(JUDGES, "three", JUDGES["three"]._replace(classifier=tmp_path / "three.safetensors"))
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path))


def test_a_checkpoint_is_measured_on_scenes_of_three_objects(small_classifier, tmp_path, capsys):
    out = ["--out", str(tmp_path / "report.json")]
    evaluate([str(STARTER_GAN), "--data", "data.level=three", "--num-images", "8", "--anchors", *out])
    report = json.loads((tmp_path / "report.json").read_text())
    assert {"three_object_accuracy", "objects_heldout", "ground"} < set(report["metrics"])
    assert report["protocol"]["reference"]["level"] == "three" and "three_object_accuracy" in capsys.readouterr().out
    shares = [report["anchors"]["real_of_captions"][part] for part in ("three_object_accuracy", "objects", "ground")]
    assert all(0 <= share <= 1 for share in shares) and set(PARTS) < set(JUDGES["three"].names())


@pytest.mark.slow
def test_the_configuration_of_three_objects_trains_and_is_measured(small_classifier, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = ["trainer.images=32", "trainer.evaluate_every=32", "trainer.evaluation_images=8"]
    result = cgan.train(cgan.load_config(["gan/scenes-three.yaml", *TINY, *few, "run_dir=r"]))
    assert {"three_object_accuracy", "counts", "ground_heldout"} <= set(result.metrics)
    assert (tmp_path / "r/best.ckpt").is_file()
    assert cgan.TextToImage.from_pretrained("r").unknown_words(["two red balls and a blue car on sand"]) == []


def test_a_missing_classifier_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(JUDGES, "three", JUDGES["three"]._replace(classifier=tmp_path / "none"))
    with pytest.raises(UserError, match="cgan judge --level three") as error:
        evaluate([str(STARTER_GAN), "--data", "data.level=three"])
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_the_scene_classifier_of_trios_reads_real_scenes_and_rejects_spoilt_ones():
    classifier, rng, scores = load_scene_classifier(TRIO_CLASSIFIER), np.random.default_rng(5), ThreeObjectAccuracy()
    trios = [sample_trio(rng, ("seen", "heldout")[i % 2]) for i in range(200)]
    pictures = [draw_trio(trio, 64, rng) for trio in trios]
    kinds = [OBJECT_KINDS[i % len(OBJECT_KINDS)] for i in range(len(trios))]
    spoilt = [spoil_objects(arrange_trio, kind, trio, 64, rng) for kind, trio in zip(kinds, trios, strict=True)]
    as_images = (torch.from_numpy(np.stack(some)).permute(0, 3, 1, 2) for some in (pictures, spoilt))
    real, other = (classifier.read(as_floats(images)) for images in as_images)
    scores.update(real, torch.tensor([mentioned_in_trio(describe_trio(trio, rng)) for trio in trios]))
    assert min(scores.compute().values()) > 0.96
    assert other.recognisable.float().mean() < 0.1


@pytest.mark.slow
def test_a_scene_classifier_of_trios_is_trained_and_says_what_it_rejects(quick_drawers, tmp_path):
    sizes = ["--num-images", "16", "--images", "256", "--test-images", "16"]
    train_classifier(["--level", "three", *sizes, "--out", str(tmp_path / "judge.safetensors")])
    table = json.loads((tmp_path / "judge.json").read_text())
    assert {f"rejected: {kind}" for kind in OBJECT_KINDS} < set(table)
    reading = load_scene_classifier(tmp_path / "judge.safetensors").read(torch.zeros(2, 3, 64, 64))
    assert reading.values.shape == (2, len(TRIO_ATTRIBUTES))
    assert (tmp_path / "judge.safetensors").stat().st_size < 1_500_000
