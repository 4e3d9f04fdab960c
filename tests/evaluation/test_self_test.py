"""cgan evaluate --self-test: it passes here, and fails where a number, a network or a shape is another one."""

import math

import pytest
import torch

from cgan.cli.evaluate import main
from cgan.evaluation import self_test
from cgan.evaluation.loop import JointNetwork
from cgan.evaluation.self_test import Check
from cgan.interfaces import UserError
from helpers.clip import save_clip


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setattr("cgan.metrics.required_weights.is_cached", lambda name: False)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))


def rows(printed: str) -> dict[str, str]:
    """The last word of each row of the table, by its name."""
    lines = [line.strip() for line in printed.splitlines() if line.strip().endswith(("ok", "DIFFERS", "checked"))]
    return {line.split("  ")[0]: line.split()[-1] for line in lines}


def failing(capsys) -> set[str]:
    with pytest.raises(SystemExit) as ended:
        main(["--self-test"])
    assert ended.value.code == 1
    printed = capsys.readouterr().out
    assert "can't be compared" in printed
    return {name for name, result in rows(printed).items() if result == "DIFFERS"}


def test_this_machine_computes_what_was_shipped(capsys):
    main(["--self-test"])
    printed = capsys.readouterr().out
    found = rows(printed)
    assert set(found.values()) == {"ok", "checked"} and len(found) == 15
    assert "not checked: Inception, torch-fidelity: Inception's weights are not on this machine" in printed


def test_another_root_of_the_same_matrix_is_found(capsys, monkeypatch):
    eigvals = torch.linalg.eigvals
    monkeypatch.setattr(torch.linalg, "eigvals", lambda matrix: eigvals(matrix) * (1 + 1e-3))
    wrong = {"Frechet distance", "Frechet distance, singular", "Frechet distance to itself", "MIFID"}
    assert failing(capsys) == wrong


def test_a_network_with_one_other_weight_and_a_flattened_buffer_are_found(capsys, monkeypatch):
    load = self_test.load_scene_classifier

    def changed():
        classifier = load()
        classifier.features.bias.data[0] += 0.01
        return classifier

    monkeypatch.setattr(self_test, "load_scene_classifier", changed)
    monkeypatch.setattr(JointNetwork, "embed_captions", lambda self, captions: torch.ones(1, 4 * 128))
    assert failing(capsys) == {"scene classifier, pictures", "joint encoder, captions"}


def test_other_pictures_are_found(capsys, monkeypatch):
    pictures = self_test.pictures()
    pictures[3, 1, 40, 40] += 1
    monkeypatch.setattr(self_test, "pictures", lambda: pictures)
    assert "ten pictures, their bytes" in failing(capsys)


@pytest.mark.parametrize("found", [[], [1.0], [1.0, math.nan], [1.0, 2.1], [1.0, 2.0, 3.0]])
def test_too_few_too_many_and_nan_do_not_pass(found):
    assert not Check("x", [1.0, 2.0], found, 1e-3).passed
    assert Check("x", [1.0, 2.0], [1.0, 2.0001], 1e-3).passed


@pytest.mark.slow
def test_inception_and_clip_are_checked_where_their_weights_are(random_inception, tmp_path, monkeypatch):
    *_, inception, clip = self_test.self_test(random_inception, save_clip(tmp_path))
    assert not inception.missing and inception.passed and not clip.missing and clip.passed
    monkeypatch.setattr(self_test.Inception, "forward", lambda self, images: torch.ones(len(images), 2048))
    assert not self_test.of_inception(random_inception).passed


def test_options_without_effect_are_refused():
    with pytest.raises(UserError, match="--seed is not used with --self-test"):
        main(["--self-test", "--seed", "4"])
