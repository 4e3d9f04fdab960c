"""cgan ask: what it prints, and mistakes in one line."""

import json

import numpy as np
import pytest
from PIL import Image

from cgan.cli.ask import main
from cgan.data.scenes.attributes import Scene
from cgan.data.scenes.drawing import draw_scene
from cgan.interfaces import UserError
from cgan.models.joint import JointEncoder
from cgan.resources import STARTER_JOINT

QUESTION = "is the big dog on the left on grass red or blue?"


@pytest.fixture(scope="module")
def joint() -> JointEncoder:
    return JointEncoder.load(STARTER_JOINT)


@pytest.fixture(autouse=True)
def picture(tmp_path, monkeypatch, joint) -> None:
    """A red dog in the current folder; the joint encoder is loaded once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cgan.retrieval.asking.opened_joint", lambda path: joint)
    Image.fromarray(draw_scene(Scene(0, 0, 1, 0, 0), 64, np.random.default_rng(0))).save("dog.png")


def test_the_answer_is_the_first_line(capsys):
    main(["dog.png", QUESTION])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "red" and lines[1].split() == ["rank", "probability", "answer"]
    assert lines[2].split()[::2] == ["1", "red"] and lines[3].split()[::2] == ["2", "blue"] and len(lines) == 4


def test_json_holds_everything(capsys):
    main(["dog.png", QUESTION, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["picture"] == "dog.png" and found["question"] == QUESTION and found["asks"] == "colour"
    assert found["given"] == {"object": "dog", "size": "big", "position": "left", "ground": "grass"}
    assert found["answers"][0]["caption"] == "a big red dog on the left on grass" and found["doubts"] == []


def test_given_answers_are_split_at_commas_and_doubts_are_warnings(capsys):
    main(["dog.png", "what colour is the big dog on the right on grass?", "--among", "blue, red,red,", "--top", "1"])
    said = capsys.readouterr()
    assert said.out.startswith("red\n") and len(said.out.splitlines()) == 3
    assert said.err == "warning: the question says 'right', but the picture seems to show 'left'\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gone.png", QUESTION], "gone.png: missing"),
        ([".", QUESTION], "missing"),
        (["text.png", QUESTION], "text.png: damaged or not a picture"),
        (["dog.png"], "required: question"),
        (["dog.png", ""], "the question is empty"),
        (["dog.png", "wherefore art thou?"], "can't tell what is asked for"),
        (["dog.png", QUESTION, "--among", ""], "--among: give at least two different answers"),
        (["dog.png", QUESTION, "--among", "red,red"], "--among: give at least two different answers"),
        (["dog.png", QUESTION, "--among", "red,\u7ea2"], "unknown words"),
        (["dog.png", QUESTION, "--top", "0"], "--top=0: must be at least 1"),
        (["dog.png", QUESTION, "--top", "x"], "--top: invalid int value"),
    ],
)
def test_a_mistake_is_one_line(arguments, said, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UserError, match=said) as error:
        main(arguments)
    assert "\n" not in str(error.value)


def test_the_encoder_is_found_by_its_name_or_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr("cgan.retrieval.asking.opened_joint", JointEncoder.load)
    main(["dog.png", QUESTION, "--checkpoint", "joint-64.safetensors"])
    assert capsys.readouterr().out.startswith("red\n")
    with pytest.raises(UserError, match="gone.safetensors: no such file"):
        main(["dog.png", QUESTION, "--checkpoint", "gone.safetensors"])
