"""A generator that repeats its training pictures is warned of, in a training and by cgan evaluate."""

import json
from pathlib import Path

import pytest
from PIL import Image

from cgan.cli.evaluate import main
from cgan.data.scenes.dataset import Scenes
from cgan.evaluation.images import EvalSet, Networks, PictureEvaluator
from cgan.evaluation.loop import of_dataset
from cgan.evaluation.memorization import Training, diversity_of
from cgan.interfaces import TextEncoder, UserError
from cgan.metrics.features import FeatureNetwork
from cgan.models.generators import build_generator
from cgan.models.generators.base import Generator, GeneratorConfig
from cgan.models.text.lstm import LSTMConfig, LSTMTextEncoder, Vocabulary
from cgan.training.callbacks.dataset_evaluator import dataset_evaluator


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path / "cache"))


def folder_of(path: Path, scenes: Scenes) -> Path:
    path.mkdir()
    for i, picture in enumerate(scenes.pictures):
        Image.fromarray(picture).save(path / f"{i:03d}.png")
        (path / f"{i:03d}.txt").write_text(scenes.captions_of(i)[0])
    return path


class Corners(FeatureNetwork):
    """The pixels of a corner of pictures."""

    name, num_features = "corners", 48

    def forward(self, images):
        return images[:, :, :4, :4].flatten(1).float()


@pytest.mark.parametrize("test_images", [0, 13])
def test_a_folder_of_training_pictures_is_one_of_copies(tmp_path, test_images, capsys):
    training = folder_of(tmp_path / "training", Scenes(40, 32))
    data = ["--data", "data.source=folder", f"data.root={training}", "data.resolution=32"]
    data += [f"data.test_images={test_images}", "--metrics", "memorization,spectrum", "--json"]
    main(["--images", str(training), *data])
    printed = capsys.readouterr()
    values = json.loads(printed.out)
    assert values["copies"] >= 0.65 and values["pixels/training_distance"] == 0  # of test pictures there is no copy
    assert printed.err.count("warning: the model copies training pictures") == 1
    main(["--images", str(folder_of(tmp_path / "new", Scenes(40, 32, seed=7))), *data])
    printed = capsys.readouterr()
    assert json.loads(printed.out)["copies"] < 0.25 and "warning" not in printed.err


def test_pictures_of_another_size_have_no_spectrum_and_that_is_told_when_asked(tmp_path, capsys):
    small, large = (folder_of(tmp_path / str(size), Scenes(10, size)) for size in (32, 64))
    main(["--images", str(small), "--reference", str(large), "--metrics", "spectrum,memorization", "--json"])
    printed = capsys.readouterr()
    assert set(json.loads(printed.out)) == {"copies", "pixels/training_distance"}
    assert "without spectrum: the pictures are 32x32, the real ones 64x64" in printed.err


def test_scenes_have_no_training_pictures_to_copy(tmp_path, capsys):
    drawn = folder_of(tmp_path / "drawn", Scenes(10, 64))
    with pytest.raises(UserError, match="no metric can be computed"):
        main(["--images", str(drawn), "--metrics", "memorization", "--num-images", "10"])
    assert "without memorization: scenes are drawn anew" in capsys.readouterr().err


def test_an_evaluator_measures_copies_by_pixels_and_by_a_network():
    scenes = of_dataset(Scenes(40, 32))
    training = Training(scenes, held_out=False)
    evaluator = PictureEvaluator(EvalSet(None, scenes, {}), Networks(Corners()), {"memorization"}, training=training)
    values = evaluator.of(of_dataset(Scenes(40, 32, seed=3)))
    assert set(values) == {"copies", "pixels/training_distance", "corners/training_distance"}
    assert evaluator.of(scenes)["copies"] > 0.9


def tiny_generator() -> tuple[Generator, TextEncoder]:
    """A generator of 32 px and a text encoder that have learned nothing."""
    config = GeneratorConfig(noise_dim=4, style_dim=4, width=4, max_channels=4)
    encoder = LSTMTextEncoder(LSTMConfig(dim=8, embedding_dim=4), Vocabulary(["dog", "cat"]))
    return build_generator(config, 32, 8).eval(), encoder.eval()


def test_a_generator_without_noise_has_no_diversity():
    given = *tiny_generator(), ["a dog", "a cat"], of_dataset(Scenes(20, 32)), None, 0
    assert diversity_of(*given, truncation=0.0) == {"pixels/seed_diversity": pytest.approx(0, abs=1e-4)}
    assert diversity_of(*given)["pixels/seed_diversity"] > 1e-3


def test_a_data_set_of_ones_own_is_measured_without_a_network():
    evaluator = dataset_evaluator(Scenes(20, 32), ["spectrum", "memorization"])
    values = evaluator.evaluate(*tiny_generator(), lambda done, total: None)
    assert set(values) == {"lattice", "spectrum", "copies", "pixels/training_distance", "pixels/seed_diversity"}
