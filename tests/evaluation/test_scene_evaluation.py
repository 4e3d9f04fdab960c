import json

import numpy as np
import pytest
import torch

from cgan.data.scenes.attributes import Scene, sample_scene
from cgan.data.scenes.captions import mentioned_in
from cgan.data.scenes.corruptions import KINDS, slightly_changed, spoil
from cgan.data.scenes.drawing import draw_scene
from cgan.evaluation.loop import JointNetwork
from cgan.evaluation.scenes import SceneEvaluator, captions_of, contradicted_r_precision, contradicting, scene_of
from cgan.interfaces import UserError
from cgan.metrics.distances import frechet_distance
from cgan.metrics.scenes import IntraCaptionDiversity, Reading, SceneAccuracy, load_scene_classifier
from cgan.models.generators import build_generator
from cgan.models.generators.base import GeneratorConfig
from cgan.models.generators.modulated import ModulatedGenerator
from cgan.models.joint import JointEncoder
from cgan.models.text.lstm import LSTMConfig, LSTMTextEncoder, Vocabulary
from cgan.resources import STARTER_JOINT
from helpers.pictures import as_images


@pytest.fixture(scope="module")
def classifier():
    return load_scene_classifier()


@pytest.mark.slow
def test_the_scene_classifier_reads_real_scenes_above_99_percent(classifier):
    rng = np.random.default_rng(5)
    scenes = [sample_scene(rng, ("seen", "heldout")[i % 4 == 0]) for i in range(1000)]
    reading = classifier.read(as_images([draw_scene(scene, 64, rng) for scene in scenes]))
    assert float(((reading.values == torch.tensor(scenes)).all(dim=1) & reading.recognisable).float().mean()) > 0.99


@pytest.mark.parametrize("kind", KINDS)
def test_the_scene_classifier_rejects_pictures_in_which_nobody_knows_the_object(classifier, kind):
    rng = np.random.default_rng(6)
    reading = classifier.read(as_images([spoil(kind, sample_scene(rng, "seen"), 64, rng) for _ in range(100)]))
    tolerated = 0.4 if kind == "chimera" else 0.1  # half an object may be enough to know it
    assert float(reading.recognisable.float().mean()) < tolerated


def test_the_scene_classifier_reads_larger_pictures_as_well(classifier):
    rng = np.random.default_rng(7)
    scenes = [sample_scene(rng, "seen") for _ in range(100)]
    reading = classifier.read(as_images([draw_scene(scene, 128, rng) for scene in scenes]))
    assert float((reading.values == torch.tensor(scenes)).all(dim=1).float().mean()) > 0.97


def test_slight_changes_are_slight_and_random():
    images = as_images([draw_scene(Scene(0, 0, 1, 1, 0), 64, np.random.default_rng(0))] * 8)
    changed = slightly_changed(images, torch.Generator().manual_seed(0))
    assert 0.005 < (changed - images).abs().mean() < 0.15 and changed.std(dim=0).mean() > 0.01


def test_accuracy_counts_recognisable_pictures_with_every_mentioned_attribute_right():
    values = torch.tensor([[1, 2, 0, 1, 3]] * 4)
    mentioned = torch.tensor([[1, 2, 0, 1, 3], [1, -1, -1, -1, 3], [1, 2, 0, 1, 4], [1, 2, 0, 1, 3]])
    accuracy = SceneAccuracy()
    accuracy.update(Reading(values, torch.tensor([True, True, True, False]), torch.zeros(4, 2)), mentioned)
    assert float(accuracy.compute()) == 0.5


def test_frechet_distance_is_the_textbook_formula():
    rng = torch.Generator().manual_seed(0)
    a, b = torch.randn(500, 6, generator=rng), torch.randn(400, 6, generator=rng) @ torch.randn(6, 6, generator=rng) + 1
    first, second = np.cov(a.double().T), np.cov(b.double().T)
    values, vectors = np.linalg.eigh(first)
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    roots = np.sqrt(np.linalg.eigvalsh(root @ second @ root)).sum()
    means = a.double().mean(0).numpy() - b.double().mean(0).numpy()
    expected = means @ means + np.trace(first + second) - 2 * roots
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_diversity_is_the_mean_distance_of_pairs_within_a_caption():
    features = torch.tensor([[[0.0, 0.0], [3.0, 4.0]], [[1.0, 1.0], [1.0, 1.0]]])
    diversity = IntraCaptionDiversity()
    for some in features.split(1):
        diversity.update(some)
    assert float(diversity.compute()) == pytest.approx(2.5)


