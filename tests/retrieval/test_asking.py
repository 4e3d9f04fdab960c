"""Questions about pictures, by the shipped joint encoder and by tiny ones."""

import json
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cgan import ask
from cgan.data.scenes.attributes import ATTRIBUTES, Scene
from cgan.data.scenes.drawing import draw_scene
from cgan.interfaces import UserError
from cgan.models.encoders.resnet import ImageEncoderConfig
from cgan.models.joint import JointConfig, JointEncoder
from cgan.models.text.lstm import LSTMConfig, Vocabulary
from cgan.resources import STARTER_JOINT
from cgan.retrieval.asking import Asker, image_vector
from cgan.retrieval.lexicon import Lexicon, caption_of, plural
from cgan.retrieval.questions import QUESTION_WORDS, understand, unknown_in

RED_DOG = Scene(0, 0, 1, 0, 0)  # big, on the left, on grass


def pixels_of(scene: Scene, seed: int = 0) -> np.ndarray:
    return draw_scene(scene, 64, np.random.default_rng(seed))


def tiny_joint(*captions: str, **settings) -> JointEncoder:
    torch.manual_seed(0)
    image, text = ImageEncoderConfig(width=4, embedding_dim=16), LSTMConfig(dim=16, embedding_dim=8)
    config = JointConfig(image=image, text=text, picture_weight=0, caption_weight=0, **settings)
    return JointEncoder(config, Vocabulary.of(captions), resolution=32).eval()


@pytest.fixture(scope="module")
def asker() -> Asker:
    return Asker(JointEncoder.load(STARTER_JOINT))


@pytest.fixture(scope="module")
def lexicon(asker) -> Lexicon:
    return asker.lexicon


def best(asker: Asker, scene: Scene, question: str, among=None) -> str:
    return asker(image_vector(asker.joint, Image.fromarray(pixels_of(scene))), question, among).best


# ------------------------------------------------------------------------------------------------ what is asked


@pytest.mark.parametrize(
    ("question", "asks", "given"),
    [
        ("What colour is the dog?", "colour", {"object": "dog"}),
        ("which color is it", "colour", {}),
        ("what is the colour of the cat on the left", "colour", {"object": "cat", "position": "left"}),
        ("What's this?", "object", {}),
        ("what is on the grass?", "object", {"ground": "grass"}),
        ("which object is on the right on green grass", "object", {"position": "right", "ground": "grass"}),
        ("is it a dog or a cat", "object", {}),
        ("is the red dog on snow or on sand?", "ground", {"object": "dog", "colour": "red"}),
        ("where are the dogs?", "ground", {"object": "dog"}),
        ("what is the big blue ball lying on?", "ground", {"object": "ball", "colour": "blue", "size": "big"}),
        ("which side is the car on?", "position", {"object": "car"}),
        ("where in the picture is the car?", "position", {"object": "car"}),
        ("is the car in the middle or to the right?", "position", {"object": "car"}),
        ("how large is the white bird at night?", "size", {"object": "bird", "colour": "white", "ground": "night sky"}),
        ("is it big or small", "size", {}),
    ],
)  # fmt: skip
def test_a_question_is_understood(question, asks, given, lexicon):
    understood = understand(question, lexicon)
    assert (understood.asks, {name: value.name for name, value in understood.given.items()}) == (asks, given)


def test_answers_are_those_that_the_question_offers(lexicon):
    questions = "is it a cat or a dog?", "is it red, blue or green?", "which animal is it?", "how big is it?"
    offered = [[candidate.answer for candidate in understand(text, lexicon).candidates] for text in questions]
    assert sorted(offered[0]) == ["cat", "dog"] and sorted(offered[1]) == ["blue", "green", "red"]
    assert sorted(offered[2]) == ["bird", "cat", "dog", "fish"] and offered[3] == ["small", "big"]


def test_without_more_the_answers_are_those_of_the_training_captions(lexicon):
    found = {name: {value.name for value in values} for name, values in lexicon.values.items()}
    assert found == {name: set(values) for name, values in ATTRIBUTES.items()} | {"number": set()}


def test_objects_of_a_data_set_of_its_own_are_the_words_that_name_nothing_else():
    joint = tiny_joint("a red fern on grass", "a small moss in the forest", "two ferns and a lichen", "a lichen")
    values = Lexicon(joint).values
    assert {value.name for value in values["object"]} == {"fern", "moss", "ferns", "lichen"}
    assert [value.name for value in values["ground"]] == ["grass", "forest"]
    assert [value.name for value in values["colour"]] == ["red"]


def test_words_that_matter_and_are_unknown_are_found(lexicon):
    assert unknown_in("What colour is the corgi standing on the left?", lexicon) == ["corgi"]
    assert not unknown_in("where are the dogs in this picture?", lexicon) and "dog" not in QUESTION_WORDS


