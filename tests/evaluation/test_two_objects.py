"""Scenes of two objects: captions and their claims, drawing, and the accuracies of what a scene classifier reads."""

import itertools
import json

import numpy as np
import pytest
import torch

import cgan
from cgan.cli.evaluate import main as evaluate
from cgan.cli.judge import main as train_classifier
from cgan.data.scenes.attributes import COLOURS, GROUNDS, OBJECTS
from cgan.data.scenes.dataset import Scenes
from cgan.data.scenes.object_corruptions import OBJECT_KINDS, spoil_objects
from cgan.data.scenes.two_objects import (
    PAIR_ATTRIBUTES,
    TWO,
    Pair,
    agrees,
    arrange_pair,
    describe_pair,
    draw_pair,
    is_heldout_pair,
    mentioned_in_pair,
    sample_pair,
)
from cgan.data.sources import DataConfig, build_dataset
from cgan.errors import UserError
from cgan.evaluation.multi_object import JUDGES, MultiObjectEvaluator, captions_of_several
from cgan.evaluation.scene_classifier_training import save_scene_classifier
from cgan.metrics.scenes import Reading, SceneClassifier, SceneClassifierConfig, load_scene_classifier
from cgan.metrics.two_objects import NUM_VALUES, TwoObjectAccuracy
from cgan.models.generators import build_generator
from cgan.models.generators.base import GeneratorConfig
from cgan.models.text.lstm import LSTMConfig, LSTMTextEncoder, Vocabulary
from cgan.pixels import as_floats
from cgan.resources import PAIR_CLASSIFIER, STARTER_GAN
from cgan.sampling.pipeline import TextToImage

DOG, CAT, BALL, RED, BLUE = OBJECTS.index("dog"), OBJECTS.index("cat"), OBJECTS.index("ball"), 0, COLOURS.index("blue")
SAND = GROUNDS.index("sand")
THINGS = list(itertools.product(range(len(OBJECTS)), range(len(COLOURS))))


# ------------------------------------------------------------------------------------------------ captions


@pytest.mark.parametrize(
    ("caption", "claim"),
    [
        ("a red dog to the left of a blue ball on sand", Pair(DOG, RED, BALL, BLUE, 0, SAND)),
        ("a blue ball to the right of a red dog on sand", Pair(DOG, RED, BALL, BLUE, 0, SAND)),
        ("at the beach, to the right of a red dog there is a blue ball", Pair(DOG, RED, BALL, BLUE, 0, SAND)),
        ("a dog underneath a blue ball", Pair(BALL, BLUE, DOG, -1, 1, -1)),
        ("a dog under the night sky and a cat", Pair(DOG, -1, CAT, -1, -1, GROUNDS.index("night sky"))),
        ("a dog above a cat on green grass", Pair(DOG, -1, CAT, -1, 1, GROUNDS.index("grass"))),
    ],
)
def test_captions_are_understood_from_either_objects_view(caption, claim):
    assert mentioned_in_pair(caption) == claim


@pytest.mark.parametrize("split", ["seen", "heldout"])
def test_captions_say_only_what_is_true_and_name_both_objects(split):
    rng = np.random.default_rng(0)
    for _ in range(2000):
        pair = sample_pair(rng, split)
        caption = describe_pair(pair, rng)
        claim = mentioned_in_pair(caption)
        assert {claim.object, claim.other} == {pair.object, pair.other} and agrees(claim, pair), caption
        if claim.layout >= 0:
            assert not agrees(claim, pair.swapped()), caption  # the relation is no mere word


def test_colours_relation_and_ground_are_left_out_now_and_then():
    rng = np.random.default_rng(0)
    claims = np.array([mentioned_in_pair(describe_pair(sample_pair(rng, "seen"), rng)) for _ in range(2000)])
    assert (claims >= 0).mean(axis=0) == pytest.approx([1, 0.8, 1, 0.8, 0.8, 0.6], abs=0.05)


def test_without_a_relation_the_order_of_objects_means_nothing():
    truth = Pair(DOG, RED, BALL, BLUE, 0, SAND)
    assert agrees(mentioned_in_pair("a blue ball and a red dog"), truth)
    assert not agrees(mentioned_in_pair("a red ball and a blue dog"), truth)


