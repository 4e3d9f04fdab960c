"""What the page offers to click on, and the HTML of it."""

import json
import re

import pytest

from cgan.data.scenes.captions import mentioned_in
from cgan.demo.backend import Backend
from cgan.demo.browser import Target, answer_bars, chips, picture_chips
from cgan.demo.examples import (
    EDITS,
    EMOJI_CAPTIONS,
    PAIR_CAPTIONS,
    QUESTIONS,
    as_data_url,
    caption_pairs,
    captions_for,
    picture_of,
    title,
)
from cgan.errors import UserError
from cgan.figures.sheets import CAPTIONS, CHINESE_CAPTIONS
from cgan.resources import shipped_weights
from cgan.retrieval.asking import Answer, Answers
from helpers import ROOT

STARTER, TWO = "assets/scenes-64.safetensors", "assets/scenes-two-64.safetensors"
EMOJI = "assets/emoji-128.safetensors"


def test_examples_are_of_words_that_the_weights_know(tmp_path):
    backend = Backend({label: shipped_weights(label) for label in (STARTER, TWO, EMOJI)}, tmp_path)
    assert backend.captions(STARTER) == CAPTIONS and backend.captions(TWO) == PAIR_CAPTIONS
    assert backend.captions(EMOJI) == EMOJI_CAPTIONS
    assert captions_for(lambda captions: [] if list(captions) == list(CHINESE_CAPTIONS) else ["a"]) == CHINESE_CAPTIONS
    assert captions_for(lambda captions: ["a"]) == ()
    assert caption_pairs(CAPTIONS)[1] == CAPTIONS[2:4] and caption_pairs(()) == []


def test_runs_and_starter_weights_have_names_to_read():
    assert title("birds/last.ckpt") == "Run birds, newest checkpoint" and title("birds/best.ckpt").endswith(
        "best checkpoint"
    )
    assert (
        title(TWO) == "Scenes with two objects (starter weights)"
        and title("birds/model.safetensors") == "birds/model.safetensors"
    )
    assert all((ROOT / label).is_file() for label in (STARTER, TWO, EMOJI)) and title(EMOJI).startswith("Emoji")


def test_every_edit_changes_what_its_picture_shows():
    for scene, caption in EDITS:
        asked = [value for value in mentioned_in(caption) if value >= 0]
        shown = mentioned_in(f"a {scene[2]} {scene[1]} {scene[0]} on the {scene[3]}, {scene[4]}")
        assert asked and any(a >= 0 and a != b for a, b in zip(mentioned_in(caption), shown, strict=True))


@pytest.mark.parametrize("example, best", list(zip(QUESTIONS, ("blue", "snow", "right", "car", "big"), strict=True)))
def test_every_question_is_answered_right(backend, example, best):
    assert backend.ask(STARTER, as_data_url(picture_of(example.scene)), example.text)[0].best == best


def test_weights_of_emoji_say_in_one_line_why_they_neither_edit_nor_answer(tmp_path):
    backend = Backend({EMOJI: shipped_weights(EMOJI)}, tmp_path)
    assert not backend.can_edit(EMOJI) and not backend.can_ask(EMOJI)
    with pytest.raises(UserError, match="^Emoji .*come without a joint encoder"):
        backend.ask(EMOJI, as_data_url(picture_of(EDITS[0].scene)), "What colour is the dog?")


def test_an_example_says_what_it_fills_in_and_presses_whatever_it_holds():
    text = """a <b>"dog"</b> & 'cat'"""
    found = chips([(text, {"caption": text})], Target("sample", "pictures"))
    action = re.search('data-example="([^"]*)"', found)[1].replace("&quot;", '"').replace("&#x27;", "'")
    action = json.loads(action.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert action == {"fields": {"caption": text}, "press": "sample", "result": "pictures"} and "<b>" not in found
    assert chips([], Target("a", "b")) == picture_chips([], "a", "b", Target("c", "d")) == ""
    assert picture_chips(EDITS, "a", "b", Target("c", "d")).count("data:image/png;base64,") == len(EDITS)


def test_answers_are_shown_as_text_and_bars():
    found = answer_bars(Answers("?", "answer", {}, [Answer("<i>", 0.75, 1.0, ""), Answer("red", 0.25, 0.5, "")], []))
    assert "<i>" not in found and found.count("&lt;i&gt;") == 2 and "width: 75.0%" in found and "25.0 %" in found