def test_an_answer_is_taken_as_what_it_means(lexicon):
    for answers, asks in (("red,blue", "colour"), ("on grass,water", "ground"), ("a dog,a red cat", "answer")):
        assert understand("hm", lexicon, answers.split(",")).asks == asks
    assert understand("where is it", lexicon, ["beach", "snow"]).candidates[0].phrases == ("on sand",)


@pytest.mark.parametrize(
    ("question", "among", "said"),
    [
        ("", None, "the question is empty"),
        (" \n?! ", None, "the question is empty"),
        ("\x00\x1b", ["red", "blue"], "the question is empty"),
        ("how come?", None, "can't tell what is asked for"),
        ("dog", None, "can't tell what is asked for"),
        ("狗是什么颜色", None, "can't tell what is asked for"),
        ("what " * 300, None, "at most 1,000"),
        ("how many dogs are there?", None, "name no number"),
        ("what colour is it?", [], "at least two different answers"),
        ("what colour is it?", ["", " "], "at least two different answers"),
        ("what colour is it?", ["red", "Red ", ""], "at least two different answers"),
        ("what colour is it?", ["red", "crimson"], "unknown words .*: crimson"),
        ("what colour is it?", ["red", "..."], r"unknown words .*: \.\.\."),
        ("where is it?", ["beach", "sand"], "'beach' and 'sand' mean the same"),
    ],
)
def test_a_mistake_is_one_line(question, among, said, lexicon):
    with pytest.raises(UserError, match=said) as error:
        understand(question, lexicon, among)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


# ------------------------------------------------------------------------------------------------ captions


def test_a_caption_says_what_is_given():
    slots = {"size": "small", "object": "dog", "position": "on the left", "ground": "on grass", "colour": "orange"}
    assert caption_of(slots) == "a small orange dog on the left on grass"
    assert caption_of({"colour": "orange"}, "thing") == "an orange thing"
    assert caption_of({"number": "two", "object": "bus"}) == "two bus"
    assert caption_of({"number": "two", "object": "dog", "ground": "at night"}) == "two dogs at night"
    assert caption_of({"number": "one", "object": "dog"}) == "one dog"
    assert [plural(noun) for noun in ("fish", "bench", "car")] == ["fish", "benches", "cars"]


def test_an_answer_gets_a_caption_for_each_way_of_what_is_left_open(asker):
    rows = asker.captions_of(understand("what colour is the small dog?", asker.lexicon))
    assert len(rows) == 8 and all(len(set(row)) == 3 * 6 for row in rows)
    assert all(" small red dog " in caption for caption in rows[0])


def test_attributes_are_left_out_while_captions_are_too_many(asker, monkeypatch):
    question = understand("what colour is it?", asker.lexicon)
    monkeypatch.setattr(asker, "most_captions", 300)  # 8 colours x 2 sizes x 3 positions x 6 grounds are 288
    assert {len(row) for row in asker.captions_of(question)} == {2 * 3 * 6}
    monkeypatch.setattr(asker, "most_captions", 1)
    assert {len(row) for row in asker.captions_of(question)} == {1}


def test_scores_are_marginals_over_all_captions(asker):
    image = image_vector(asker.joint, Image.fromarray(pixels_of(RED_DOG)))
    answers = asker(image, "is the dog on grass small or big?").answers
    weights = {}
    for size in ("small", "big"):
        names = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
        places = ("on the left", "in the centre", "on the right")
        captions = [f"a {size} {colour} dog {place} on grass" for colour, place in product(names, places)]
        cosines = (asker.joint.embed_captions(captions) @ image[0]).tolist()
        weights[size] = sum(math.exp(cosine * math.exp(asker.joint.log_scale.item())) for cosine in cosines)
    for answer in answers:
        assert answer.probability == pytest.approx(weights[answer.answer] / sum(weights.values()), rel=1e-3)
        expected = float(asker.joint.embed_captions([answer.caption])[0] @ image[0])
        assert answer.similarity == pytest.approx(expected, abs=1e-4)


def test_coattention_counts_in_an_answer():
    joint = tiny_joint("a red blue dog cat on grass", coattention_weight=1.0)
    image = torch.randn(1, 3, 32, 32)
    answer = Asker(joint)(joint.image_vectors(image), "is it red or blue?").answers[0]
    assert answer.similarity == pytest.approx(float(joint.scores(image, [answer.caption])), abs=1e-4)


# ------------------------------------------------------------------------------------------------ answers


@pytest.mark.parametrize(
    ("question", "answer"),
    [("what colour is the dog?", "red"), ("what is on the grass?", "dog"), ("where is the dog?", "grass"),
     ("which side is it on?", "left"), ("how big is the red dog?", "big"), ("is it a house or a car or a dog?", "dog")],
)  # fmt: skip
def test_a_scene_answers_for_itself(question, answer, asker):
    assert best(asker, RED_DOG, question) == answer


