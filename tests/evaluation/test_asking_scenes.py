"""The share of questions about scenes that a joint encoder answers right."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cgan.cli.evaluate import main
from cgan.data.scenes.attributes import Scene
from cgan.data.scenes.captions import mentioned_in
from cgan.evaluation import asking
from cgan.evaluation.asking import QUESTIONS, evaluate_asking, question_of, questioned, shares_of
from cgan.interfaces import UserError
from cgan.resources import STARTER_JOINT

FLOOR = 0.97


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path_factory.getbasetemp() / "asking-cache"))


def test_what_a_question_states_is_true_of_the_scene():
    rng, asked = np.random.default_rng(0), set()
    for number in range(200):
        scene = Scene(number % 8, number % 7, number % 2, number % 3, number % 6)
        attribute = list(QUESTIONS)[number % 5]
        question = question_of(attribute, scene, rng)
        stated = mentioned_in(re.sub("how big|small or big|left, in the centre or on the right", "", question))
        assert all(said in (-1, true) for said, true in zip(stated, scene, strict=True)), question
        assert getattr(stated, attribute) == -1, question
        asked.add((attribute, question))
    assert {attribute for attribute, _ in asked} == set(QUESTIONS)


def test_answers_and_doubts_are_counted_as_shares():
    def asker(_, question):
        best = "red" if "colour" in question else "dog"
        return SimpleNamespace(best=best, doubts=["car"] if "car" in question else [])

    counts = questioned(asker, torch.zeros(1), Scene(0, 0, 0, 0, 0), np.random.default_rng(0))
    counts += questioned(asker, torch.zeros(1), Scene(6, 1, 0, 0, 0), np.random.default_rng(0))
    shares = shares_of(counts, 2)
    assert shares["right/colour"] == 0.5 and shares["right/object"] == 0.5 and shares["right/ground"] == 0
    assert shares["right/all"] == pytest.approx(0.2) and shares["doubted/true"] > 0


def test_the_seed_fixes_the_values_and_the_protocol_says_how_they_came(monkeypatch):
    monkeypatch.setattr(asking, "BATCH", 2)
    heard, asker = [], asking.Asker(asking.opened_joint(STARTER_JOINT))
    monkeypatch.setattr(asking, "Asker", lambda joint: asker)  # its captions are encoded once
    report = evaluate_asking(STARTER_JOINT, 3, progress=lambda *numbers: heard.append(numbers))
    assert report.metrics == evaluate_asking(STARTER_JOINT, 3).metrics and heard == [(2, 3), (3, 3)]
    names = {*(f"right/{name}" for name in QUESTIONS), "right/all", "doubted/true", "doubted/false"}
    assert set(report.metrics) == names
    protocol = json.loads(json.dumps(report.protocol))
    assert protocol["scenes"] == {"num_scenes": 3, "seed": 1234, "split": "heldout", "drawing": 1}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--num-images", "0"], "num_images=0: must be at least 1"),
        (["--seed", "-1"], "seed=-1"),
        (["--metrics", "fid"], "--metrics is not used with --questions"),
    ],
)
def test_a_mistake_is_one_line(arguments, said):
    with pytest.raises(UserError, match=said) as error:
        main(["--questions", str(STARTER_JOINT), *arguments])
    assert "\n" not in str(error.value)


def test_no_encoder_of_that_name_is_one_line():
    with pytest.raises(UserError, match="gone.safetensors: no such file"):
        main(["--questions", "gone.safetensors"])


def test_the_command_prints_a_table_or_json_and_writes_the_protocol(tmp_path, capsys):
    main(["--questions", "joint-64.safetensors", "--num-images", "2", "--out", str(tmp_path / "q.json")])
    assert capsys.readouterr().out.startswith("right/object    ")
    written = json.loads((tmp_path / "q.json").read_text())
    main(["--questions", "joint-64.safetensors", "--num-images", "2", "--json"])
    assert json.loads(capsys.readouterr().out) == pytest.approx(written["metrics"])
    assert written["protocol"]["command"].startswith("cgan evaluate --questions joint-64.safetensors")


@pytest.mark.slow
def test_the_shipped_encoder_answers_nearly_all_questions_about_heldout_scenes():
    metrics = evaluate_asking(STARTER_JOINT).metrics
    assert {name: value for name, value in metrics.items() if name.startswith("right/") and value < FLOOR} == {}
    assert metrics["doubted/true"] < 0.01 and metrics["doubted/false"] > 0.95
