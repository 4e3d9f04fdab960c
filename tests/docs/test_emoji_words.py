"""examples/emoji_words.py counts the pictures whose own name comes first."""

import importlib.util
import json

import pytest
import torch
from PIL import Image

from cgan.interfaces import UserError
from helpers import ROOT

NAMES = [["dog face"], ["cat face", "cat"], ["red heart"], ["cat", "tiger"]]


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("emoji_words", ROOT / "examples" / "emoji_words.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_word_counts_where_its_own_name_fits_best(example):
    scores = torch.eye(4)
    assert example.precision(scores, NAMES) == 1
    scores[0, 2] = 2  # the picture of the first word is nearer to a heart
    assert example.precision(scores, NAMES) == 0.75


def test_words_that_share_a_meaning_are_not_held_against_each_other(example):
    scores = torch.eye(4)
    scores[1, 3] = scores[3, 1] = 2
    assert example.precision(scores, NAMES) == 1


def test_words_are_read_with_their_meanings(example, tmp_path):
    row = {"text": "puppy", "names": ["dog face"], "file_names": []}
    (tmp_path / "held-out-words.jsonl").write_text(json.dumps(row) + "\n")
    assert example.read_words(tmp_path) == [("puppy", ["dog face"])]


def test_a_folder_without_words_is_one_line(example, tmp_path):
    with pytest.raises(UserError, match="held-out-words.jsonl: no such file"):
        example.read_words(tmp_path)


def test_the_best_of_a_words_names_is_compared(example):
    class Judge:
        """Embeds images and captions as unit vectors of what they show and say."""

        resolution = 2

        def embed_images(self, images):
            return torch.eye(3)[images[:, 0, 0, 0].long()]

        def embed_captions(self, captions):
            return torch.stack([torch.eye(3)[["dog", "cat", "heart"].index(name)] for name in captions])

    images = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(-1, 3, 2, 2)
    found = example.scores(Judge(), images, [["heart", "dog"], ["cat"]])
    assert found.tolist() == [[1, 0], [0, 1]]


def test_a_held_out_name_counts_where_it_fits_best_of_all(example):
    assert example.precision_among_all(torch.tensor([[0.9, 0.1], [0.2, 0.3], [0.8, 0.7]]), [0, 1, 1]) == pytest.approx(
        2 / 3
    )


def test_held_out_pictures_are_read_with_their_names(example, tmp_path):
    (tmp_path / "heldout").mkdir()
    Image.new("RGB", (8, 8), "red").save(tmp_path / "heldout" / "1f600.png")
    (tmp_path / "heldout" / "metadata.jsonl").write_text(json.dumps({"file_name": "1f600.png", "name": "grin"}) + "\n")
    files, names = example.read_heldout(tmp_path)
    assert names == ["grin"] and example.read_pictures(files, 4)[0, :, 0, 0].tolist() == [1, -1, -1]
