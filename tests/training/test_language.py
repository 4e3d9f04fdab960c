"""A training on scenes that are described in Chinese."""

import pytest
from PIL import Image

from cgan import TextToImage, evaluate, load_config, train
from cgan.figures.sheets import CHINESE_CAPTIONS
from cgan.training.gan_run import captions_for_grids
from helpers.runs import TINY


@pytest.mark.slow
def test_scenes_in_chinese_train_sample_and_are_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    config = load_config([*TINY, "data.language=zh", "trainer.images=32", "trainer.sample_every=16", "run_dir=r"])
    train(config)
    pipe = TextToImage.from_pretrained("r")
    assert pipe.unknown_words(["一只狗在草地上", "a dog"]) == ["a", "dog"]
    assert isinstance(pipe("一只狗在草地上"), Image.Image)
    assert captions_for_grids(config, []) == list(CHINESE_CAPTIONS) and list((tmp_path / "r" / "samples").glob("*.png"))
    report = evaluate("r", data=["data.language=zh"], num_images=16, metrics=["scenes"])
    assert 0 <= report.metrics["scene_accuracy"] <= 1


def test_two_objects_in_chinese_are_measured_in_chinese():
    from cgan.evaluation.multi_object import MultiObjectEvaluator
    from cgan.metrics.scenes import load_scene_classifier
    from cgan.resources import PAIR_CLASSIFIER

    classifier = load_scene_classifier(PAIR_CLASSIFIER)
    evaluator = MultiObjectEvaluator("two", classifier, 32, num_images=12, language="zh")
    assert all("\u4e00" <= caption[0] <= "\u9fff" for split in evaluator.captions.values() for caption in split)
    assert evaluator.level.language == "zh"
