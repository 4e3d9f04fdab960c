"""How well generated scenes of several objects match their captions, according to a classifier of each level."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.wrappers.abstract import WrapperMetric

from cgan.data.scenes.attributes import Split
from cgan.data.scenes.dataset import Scenes
from cgan.data.scenes.levels import Language, level_of
from cgan.data.scenes.three_objects import Groups, mentioned_in_trio
from cgan.data.scenes.two_objects import Pair, mentioned_in_pair
from cgan.evaluation.loop import Pictures, device_of, measure, of_dataset, of_generator, real_features
from cgan.interfaces import TextEncoder, UserError
from cgan.metrics.features import GivenFeatures, SceneClassifierFeatures
from cgan.metrics.names import SCENE_FEATURES, values_of
from cgan.metrics.parts import PartAccuracy
from cgan.metrics.quality import PictureQuality
from cgan.metrics.scenes import SceneClassifier, load_scene_classifier
from cgan.metrics.three_objects import ThreeObjectAccuracy
from cgan.metrics.two_objects import TwoObjectAccuracy
from cgan.models.generators.base import Generator
from cgan.pixels import as_floats
from cgan.resources import PAIR_CLASSIFIER, TRIO_CLASSIFIER
from cgan.workers import Progress, silent

MultiLevel = Literal["two", "three"]  # the levels of several objects


class Judge(NamedTuple):
    """What judges the images of a level: the file of its classifier, what captions claim, and how both are compared."""

    classifier: Path
    claim: type[Pair | Groups]
    mentioned: Callable[[str], Pair | Groups]  # what a caption says
    accuracy: Callable[[], PartAccuracy]

    def names(self) -> list[str]:
        """Returns the names of the values that are measured, those of everything being right first."""
        parts = self.accuracy().parts
        names = [*parts, *(f"{part}_heldout" for part in parts)]
        return [*names, *values_of("fid", SCENE_FEATURES), *values_of("kid", SCENE_FEATURES)]


JUDGES: dict[str, Judge] = {
    "two": Judge(PAIR_CLASSIFIER, Pair, mentioned_in_pair, TwoObjectAccuracy),
    "three": Judge(TRIO_CLASSIFIER, Groups, mentioned_in_trio, ThreeObjectAccuracy),
}


class MultiObjectReading(WrapperMetric):
    """The accuracies of images, and their distances from real ones by features of the same classifier pass."""

    full_state_update = False

    def __init__(self, judge: Judge, classifier: SceneClassifier, quality: PictureQuality | None = None) -> None:
        super().__init__()
        self.judge, self.classifier, self.accuracy, self.quality = judge, classifier, judge.accuracy(), quality

    def update(self, images: Tensor, captions: list[str], ids: Tensor) -> None:
        """Adds images, uint8 (B, 3, H, W), with one caption each; B may be 0."""
        reading = self.classifier.read(as_floats(images))
        values = [self.judge.mentioned(caption) for caption in captions]
        num_values = len(self.judge.claim._fields)
        mentioned = torch.tensor(values, dtype=torch.int64, device=images.device).view(-1, num_values)
        self.accuracy.update(reading, mentioned)
        if self.quality is not None:
            self.quality.update(reading.features, ids)

    def compute(self) -> dict[str, Tensor]:
        """Returns the accuracies and, with `quality`, the distances, by name."""
        return self.accuracy.compute() | (self.quality.compute() if self.quality else {})

    def reset(self) -> None:
        """Forgets all images."""
        super().reset()
        self.accuracy.reset()
        if self.quality is not None:
            self.quality.reset()


class MultiObjectEvaluator:
    """evaluator(generator, text_encoder) -> values by its level's names; seed fixes captions, noise and real scenes.

    classifier: that of the level.
    """

    def __init__(
        self,
        level: MultiLevel,
        classifier: SceneClassifier,
        resolution: int,
        num_images: int = 2000,
        seed: int = 1234,
        truncation: float = 1.0,
        language: Language = "en",
    ) -> None:
        self.classifier, self.resolution, self.num_images, self.seed = classifier, resolution, num_images, seed
        self.truncation, self.level, self.judge = truncation, level_of(level, language), JUDGES[level]
        splits: tuple[Split, ...] = ("seen", "heldout")
        self.captions: dict[Split, list[str]] = {
            split: captions_of_several(level, split, num_images, seed, language) for split in splits
        }
        self.real: Tensor | None = None

    @torch.no_grad()
    def __call__(
        self, generator: Generator, text_encoder: TextEncoder, progress: Progress = silent
    ) -> dict[str, float]:
        """Evaluates a generator in evaluation mode; images are rounded to bytes first, as users get them."""
        pictures: dict[Split, Pictures] = {
            split: of_generator(generator, text_encoder, captions, self.seed, self.truncation)
            for split, captions in self.captions.items()
        }
        return self.measured(pictures, device_of(generator), progress)

    def of_real(self, device: torch.device, progress: Progress = silent) -> dict[str, float]:
        """Returns the values of real scenes with their own captions, other scenes than those of the distances."""
        pictures: dict[Split, Pictures] = {}
        for split in self.captions:
            scenes = Scenes(self.num_images, self.resolution, self.seed + 1, split, level=self.level)
            pictures[split] = of_dataset(scenes, captions=[scenes.captions_of(i)[0] for i in range(len(scenes))])
        return self.measured(pictures, device, progress)

    def measured(self, pictures: dict[Split, Pictures], device: torch.device, progress: Progress) -> dict[str, float]:
        """Returns the values of the images of both splits; names of held-out combinations end in _heldout."""
        values = {}
        for split, metric in self.metrics(device).items():
            found = measure(
                pictures[split], MetricCollection({"reading": metric}, compute_groups=False), device, progress
            )
            values |= found if split == "seen" else {f"{name}_heldout": value for name, value in found.items()}
        return values

    def metrics(self, device: torch.device) -> dict[Split, Metric]:
        """Returns the metric of each split; features of real scenes are computed once for all calls."""
        if self.real is None:
            scenes = of_dataset(Scenes(self.num_images, self.resolution, self.seed, level=self.level))
            self.real = real_features(SceneClassifierFeatures(self.classifier), scenes, device)
        given = GivenFeatures(self.classifier.config.feature_dim, SCENE_FEATURES)
        quality = PictureQuality(given, self.real, ("fid", "kid"))
        return {
            "seen": MultiObjectReading(self.judge, self.classifier, quality),
            "heldout": MultiObjectReading(self.judge, self.classifier),
        }


def captions_of_several(name: MultiLevel, split: Split, count: int, seed: int, language: Language = "en") -> list[str]:
    """Returns `count` captions of random scenes of several objects; the same seed gives the same captions."""
    rng, level = np.random.default_rng([seed, split == "heldout", 2]), level_of(name, language)
    return [level.describe(level.sample(rng, split), rng) for _ in range(count)]


def classifier_of(level: MultiLevel) -> SceneClassifier:
    """Returns the classifier of a level that comes with cgan; raises UserError if it is missing."""
    path = JUDGES[level].classifier
    if not path.is_file():
        hint = f"the classifier of scenes of {level} objects is not there; train it by `cgan judge --level {level}`"
        raise UserError(f"{path}: {hint}")
    return load_scene_classifier(path)