def test_a_tenth_of_the_pairs_of_coloured_objects_is_held_out_evenly_and_in_either_order():
    held = np.array([[is_heldout_pair(Pair(*one, *other, 0, 0)) for other in THINGS] for one in THINGS])
    assert 0.09 < held.mean() < 0.11 and (held == held.T).all() and 5 <= held.sum(0).min() <= held.sum(0).max() <= 8
    assert all(is_heldout_pair(sample_pair(np.random.default_rng(i), "heldout")) for i in range(50))


# ------------------------------------------------------------------------------------------------ pictures


@pytest.mark.parametrize("resolution", [32, 64, 256])
def test_same_random_state_draws_the_same_picture(resolution):
    pair = Pair(DOG, RED, BALL, BLUE, 1, SAND)
    first, second = (draw_pair(pair, resolution, np.random.default_rng(3)) for _ in range(2))
    assert first.shape == (resolution, resolution, 3) and (first == second).all()


def test_each_attribute_changes_the_picture():
    base = Pair(DOG, RED, BALL, BLUE, 0, SAND)
    picture = draw_pair(base, 32, np.random.default_rng(0)).astype(int)
    for field, name in zip(Pair._fields, PAIR_ATTRIBUTES, strict=True):
        value = CAT if name.endswith("object") else (getattr(base, field) + 2) % len(PAIR_ATTRIBUTES[name])
        changed = base._replace(**{field: 1 if name == "layout" else value})
        assert np.abs(draw_pair(changed, 32, np.random.default_rng(0)) - picture).mean() > 1, name


@pytest.mark.parametrize("layout", [0, 1])
def test_the_first_object_is_on_the_left_or_higher_up(layout):
    night = GROUNDS.index("night sky")
    picture = draw_pair(Pair(BALL, RED, BALL, BLUE, layout, night), 64, np.random.default_rng(0)).astype(int)
    reddest = np.argwhere(picture[..., 0] - picture[..., 2] > 100).mean(axis=0)
    bluest = np.argwhere(picture[..., 2] - picture[..., 0] > 100).mean(axis=0)
    assert reddest[1 - layout] < bluest[1 - layout] - 15


def test_a_data_set_of_two_objects_is_not_taken_for_one_of_one(tmp_path, monkeypatch):
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path))
    two, one = (build_dataset(DataConfig(num_images=6, resolution=32, level=level)) for level in ("two", "one"))
    again = Scenes(6, 32, level=TWO)
    assert (two.pictures == again.pictures).all() and not (two.pictures == one.pictures).all()
    assert two.attributes.shape == (6, 6) and two[3].captions == again.captions_of(3) and len(two[3].captions) == 5
    claims = [mentioned_in_pair(caption) for caption in two.captions_of(3)]
    assert all(agrees(claim, Pair(*two.attributes[3].tolist())) for claim in claims)


@pytest.mark.parametrize("kind", OBJECT_KINDS)
def test_every_spoilt_kind_is_a_picture_that_differs_from_the_real_one(kind):
    pair = Pair(DOG, RED, BALL, BLUE, 0, SAND)
    real = draw_pair(pair, 64, np.random.default_rng(0)).astype(int)
    spoilt = spoil_objects(arrange_pair, kind, pair, 64, np.random.default_rng(0))
    assert spoilt.shape == (64, 64, 3) and spoilt.dtype == np.uint8 and np.abs(spoilt - real).mean() > 1


# ------------------------------------------------------------------------------------------------ accuracies


def accuracies(caption: str, *read: Pair, recognisable: bool = True) -> dict[str, float]:
    metric, known = TwoObjectAccuracy(), torch.full((len(read),), recognisable)
    reading = Reading(torch.tensor(read), known, torch.zeros(len(read), 1))
    metric.update(reading, torch.tensor([mentioned_in_pair(caption)] * len(read)))
    return {name: float(value) for name, value in metric.compute().items()}