def test_answers_may_be_given(asker):
    assert best(asker, RED_DOG, "what colour is it?", ["Blue", "red", "red"]) == "red"
    assert best(asker, RED_DOG, "what do you see?", ["a red dog", "a blue cat"]) == "a red dog"


def test_what_the_question_states_wrongly_is_doubted_and_what_is_true_is_not(asker):
    image = image_vector(asker.joint, Image.fromarray(pixels_of(RED_DOG)))
    assert asker(image, "what colour is the big dog on grass?").doubts == []
    doubts = asker(image, "what colour is the big car on snow?").doubts
    assert doubts == ["the question says 'car', but the picture seems to show 'dog'",
                      "the question says 'snow', but the picture seems to show 'grass'"]  # fmt: skip


def test_probabilities_sum_to_one_and_fall(asker):
    image = image_vector(asker.joint, Image.fromarray(pixels_of(RED_DOG)))
    answers = asker(image, "what is it?")
    probabilities = [answer.probability for answer in answers.answers]
    assert sum(probabilities) == pytest.approx(1, abs=1e-5) and probabilities == sorted(probabilities, reverse=True)
    assert json.loads(json.dumps(answers.as_json()))["answers"][0]["answer"] == "dog"


# ------------------------------------------------------------------------------------------------ pictures of any kind


@pytest.fixture
def loaded(asker, monkeypatch) -> None:
    """The joint encoder is loaded once."""
    monkeypatch.setattr("cgan.retrieval.asking.opened_joint", lambda path: asker.joint)


REST = "the big red dog on the left on grass"  # with all of it said there are few captions


def asked(picture: Path | Image.Image, offered: str = "red or blue", **options) -> str:
    return ask(picture, f"is {REST} {offered}?", checkpoint=STARTER_JOINT, **options).best


def test_a_palette_gif_and_the_first_frame_of_an_animated_one_are_read(tmp_path, loaded):
    red, blue = (Image.fromarray(pixels_of(RED_DOG._replace(colour=colour))) for colour in (0, 4))
    red.quantize(32).save(tmp_path / "palette.gif")
    blue.save(tmp_path / "animated.gif", save_all=True, append_images=[red, red])
    assert (asked(tmp_path / "palette.gif"), asked(tmp_path / "animated.gif")) == ("red", "blue")


def test_a_rotated_picture_is_seen_upright(tmp_path, loaded):
    picture, exif = Image.fromarray(pixels_of(RED_DOG)), Image.Exif()
    exif[274] = 3  # upside down
    picture.rotate(180).save(tmp_path / "turned.png", exif=exif)
    picture.rotate(180).save(tmp_path / "as it lies.png")
    found = [asked(tmp_path / name, "left or right") for name in ("turned.png", "as it lies.png")]
    assert found == ["left", "right"]


def test_sixteen_bits_are_the_same_as_eight(tmp_path, loaded):
    grey = Image.fromarray(pixels_of(RED_DOG)).convert("L")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(tmp_path / "deep.png")
    question = f"is {REST} a dog or a cat?"
    found, expected = (ask(picture, question, checkpoint=STARTER_JOINT) for picture in (tmp_path / "deep.png", grey))
    assert [a[1] for a in found.answers] == pytest.approx([a[1] for a in expected.answers], abs=1e-4)


@pytest.mark.slow
def test_a_picture_of_thirty_megabytes_is_read(tmp_path, loaded):
    picture = Image.fromarray(pixels_of(RED_DOG)).resize((3200, 3200), Image.Resampling.NEAREST)
    picture.save(tmp_path / "large.png", compress_level=0)
    assert (tmp_path / "large.png").stat().st_size > 30e6 and asked(tmp_path / "large.png") == "red"


def test_a_picture_that_cannot_be_read_is_one_line(tmp_path, loaded):
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    for name, said in (("gone.png", "missing"), ("", "missing"), ("text.png", "damaged"), ("empty.png", "damaged")):
        with pytest.raises(UserError, match=f"{said}.*give another picture") as error:
            asked(tmp_path / name)
        assert "\n" not in str(error.value)


def test_a_picture_of_pillow_may_be_transparent(loaded):
    picture = Image.fromarray(pixels_of(RED_DOG)).convert("RGBA")
    assert asked(picture) == "red"


def test_what_was_not_understood_is_reported(loaded):
    heard, picture = [], Image.fromarray(pixels_of(RED_DOG))
    asked(picture, "corgi red or blue", report=heard.append)
    assert heard == ["unknown word (not in the training captions): 'corgi'"]


def test_top_limits_the_answers_and_not_the_probabilities(loaded):
    question = f"is {REST} red, green or blue?"
    found = ask(Image.fromarray(pixels_of(RED_DOG)), question, top=2, checkpoint=STARTER_JOINT)
    assert len(found.answers) == 2 and sum(answer.probability for answer in found.answers) < 1
    with pytest.raises(UserError, match="--top=0"):
        ask("gone.png", "what is it?", top=0)
