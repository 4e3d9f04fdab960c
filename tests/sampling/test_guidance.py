import json

import numpy as np
import pytest
import torch

from cgan.benchmarks.guidance import AMOUNTS, best_of, ways_of
from cgan.cli.benchmark import main
from cgan.data.scenes.attributes import COLOURS, GROUNDS, OBJECTS
from cgan.interfaces import TextFeatures, UserError
from cgan.metrics.scenes import load_scene_classifier
from cgan.models.joint import JointEncoder
from cgan.resources import STARTER_GAN
from cgan.resources import STARTER_JOINT as JOINT
from cgan.sampling.guidance import away_from


def features(sentence: torch.Tensor) -> TextFeatures:
    return TextFeatures(sentence, sentence[:, None], torch.ones(len(sentence), 1, dtype=torch.bool))


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one, other, dim=0))


def test_a_sentence_turns_away_from_the_negative_one_the_more_the_stronger_and_keeps_its_length():
    torch.manual_seed(0)
    sentence, negative = torch.randn(1, 8) * 3, torch.randn(8)
    moved = [away_from(features(sentence), negative, strength).sentence[0] for strength in (0.0, 0.5, 2.0)]
    nearness = [cosine(one, negative) for one in moved]
    assert nearness[0] > nearness[1] > nearness[2] and torch.allclose(moved[0], sentence[0], atol=1e-6)
    assert all(float(one.norm()) == pytest.approx(float(sentence.norm())) for one in moved)


def test_the_own_caption_as_negative_one_changes_nothing():
    sentence = torch.randn(1, 8)
    assert torch.allclose(away_from(features(sentence), sentence[0] * 5, 3.0).sentence, sentence, atol=1e-5)


def test_a_pipe_that_pushes_draws_the_pushed_sentence_and_leaves_the_other_pipe_alone(pipe):
    noise, negative = pipe.noise([3]), pipe.encode(["snow"]).sentence[0]
    plain, wanted = pipe.sample(["a dog"], [3]), pipe.generate(noise, away_from(pipe.encode(["a dog"]), negative, 0.7))
    assert (np.asarray(pipe("a dog", seed=3, negative="snow", guidance=0.7)) == wanted[0]).all()
    assert (pipe.away_from("snow", 0.7).sample(["a dog"], [3]) == wanted).all() and (wanted != plain).any()
    assert (pipe.sample(["a dog"], [3]) == plain).all()


@pytest.mark.parametrize(
    ("negative", "guidance"), [("", 0.5), (" ", 0.5), ("snow", -1.0), ("snow", float("nan")), ("snow", 1e30)]
)
def test_nonsense_to_push_away_from_is_one_line(pipe, negative, guidance):
    with pytest.raises(UserError, match="negative caption is empty|guidance=.* must be from 0 to 100") as error:
        pipe("a dog", negative=negative, guidance=guidance)
    assert "\n" not in str(error.value)


def test_pushed_away_from_snow_the_scene_classifier_sees_hardly_any(pipe):
    captions, snow = [f"a {colour} {thing}" for colour in COLOURS for thing in OBJECTS], GROUNDS.index("snow")
    drawn = (p.sample(captions, list(range(64)), batch_size=32) for p in (pipe, pipe.away_from("snow", 1.0)))
    plain, pushed = (
        load_scene_classifier().read(torch.from_numpy(x).permute(0, 3, 1, 2) / 127.5 - 1).values for x in drawn
    )
    assert (pushed[:, -1] == snow).sum() < (plain[:, -1] == snow).sum() / 2


@torch.no_grad()
def test_ways_of_no_effect_draw_what_the_generator_draws(pipe):
    captions, noise = ["a dog on grass", "a red car"], torch.randn(2, pipe.generator.config.noise_dim)
    plain = pipe.generator(noise, pipe.text_encoder(captions))
    neutral = {("truncation", 1.0), ("best of", 1), ("away from the mean", 0.0)}
    ways = [
        draw for technique, amount, draw in ways_of(pipe, JointEncoder.load(JOINT)) if (technique, amount) in neutral
    ]
    assert len(ways) == 3 and all(torch.allclose(draw(captions, noise), plain, atol=1e-5) for draw in ways)


@torch.no_grad()
def test_the_best_of_several_is_nearer_to_its_caption(pipe):
    joint, captions = JointEncoder.load(JOINT), ["a small blue cat on snow"] * 4
    noise = torch.randn(4, pipe.generator.config.noise_dim, generator=torch.Generator().manual_seed(0))
    one, four = (joint.scores(best_of(pipe, joint, num, captions, noise), captions).diagonal() for num in (1, 4))
    assert (four >= one).all() and (four > one).any()


def test_too_few_pictures_are_one_line():
    with pytest.raises(UserError, match="at least 8"):
        main(["guidance", str(STARTER_GAN), "--num-images", "2"])


@pytest.mark.slow
def test_curves_of_all_techniques_are_written(tmp_path):
    main(["guidance", str(STARTER_GAN), "--num-images", "16", "--out", str(tmp_path)])
    points = json.loads((tmp_path / "guidance.json").read_text())["points"]
    assert [(p["technique"], p["amount"]) for p in points] == [(t, a) for t in AMOUNTS for a in AMOUNTS[t]]
    variety = [p["diversity"] for p in points if p["technique"] == "truncation"]
    assert variety[0] < variety[-1] and np.isfinite(variety).all()
    assert (tmp_path / "guidance.png").is_file() and "best of" in (tmp_path / "table.md").read_text()