def test_everything_right_is_right_in_every_part_from_either_view():
    truth = Pair(DOG, RED, BALL, BLUE, 0, SAND)
    for caption in ("a red dog left of a blue ball on sand", "a blue ball right of a red dog", "a ball and a red dog"):
        found = accuracies(caption, truth)
        assert found["two_object_accuracy"] == found["objects"] == found["colour_binding"] == 1, caption


@pytest.mark.parametrize(
    ("read", "wrong"),
    [
        (Pair(CAT, RED, BALL, BLUE, 0, SAND), {"objects"}),
        (Pair(DOG, BLUE, BALL, RED, 0, SAND), {"colour_binding"}),  # each has the other's colour
        (Pair(BALL, BLUE, DOG, RED, 0, SAND), {"relation"}),  # they have changed places
        (Pair(DOG, RED, BALL, BLUE, 1, SAND), {"relation"}),
        (Pair(DOG, RED, BALL, BLUE, 0, SAND + 1), set()),  # the ground has no part of its own
    ],
)
def test_each_mistake_is_seen_by_its_own_part(read, wrong):
    found = accuracies("a red dog to the left of a blue ball on sand", read)
    assert found.pop("two_object_accuracy") == 0
    assert {name for name, value in found.items() if value == 0} == wrong  # of what can't be told there is no share


def test_what_nobody_recognises_is_wrong():
    assert accuracies("a dog and a ball", Pair(DOG, RED, BALL, BLUE, 0, SAND), recognisable=False)["objects"] == 0


def test_parts_agree_with_a_count_by_hand_over_random_readings():
    rng = np.random.default_rng(0)
    metric, everything = TwoObjectAccuracy(), []
    for _ in range(300):
        truth = sample_pair(rng, "seen")
        caption = describe_pair(truth, rng)
        read = truth if rng.random() < 0.5 else truth.swapped() if rng.random() < 0.5 else sample_pair(rng, "seen")
        everything.append(agrees(mentioned_in_pair(caption), read))
        reading = Reading(torch.tensor([read]), torch.tensor([True]), torch.zeros(1, 1))
        metric.update(reading, torch.tensor([mentioned_in_pair(caption)]))
    assert float(metric.compute()["two_object_accuracy"]) == pytest.approx(np.mean(everything))


def test_a_scene_classifier_of_pairs_has_an_output_for_each_value():
    assert tuple(len(values) for values in PAIR_ATTRIBUTES.values()) == NUM_VALUES


# ------------------------------------------------------------------------------------------------ as a whole


def test_an_evaluator_measures_both_splits_the_same_each_time(tmp_path, monkeypatch):
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path))
    torch.manual_seed(0)
    classifier = SceneClassifier(SceneClassifierConfig(num_values=NUM_VALUES, width=4, feature_dim=8)).eval()
    captions = captions_of_several("two", "seen", 20, seed=0)
    text = LSTMTextEncoder(LSTMConfig(dim=8, embedding_dim=4), Vocabulary.of(captions)).eval()
    generator = build_generator(GeneratorConfig(noise_dim=4, style_dim=4, width=4, max_channels=4), 32, 8).eval()
    evaluator = MultiObjectEvaluator("two", classifier, 32, num_images=12)
    first, second = (evaluator(generator, text) for _ in range(2))
    assert set(first) == set(JUDGES["two"].names())
    assert str(first) == str(second)  # a share of nothing is nan, unlike itself


@pytest.mark.slow
def test_the_scene_classifier_of_pairs_reads_real_scenes_and_rejects_spoilt_ones():
    classifier, rng, scores = load_scene_classifier(PAIR_CLASSIFIER), np.random.default_rng(5), TwoObjectAccuracy()
    pairs = [sample_pair(rng, ("seen", "heldout")[i % 2]) for i in range(200)]
    pictures = [draw_pair(pair, 64, rng) for pair in pairs]
    kinds = [OBJECT_KINDS[i % len(OBJECT_KINDS)] for i in range(len(pairs))]
    spoilt = [spoil_objects(arrange_pair, kind, pair, 64, rng) for kind, pair in zip(kinds, pairs, strict=True)]
    as_images = (torch.from_numpy(np.stack(some)).permute(0, 3, 1, 2) for some in (pictures, spoilt))
    real, other = (classifier.read(as_floats(images)) for images in as_images)
    scores.update(real, torch.tensor([mentioned_in_pair(describe_pair(pair, rng)) for pair in pairs]))
    assert min(scores.compute().values()) > 0.97
    assert other.recognisable.float().mean() < 0.1