def test_a_scene_of_a_caption_has_what_the_caption_mentions():
    rng = np.random.default_rng(0)
    for caption in ("a small red dog on the left", "a cat on sand", "a ball"):
        assert all(w in (-1, v) for w, v in zip(mentioned_in(caption), scene_of(caption, rng), strict=True))


def test_captions_that_contradict_a_caption_can_not_be_true_with_it():
    captions = ["a red dog", "a dog", "a blue dog on sand", "a red dog on sand", "a cat", "a small dog at night"]
    rows = contradicting(captions, 3, seed=0)
    true_together = {0: {1, 3, 5}, 1: {0, 2, 3, 5}, 2: {1}, 3: {0, 1}, 4: set(), 5: {0, 1}}
    for i, row in enumerate(rows):
        assert i not in row and not true_together[i] & set(row.tolist())


class Cheat(ModulatedGenerator):
    """Draws real scenes of the captions it was given."""

    def __init__(self) -> None:
        super().__init__(GeneratorConfig(noise_dim=4, style_dim=4, width=4, max_channels=4), 64, 8)

    def forward(self, noise, text):
        rngs = [np.random.default_rng(abs(int(z * 1e6))) for z in noise[:, 0]]
        return as_images([draw_scene(filled(c, rng), 64, rng) for c, rng in zip(text.words, rngs, strict=True)])


def filled(caption: str, rng: np.random.Generator) -> Scene:
    """What the caption mentions, and anything else at random; of any split."""
    drawn = sample_scene(rng, "seen")
    return Scene(*(a if a >= 0 else b for a, b in zip(mentioned_in(caption), drawn, strict=True)))


class Captions(LSTMTextEncoder):
    def forward(self, captions):
        return super().forward(captions)._replace(words=captions)


@pytest.mark.slow
def test_real_scenes_score_as_real_and_noise_scores_nothing(classifier, tmp_path, monkeypatch):
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path))
    evaluator = SceneEvaluator(classifier, 64, num_images=256, joint=JointEncoder.load(STARTER_JOINT))
    text = Captions(LSTMConfig(dim=8, embedding_dim=4), Vocabulary(["dog"])).eval()
    real = evaluator(Cheat().eval(), text)
    assert real.scene_accuracy > 0.97 and 0.9 < real.diversity < 1.1
    assert real.frechet_distance < 2.5 * real.frechet_floor
    assert real.r_precision > 0.9 and abs(real.r_precision - real.r_precision_real) < 0.05
    noise = evaluator(build_generator(GeneratorConfig(noise_dim=4, width=4, max_channels=4), 64, 8).eval(), text)
    assert noise.r_precision < 0.1 and noise.scene_accuracy < 0.02
    assert noise.frechet_distance > 5 * real.frechet_distance


def test_missing_weights_of_the_scene_classifier_are_one_line(tmp_path):
    with pytest.raises(UserError, match="cgan judge"):
        load_scene_classifier(tmp_path / "judge.safetensors")


def test_the_table_of_the_scene_classifier_is_kept_beside_its_weights():
    from cgan.resources import SCENE_CLASSIFIER

    table = json.loads(SCENE_CLASSIFIER.with_suffix(".json").read_text())
    assert table["real: all attributes right and recognisable"] > 0.99


def test_chinese_captions_are_judged_by_what_they_say(classifier):
    """By the scene classifier as they are, by an English joint encoder in English."""
    captions = captions_of("seen", 64, 0, "zh")
    joint = JointEncoder.load(STARTER_JOINT)
    metric = contradicted_r_precision(JointNetwork(joint), captions, 0)
    assert joint.text.unknown_words(captions) and not joint.text.unknown_words(metric.captions)
    assert [mentioned_in(caption) for caption in metric.captions] == [mentioned_in(caption) for caption in captions]
    english = captions_of("seen", 64, 0)
    assert contradicted_r_precision(JointNetwork(joint), english, 0).captions == english
    evaluator = SceneEvaluator(classifier, 32, num_images=8, language="zh")
    assert all("\u4e00" <= caption[0] <= "\u9fff" for split in evaluator.captions.values() for caption in split)
    assert len(evaluator.captions["heldout"]) == 8 and evaluator.repeated[0] not in captions_of("seen", 8, 0)