@pytest.fixture
def small_classifier(tmp_path, monkeypatch):
    """In the place of the project's own, untrained."""
    torch.manual_seed(0)
    save_scene_classifier(
        SceneClassifier(SceneClassifierConfig(num_values=NUM_VALUES, width=4, feature_dim=8)),
        {},
        tmp_path / "two.safetensors",
    )
    monkeypatch.setitem(JUDGES, "two", JUDGES["two"]._replace(classifier=tmp_path / "two.safetensors"))
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path))


def test_a_checkpoint_is_measured_on_scenes_of_two_objects(small_classifier, tmp_path, capsys):
    out = ["--out", str(tmp_path / "report.json")]
    evaluate([str(STARTER_GAN), "--data", "data.level=two", "--num-images", "12", *out])
    report, table = json.loads((tmp_path / "report.json").read_text()), capsys.readouterr().out
    device = "cuda" if torch.cuda.is_available() else "cpu"  # where cgan evaluate measures; devices round otherwise
    pipe, classifier = TextToImage.load(STARTER_GAN).to(device), load_scene_classifier(tmp_path / "two.safetensors")
    wanted = MultiObjectEvaluator("two", classifier, 64, num_images=12)(pipe.generator, pipe.text_encoder)
    assert report["metrics"] == pytest.approx(
        {name: value for name, value in wanted.items() if value == value}, rel=1e-3, abs=1e-3
    )  # no nan
    assert {"two_object_accuracy", "objects_heldout"} < set(report["metrics"]) and "objects_heldout" in table
    assert report["protocol"]["captions"]["heldout"]["num_captions"] == 12 and "12 pictures against 12" in table


def test_the_library_evaluates_by_a_call_that_prints_nothing(small_classifier, capsys):
    heard = []
    found = cgan.evaluate(
        STARTER_GAN, data=["data.level=two"], num_images=8, anchors=True, progress=lambda *counts: heard.append(counts)
    )
    assert heard[-1] == (8, 8) and set(found.anchors) == {"real_of_captions"} and "objects" in found.metrics
    assert found.protocol["seed"] == 1234 and json.loads(json.dumps(found.as_json()))["metrics"] == found.metrics
    assert capsys.readouterr() == ("", "")


def test_real_scenes_of_two_objects_are_measured_beside_a_checkpoint(small_classifier, capsys):
    evaluate([str(STARTER_GAN), "--data", "data.level=two", "--num-images", "8", "--anchors"])
    assert "real of" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([str(STARTER_GAN), "--metrics", "fid,scenes"], "fid is not for data.level=two"),
        (["--images", "drawn"], "give one"),
        ([str(STARTER_GAN), "--num-images", "3"], "at least 8"),
        ([str(STARTER_GAN)], "cgan judge --level two"),
    ],
)
def test_a_mistake_in_measuring_two_objects_is_one_line(arguments, said, tmp_path, monkeypatch):
    monkeypatch.setitem(JUDGES, "two", JUDGES["two"]._replace(classifier=tmp_path / "none"))
    with pytest.raises(UserError, match=said) as error:
        evaluate([*arguments, "--data", "data.level=two"])
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_scene_classifier_of_pairs_is_trained_and_says_what_it_rejects(quick_drawers, tmp_path):
    sizes = ["--num-images", "16", "--images", "256", "--test-images", "16"]
    train_classifier(["--level", "two", *sizes, "--out", str(tmp_path / "judge.safetensors")])
    table = json.loads((tmp_path / "judge.json").read_text())
    assert {f"rejected: {kind}" for kind in OBJECT_KINDS} < set(table)
    reading = load_scene_classifier(tmp_path / "judge.safetensors").read(torch.zeros(2, 3, 64, 64))
    assert reading.values.shape == (2, len(PAIR_ATTRIBUTES))
